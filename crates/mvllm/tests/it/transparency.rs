//! What passes through the router passes unchanged: bodies, targets, header fields, methods.

mod bodies;
mod cors;
mod protocols;

use serde_json::json;

use crate::client::{Client, bare};
use crate::raw_server::{Answering, RawServers, json as json_answer};
use crate::router::Router;
use crate::wire::{End, Head};

async fn start() -> (RawServers, Router) {
    let servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "").await;
    (servers, router)
}

/// A server that says back what it is sent: the head as lines of text, or the body.
async fn echo() -> (Answering, Router) {
    let (servers, router) = start().await;
    let servers = servers.answer_all(|exchange| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            exchange.body.len()
        )
        .into_bytes();
        answer.extend(&exchange.body);
        answer
    });
    (servers, router)
}

/// Sends a request as it is; the request that arrives at the server.
async fn arrives(request: &str) -> (Head, Vec<u8>) {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send(request).await;
    let exchange = servers.next().await;
    let arrived = (exchange.head.clone(), exchange.body.clone());
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
    assert!(servers.arrived().is_none());
    arrived
}

#[tokio::test]
async fn targets_arrive_as_they_were_sent() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    for target in [
        "/v1/messages?beta=true",
        "/v1/files?a=1&a=2&b=%20%2F+&c",
        "/v1/models/org%2Fmodel%20name",
        "/v1/files/a;b=c,d/~x@y:z!$&'()*+",
        "/v1/files/file.../x",
        "/v1/responses/resp_1?stream=true&starting_after=3",
        "/v1/x/?",
        "/v9/unknown/of/the/future",
    ] {
        client.send(bare("GET", target)).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.head.request(), ("GET", target));
        exchange.respond(json_answer(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[tokio::test]
async fn the_path_of_a_servers_address_goes_in_front() {
    let mut servers = RawServers::start(1).await;
    let text = crate::router::configuration(&servers.addrs(), "enable_active_health_check = false");
    let text = text.replace("\", max", "/prefix/\", max");
    let router = Router::start_with(&text).await;
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/v1/files?x=1")).await;
    loop {
        let exchange = servers.next().await;
        let target = exchange.head.request().1.to_owned();
        exchange.respond(json_answer(200, "{}")).await;
        match target.as_str() {
            // The router's own questions go there, too.
            "/prefix/metrics" | "/prefix/v1/models" | "/prefix/health" => {}
            target => {
                assert_eq!(target, "/prefix/v1/files?x=1");
                break;
            }
        }
    }
}

#[tokio::test]
async fn header_fields_of_a_request_arrive_but_those_of_the_connection() {
    let (head, _) = arrives(
        "GET /v1/files HTTP/1.1\r\nHost: router\r\nAuthorization: Bearer k\r\nX-Api-Key: a\r\n\
         X-Twice: 1\r\nX-Twice: 2\r\nx-empty:\r\nAccept-Encoding: gzip, br\r\nCookie: a=b\r\n\
         anthropic-version: 2023-06-01\r\ntraceparent: 00-aa-bb-01\r\nX-Request-Id: r\r\n\
         Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
         TE: trailers\r\nProxy-Authorization: Basic x\r\nProxy-Connection: close\r\n\r\n",
    )
    .await;
    for (name, values) in [
        ("authorization", &["Bearer k"][..]),
        ("x-api-key", &["a"]),
        ("x-twice", &["1", "2"]),
        ("x-empty", &[""]),
        ("accept-encoding", &["gzip, br"]),
        ("cookie", &["a=b"]),
        ("anthropic-version", &["2023-06-01"]),
        ("traceparent", &["00-aa-bb-01"]),
        ("x-request-id", &["r"]),
    ] {
        assert_eq!(head.all(name), values, "{name}");
    }
    let hop_by_hop = [
        "connection",
        "x-private",
        "keep-alive",
        "te",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "content-length",
    ];
    for name in hop_by_hop {
        assert!(head.all(name).is_empty(), "{name} has travelled on: {head:?}");
    }
    assert!(head.get("host").unwrap().starts_with("127.0.0.1:"), "{head:?}");
}

#[tokio::test]
async fn header_fields_of_an_answer_arrive_but_those_of_the_connection() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/v1/files")).await;
    let answer = "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2; Path=/\r\nserver: uvicorn\r\n\
                  x-request-id: r\r\ncontent-type: text/x-odd; q=\"a,b\"\r\nvary: Accept\r\n\
                  connection: keep-alive, x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\n\
                  proxy-authenticate: Basic\r\ncontent-length: 3\r\n\r\nabc";
    servers.next().await.respond(answer).await;
    let answer = client.answer().await;
    let head = &answer.head;
    assert_eq!(head.all("set-cookie"), ["a=1", "b=2; Path=/"]);
    assert_eq!(head.get("server"), Some("uvicorn"));
    assert_eq!(head.get("x-request-id"), Some("r"));
    assert_eq!(head.get("content-type"), Some("text/x-odd; q=\"a,b\""));
    assert_eq!(head.get("vary"), Some("Accept"));
    assert_eq!(head.get("content-length"), Some("3"));
    for name in ["connection", "x-private", "keep-alive", "proxy-authenticate"] {
        assert!(head.all(name).is_empty(), "{name} has travelled on: {head:?}");
    }
}

#[tokio::test]
async fn every_method_reaches_the_server_with_its_body() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    for method in ["PUT", "DELETE", "PATCH", "POST", "OPTIONS", "GET"] {
        let request =
            format!("{method} /v1/files/1 HTTP/1.1\r\nhost: r\r\ncontent-length: 4\r\n\r\nbody");
        client.send(request).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.head.request(), (method, "/v1/files/1"));
        assert_eq!(exchange.body, b"body", "{method}");
        exchange.respond(json_answer(200, r#"{"ok":1}"#)).await;
        assert_eq!(client.answer().await.json(), json!({ "ok": 1 }));
    }
}

#[tokio::test]
async fn the_answer_to_a_head_request_keeps_its_length_and_has_no_body() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    for _ in 0..2 {
        client.send(bare("HEAD", "/v1/files/1")).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.head.request().0, "HEAD");
        exchange.respond("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nx-a: b\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.head.get("content-length"), Some("1234"));
        assert_eq!(answer.head.get("x-a"), Some("b"));
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_order() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    for status in [204, 304, 204] {
        client.send(bare("GET", "/v1/files/1")).await;
        servers.next().await.respond(format!("HTTP/1.1 {status} X\r\nx-a: b\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("x-a")), (status, Some("b")));
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_touched() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/v1/files")).await;
    let body = b"\x1f\x8b\x08\x00\x00\xff not really gzip, and nobody is to find out";
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    servers.next().await.respond(answer).await;
    let answer = client.answer().await;
    assert_eq!(answer.head.get("content-encoding"), Some("gzip"));
    assert_eq!((answer.body.as_slice(), answer.end), (&body[..], End::Proper));
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_passes_whole() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/v1/files")).await;
    let mut exchange = servers.next().await;
    exchange.send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nas of old").await;
    exchange.close();
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.end), ("as of old", End::Proper));
}
