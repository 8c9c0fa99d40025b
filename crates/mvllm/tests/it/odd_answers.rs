//! Answers that a server behind other proxies may give, and that are easily got wrong.

use crate::client::{Client, bare};
use crate::raw_server::{Exchange, LAST_CHUNK, RawServers, STREAM, chunk, json as json_answer};
use crate::router::Router;
use crate::wire::End;

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","stream":true}"#;

async fn asked(tuning: &str) -> (RawServers, Router, Client, Exchange) {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), tuning).await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    let exchange = servers.next().await;
    (servers, router, client, exchange)
}

/// RFC 9110, section 15.2: an interim answer is followed by the answer.
#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let (_servers, _router, mut client, mut exchange) = asked("").await;
    exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    exchange.send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
    exchange.respond(json_answer(200, r#"{"ok":1}"#)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"ok":1}"#));
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_a_failure() {
    let (_servers, router, mut client, mut exchange) = asked("").await;
    exchange
        .send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 502);
    router.idle().await;
}

#[tokio::test]
async fn a_refused_change_of_protocol_is_an_answer_like_any_other() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    for _ in 0..2 {
        client.send("GET /v1/realtime HTTP/1.1\r\nhost: r\r\nconnection: upgrade\r\n").await;
        client.send_more("upgrade: websocket\r\n\r\n").await;
        servers.next().await.respond(json_answer(403, r#"{"no":1}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (403, r#"{"no":1}"#));
    }
}

/// RFC 9112, section 6.3: the coding overrides the length, which a proxy must not pass on.
#[tokio::test]
async fn a_length_beside_chunks_does_not_cut_the_answer() {
    for kind in ["application/json", "text/event-stream"] {
        let (_servers, _router, mut client, mut exchange) = asked("").await;
        exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n")).await;
        exchange.send("content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let text = "data: {\"x\":1}\n\ndata: [DONE]\n\n";
        exchange.respond([chunk(text), LAST_CHUNK.into()].concat()).await;
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.end), (text, End::Proper), "{kind}");
    }
}

#[tokio::test]
async fn what_is_no_head_of_an_answer_is_a_bad_gateway_and_harms_nobody() {
    let heads = [
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\n: nameless\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)),
        "x: y\r\n".repeat(10_000),
    ];
    for head in heads {
        let (mut servers, router, mut client, exchange) = asked("").await;
        exchange.respond(&head).await;
        assert_eq!(client.answer().await.status(), 502, "{:.40}", head);
        client.post(CHAT, BODY).await;
        servers.next().await.respond(json_answer(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200, "{:.40}", head);
        router
            .counts(&format!(
                "mvllm_attempts_failed_total{{server=\"http://{}\",cause=\"malformed\"}} 1",
                servers.addrs()[0]
            ))
            .await;
    }
}

#[tokio::test]
async fn two_lengths_that_differ_are_no_answer() {
    let (_servers, _router, mut client, mut exchange) = asked("").await;
    exchange.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\n{}abc").await;
    assert_eq!(client.answer().await.status(), 502);
}

#[tokio::test]
async fn a_stream_of_known_length_that_is_cut_near_its_end_does_not_end_properly() {
    let begun = "data: {\"choices\":[]}\n\n";
    for missing in [1, 20, 100, 1000] {
        let (_servers, _router, mut client, mut exchange) = asked("").await;
        let length = begun.len() + missing;
        exchange.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n")).await;
        exchange.send("content-type: text/event-stream\r\n\r\n").await;
        exchange.send(begun).await;
        exchange.close();
        let answer = client.answer().await;
        assert_eq!(answer.end, End::Broken, "{missing} missing: {}", answer.text());
        assert!(answer.text().ends_with("\n\n"), "half an event: {}", answer.text());
    }
}

#[tokio::test]
async fn a_whole_stream_of_known_length_ends_properly() {
    let (_servers, _router, mut client, mut exchange) = asked("").await;
    let text = "data: {\"choices\":[]}\n\ndata: [DONE]\n\n";
    exchange.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n").await;
    exchange.respond(format!("content-length: {}\r\n\r\n{text}", text.len())).await;
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.end), (text, End::Proper));
}

/// A proxy in front of the server may compress; then the events cannot be read, only passed on.
#[tokio::test]
async fn a_compressed_event_stream_passes_and_blames_nobody() {
    let (servers, router, mut client, mut exchange) = asked("failure_threshold = 1").await;
    exchange.send(STREAM.replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n")).await;
    exchange.send(chunk([0x1f, 0x8b, 8, 0, 0])).await;
    let head = client.head().await;
    assert_eq!(client.data().await, [0x1f, 0x8b, 8, 0, 0]);
    exchange.respond([chunk([1, 2, 3]), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.body(&head).await, (vec![1, 2, 3], End::Proper));
    assert_eq!(router.health_of(servers.addrs()[0]).await["health_status"], "healthy");
}

#[tokio::test]
async fn header_values_that_are_no_ascii_pass() {
    let (_servers, _router, mut client, exchange) = asked("").await;
    let answer = "HTTP/1.1 200 OK\r\nx-name: \u{1f980}é\r\ncontent-length: 0\r\n\r\n";
    exchange.respond(answer).await;
    assert_eq!(client.answer().await.head.get("x-name"), Some("\u{1f980}é"));
}

#[tokio::test]
async fn a_redirection_is_the_clients_affair() {
    let (_servers, _router, mut client, exchange) = asked("").await;
    exchange.respond("HTTP/1.1 307 X\r\nlocation: /v1/x\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.head.get("location")), (307, Some("/v1/x")));
}

/// RFC 9112, section 2.3: an intermediary speaks its own version, whatever the server's is. In
/// HTTP/1.0 the client could not tell a cut stream from one that ended.
#[tokio::test]
async fn a_server_that_speaks_http_1_0_does_not_make_the_router_speak_it() {
    let (mut servers, _router, mut client, mut exchange) = asked("").await;
    for _ in 0..2 {
        exchange.send("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nold").await;
        exchange.close();
        let answer = client.answer().await;
        assert!(answer.head.first_line.starts_with("HTTP/1.1 200"), "{}", answer.head.first_line);
        assert_eq!((answer.text().as_str(), answer.end), ("old", End::Proper));
        client.send(bare("GET", "/v1/files")).await;
        exchange = servers.next().await;
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_not_taken_for_the_next_one() {
    let (mut servers, _router, mut client, mut exchange) = asked("failure_threshold = 1000").await;
    let stray = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray";
    exchange.send([json_answer(200, "{}"), stray.into()].concat()).await;
    assert_eq!(client.answer().await.text(), "{}");
    client.post(CHAT, BODY).await;
    let next = servers.next().await;
    assert!(next.connection > exchange.connection, "a spoilt connection is used again");
    next.respond(json_answer(200, r#"{"own":1}"#)).await;
    assert_eq!(client.answer().await.text(), r#"{"own":1}"#);
}
