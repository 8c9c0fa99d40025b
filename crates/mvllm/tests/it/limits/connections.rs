//! How many clients there may be, how many requests, and for how long a client may do nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, ask, bare, post};
use crate::eventually::{PATIENCE, within_patience};
use crate::raw_server::{LAST_CHUNK, STREAM, chunk, json as json_answer};
use crate::router::{Router, configuration};

use super::start;

/// A client whose request is answered.
async fn served(router: &Router) -> Client {
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/livez")).await;
    assert_eq!(client.answer().await.status(), 200);
    client
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_and_is_served_when_another_ends() {
    // Which is what the router is looked at through by the tests, too: one at a time.
    let router = Router::start(&[], "max_connections = 2").await;
    let first = served(&router).await;
    let _second = served(&router).await;
    let mut third = Client::connect(router.addr).await;
    third.send(bare("GET", "/livez")).await;
    router.says("no more connections are accepted until").await;
    drop(first);
    assert_eq!(third.answer().await.status(), 200);
}

#[tokio::test]
async fn a_higher_limit_lets_those_in_who_wait() {
    let router = Router::start(&[], "max_connections = 1").await;
    let _first = served(&router).await;
    let mut second = Client::connect(router.addr).await;
    second.send(bare("GET", "/livez")).await;
    router.says("no more connections are accepted until").await;
    std::fs::write(router.config_path(), configuration(&[], "max_connections = 2")).unwrap();
    assert_eq!(second.answer().await.status(), 200);
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_in_the_dialect_of_its_path() {
    let (mut servers, router) = start("max_requests_in_flight = 1").await;
    let mut first = Client::connect(router.addr).await;
    first.post("/v1/completions", "{}").await;
    let exchange = servers.next().await;
    for (path, kind) in [("/v1/completions", "http_error"), ("/v1/messages", "overloaded_error")] {
        let answer = ask(router.addr, post(path, b"{}")).await;
        assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("1")));
        assert_eq!(answer.json()["error"]["type"], kind);
    }
    // An operator still sees why.
    router.counts("mvllm_refusals_total{reason=\"busy\"} 2").await;
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(first.answer().await.status(), 200);
    first.post("/v1/completions", "{}").await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(first.answer().await.status(), 200);
}

#[tokio::test]
async fn whoever_says_nothing_or_half_of_a_head_is_hung_up_on() {
    let router = Router::start(&[], "client_idle_timeout = 1").await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "GET /livez HTTP/1.1\r\nhost: r\r\n"] {
        let mut client = Client::connect(router.addr).await;
        client.send(beginning).await;
        assert_eq!(client.rest().await, b"", "{beginning:?}");
    }
    let mut idle = served(&router).await;
    assert_eq!(idle.rest().await, b"");
    router.counts("mvllm_client_connections_cut_total{reason=\"idle\"} 5").await;
}

/// Byte after byte, and never a whole head: to go on sending does not help.
#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_hung_up_on() {
    let router = Router::start(&[], "client_idle_timeout = 1").await;
    let mut client = Client::connect(router.addr).await;
    client.send("GET /livez HTTP/1.1\r\n").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let sends_on = async {
        while timeout(Duration::from_millis(1), client.rest()).await.is_err() {
            ticks.tick().await;
            client.send_more("x").await;
        }
    };
    timeout(PATIENCE, sends_on).await.expect("the router hangs up");
}

#[tokio::test]
async fn a_crowd_that_sends_halves_is_hung_up_on_and_others_are_served() {
    let tuning = "client_idle_timeout = 2\nclient_body_timeout = 2";
    let (mut servers, router) = start(tuning).await;
    let mut crowd = Vec::new();
    for nth in 0..300 {
        let whole = post("/v1/completions", br#"{"prompt":"x"}"#);
        let half = if nth % 2 == 0 { &whole[..20] } else { &whole[..whole.len() - 1] };
        let mut client = Client::connect(router.addr).await;
        client.send(half).await;
        crowd.push(client);
    }
    router.counts("mvllm_requests_under_way 150").await;
    let mut other = Client::connect(router.addr).await;
    other.post("/v1/completions", "{}").await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(other.answer().await.status(), 200);
    for (nth, mut client) in crowd.into_iter().enumerate() {
        let rest = String::from_utf8(client.rest().await).unwrap();
        let refused = rest.starts_with("HTTP/1.1 408 ");
        assert_eq!(refused, nth % 2 == 1, "{rest}");
    }
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_client_that_waits_for_its_answer_is_not_idle() {
    let (mut servers, router) = start("client_idle_timeout = 1").await;
    let mut waiting = Client::connect(router.addr).await;
    waiting.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    // Longer than somebody who is idle may stay.
    served(&router).await.rest().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: 1\n\n")).await;
    waiting.head().await;
    waiting.data().await;
    served(&router).await.rest().await;
    exchange.respond([chunk("data: [DONE]\n\n"), LAST_CHUNK.into()].concat()).await;
    assert_eq!(waiting.data().await, b"data: [DONE]\n\n");
}

#[tokio::test]
async fn an_idle_http_2_client_is_sent_away() {
    let (mut servers, router) = start("client_idle_timeout = 1").await;
    let stream = TcpStream::connect(router.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let url = format!("http://{}/v1/completions", router.addr);
    let request = http::Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let exchange = servers.next().await;
    served(&router).await.rest().await;
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(within_patience("an answer", answer).await.unwrap().unwrap().status(), 200);
    within_patience("the end of a connection", connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused_and_counted() {
    let (mut servers, router) = start("max_head_bytes = 10000").await;
    let with_header = |length: usize| {
        format!("GET /v1/files HTTP/1.1\r\nhost: r\r\nx: {}\r\n\r\n", "y".repeat(length))
    };
    let mut client = Client::connect(router.addr).await;
    client.send(with_header(9900)).await;
    assert_eq!(servers.next().await.head.get("x").unwrap().len(), 9900);
    assert_eq!(ask(router.addr, with_header(20_000)).await.status(), 431);
    let many: String = (0..101).map(|nth| format!("x-{nth}: y\r\n")).collect();
    let answer = ask(router.addr, format!("GET /v1/files HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(answer.status(), 431);
    router.counts("mvllm_client_connections_cut_total{reason=\"head_too_large\"} 2").await;
    assert!(servers.arrived().is_none());
}
