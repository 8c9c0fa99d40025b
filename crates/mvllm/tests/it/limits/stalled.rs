//! Clients that take nothing of what waits for them.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::eventually::within_patience;
use crate::raw_server::{Exchange, LAST_CHUNK, STREAM, chunk, json as json_answer};
use crate::router::Router;

use super::start;

const STALLED: &str = "mvllm_client_connections_cut_total{reason=\"stalled\"} 1";

fn event(length: usize) -> Vec<u8> {
    chunk(format!("data: {}\n\n", "y".repeat(length)))
}

/// Writes until the router hangs up.
async fn write_until_cut(exchange: &mut Exchange) {
    let bytes = event(60_000);
    within_patience("the router hanging up", async {
        while exchange.socket().write_all(&bytes).await.is_ok() {}
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_its_server_told_to_stop() {
    let (mut servers, router) = start("client_stall_timeout = 1").await;
    let mut client = Client::connect_with_small_buffer(router.addr).await;
    client.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(event(10)).await;
    client.head().await;
    write_until_cut(&mut exchange).await;
    router.idle().await;
    router.counts("mvllm_requests_under_way 0").await;
    router.counts(STALLED).await;
    // The server is not to blame.
    let health = router.health_of(servers.addrs()[0]).await;
    assert_eq!((&health["healthy"], &health["consecutive_failures"]), (&true.into(), &0.into()));
}

#[tokio::test]
async fn a_client_that_waits_for_a_server_is_not_stalled() {
    let (mut servers, router) = start("client_stall_timeout = 1\nclient_idle_timeout = 1").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(event(10)).await;
    client.head().await;
    client.data().await;
    // Twice as long as it may stall.
    for _ in 0..2 {
        Client::connect(router.addr).await.rest().await;
    }
    exchange.respond([chunk("data: [DONE]\n\n"), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, b"data: [DONE]\n\n");
}

async fn http_2(router: &Router) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(router.addr).await.unwrap();
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, router: &Router) -> http::Response<Incoming> {
    let request = http::Request::post(format!("http://{}/v1/completions", router.addr))
        .body(Full::new(Bytes::from_static(br#"{"stream":true}"#)))
        .unwrap();
    within_patience("an answer", sender.send_request(request)).await.unwrap()
}

/// One stream of several on a connection, whose other streams go on.
#[tokio::test]
async fn an_http_2_stream_of_which_nothing_is_taken_is_given_up_alone() {
    let (mut servers, router) = start("client_stall_timeout = 1").await;
    let mut sender = http_2(&router).await;
    let (answer, mut exchange) = tokio::join!(ask(&mut sender, &router), async {
        let mut exchange = servers.next().await;
        exchange.send(STREAM).await;
        exchange.send(event(10)).await;
        exchange
    });
    write_until_cut(&mut exchange).await;
    router.idle().await;
    router.counts(STALLED).await;
    let (other, ()) = tokio::join!(ask(&mut sender, &router), async {
        servers.next().await.respond(json_answer(200, "{}")).await;
    });
    assert_eq!(other.status(), 200);
    let rest = within_patience("the end of a stream", answer.into_body().collect()).await;
    assert!(rest.is_err(), "a stream that was given up does not end well");
}
