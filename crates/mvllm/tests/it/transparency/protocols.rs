//! Clients that speak, or offer to speak, something else than HTTP/1.1.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::eventually::within_patience;
use crate::raw_server::{LAST_CHUNK, STREAM, chunk, json as json_answer};
use crate::router::Router;
use crate::sims::sim;

use super::{arrives, start};

/// Java's `HttpClient` makes this offer on every plain connection.
#[tokio::test]
async fn an_offer_of_h2c_is_declined_and_the_body_arrives() {
    let (head, body) = arrives(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 13\r\n\
         connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
         http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\r\n{\"model\":\"m\"}",
    )
    .await;
    assert_eq!(body, br#"{"model":"m"}"#);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert!(head.all(name).is_empty(), "{head:?}");
    }
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_spoken() {
    let (mut servers, router) = start().await;
    let stream = TcpStream::connect(router.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/v1/completions?q=1", router.addr);
    let ask = |body: &'static str| {
        let request = http::Request::post(&url).header("cookie", "a=1").header("cookie", "b=2");
        request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
    };
    // Two at once, on one connection, answered in the other order.
    let first = sender.send_request(ask(r#"{"model":"m","n":1}"#));
    let second = sender.send_request(ask(r#"{"model":"m","n":2}"#));
    let answers = tokio::spawn(async move { tokio::join!(first, second) });
    let (a, b) = (servers.next().await, servers.next().await);
    for exchange in [&a, &b] {
        assert_eq!(exchange.head.request(), ("POST", "/v1/completions?q=1"));
        assert!(exchange.head.first_line.ends_with("HTTP/1.1"));
        assert_eq!(exchange.head.get("cookie"), Some("a=1; b=2"));
        assert!(exchange.head.get("host").is_some());
    }
    for mut exchange in [b, a] {
        exchange.send(STREAM).await;
        let event = format!("data: {}\n\ndata: [DONE]\n\n", exchange.body.len());
        exchange.respond([chunk(event), LAST_CHUNK.into()].concat()).await;
    }
    let (first, second) = within_patience("two answers", answers).await.unwrap();
    for answer in [first.unwrap(), second.unwrap()] {
        assert_eq!(answer.version(), http::Version::HTTP_2);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"data: 19\n\ndata: [DONE]\n\n");
    }
}

#[tokio::test]
async fn a_client_that_resets_its_http_2_stream_ends_the_request() {
    let (mut servers, router) = start().await;
    let stream = TcpStream::connect(router.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/v1/completions", router.addr);
    let request = http::Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
    let waiting = tokio::spawn(sender.send_request(request));
    let mut exchange = servers.next().await;
    waiting.abort();
    exchange.closed_by_the_router().await;
    router.idle().await;
}

#[tokio::test]
async fn clients_of_http_1_0_get_an_answer_that_ends_with_the_connection() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send("GET /v1/files HTTP/1.0\r\n\r\n").await;
    servers.next().await.respond(json_answer(200, r#"{"ok":1}"#)).await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.starts_with("HTTP/1.0 200") && rest.ends_with(r#"{"ok":1}"#), "{rest}");
}

#[tokio::test]
async fn a_websocket_passes_both_ways_and_holds_its_place() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "").await;
    let mut client = Client::connect(router.addr).await;
    client.send("GET /v1/realtime?model=sim HTTP/1.1\r\nhost: r\r\nconnection: Upgrade\r\n").await;
    client.send_more("upgrade: websocket\r\nsec-websocket-version: 13\r\n").await;
    client.send_more("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    // The example of RFC 6455, section 1.3.
    assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(head.get("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
    for text in ["hello", "again"] {
        client.send_more(masked(text)).await;
        assert_eq!(client.exactly(2 + text.len()).await, plain(text));
    }
    assert_eq!(router.load_of(sim.addr()).await["current_load"], 1);
    drop(client);
    router.idle().await;
}

/// A text frame of a client, masked with zeros (RFC 6455, section 5.2).
fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text.as_bytes());
    frame
}

/// The same of a server.
fn plain(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
    frame.extend(text.as_bytes());
    frame
}
