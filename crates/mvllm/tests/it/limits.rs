//! What is refused: too large, closed, ambiguous, or smuggled.

mod bodies;
mod connections;
mod files;
mod http2;
mod smuggling;
mod stalled;

use serde_json::json;

use crate::client::{Client, ask, ask_json, bare, post};
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::Router;

async fn start(tuning: &str) -> (RawServers, Router) {
    let servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), tuning).await;
    (servers, router)
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let (mut servers, router) = start("max_body_bytes = 1000").await;
    for (path, kind) in [("/v1/completions", "http_error"), ("/v1/messages", "request_too_large")] {
        let mut client = Client::connect(router.addr).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: r\r\ncontent-length: 1001\r\n\r\n");
        client.send(head).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.json()["error"]["type"], kind);
    }
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_client_that_waits_to_send_too_much_is_told_not_to() {
    let (mut servers, router) = start("max_body_bytes = 1000").await;
    let mut client = Client::connect(router.addr).await;
    client.send("POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 5000000\r\n").await;
    client.send_more("expect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 413);
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_when_it_gets_there() {
    let (mut servers, router) = start("max_body_bytes = 1000").await;
    let mut client = Client::connect(router.addr).await;
    client
        .send("POST /v1/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..11 {
        client.send_more(crate::raw_server::chunk([b' '; 100])).await;
    }
    let answer = client.answer().await;
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.json()["error"]["code"], 413);
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_body_of_just_the_limit_passes() {
    let (mut servers, router) = start("max_body_bytes = 1000").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", [b' '; 1000]).await;
    assert_eq!(servers.next().await.body.len(), 1000);
}

#[tokio::test]
async fn control_paths_are_closed_and_say_how_to_open_them() {
    let (mut servers, router) = start("").await;
    for path in [
        "/sleep",
        "/wake_up",
        "/reset_prefix_cache",
        "/collective_rpc",
        "/load",
        "/server_info",
        "/pause",
        "/sim/fault",
    ] {
        let answer = ask_json(router.addr, path, &json!({})).await;
        assert_eq!(answer.status(), 404, "{path}");
        let message = answer.json()["error"]["message"].clone();
        assert!(message.as_str().unwrap().contains("open_paths"), "{message}");
    }
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn an_opened_path_passes_and_is_never_repeated() {
    let (mut servers, router) = start("open_paths = [\"/sleep\", \"/lora/*\"]").await;
    let mut client = Client::connect(router.addr).await;
    for path in ["/sleep?level=1", "/lora/x"] {
        client.post(path, "{}").await;
        let exchange = servers.next().await;
        assert_eq!(exchange.head.request(), ("POST", path));
        exchange.respond(json_answer(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    client.post("/sleep/x", "{}").await;
    assert_eq!(client.answer().await.status(), 404);
}

#[tokio::test]
async fn paths_that_a_server_may_read_otherwise_are_refused() {
    let (mut servers, router) = start("").await;
    for path in [
        "/v1/../sleep",
        "/v1/%2e%2e/sleep",
        "/v1/.%2E/sleep",
        "/v1/./x",
        "//sleep",
        "/v1//chat/completions",
        "/v1/x/..",
        "/v1/..%2fsleep",
        "/v1/x%2F..%2F..%2fsleep",
        "/v1/..%5csleep",
    ] {
        let mut client = Client::connect(router.addr).await;
        client.send(bare("GET", path)).await;
        let status = tokio::select! {
            answer = client.answer() => answer.status(),
            exchange = servers.next() => panic!("{path} was sent on: {:?}", exchange.head),
        };
        assert_eq!(status, 400, "{path}");
    }
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_target_with_a_host_is_taken_for_the_router_not_for_that_host() {
    let (mut servers, router) = start("").await;
    let mut elsewhere = RawServers::start(1).await;
    let foreign = elsewhere.addrs()[0];
    let mut client = Client::connect(router.addr).await;
    let request = format!("GET http://{foreign}/v1/files?x=1 HTTP/1.1\r\nhost: {foreign}\r\n\r\n");
    client.send(request).await;
    let exchange = servers.next().await;
    assert_eq!(exchange.head.request(), ("GET", "/v1/files?x=1"));
    assert_eq!(exchange.head.get("host"), Some(servers.addrs()[0].to_string().as_str()));
    assert!(elsewhere.arrived().is_none());
}

#[tokio::test]
async fn connect_is_no_way_out() {
    let (mut servers, router) = start("").await;
    let foreign = servers.addrs()[0];
    let connect = format!("CONNECT {foreign} HTTP/1.1\r\nhost: {foreign}\r\n\r\n");
    let answer = ask(router.addr, connect).await;
    assert!((400..500).contains(&answer.status()), "{}", answer.status());
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused_and_harms_nobody() {
    let (mut servers, router) = start("").await;
    let mut client = Client::connect(router.addr).await;
    client.send(format!("GET /v1/files HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1_000_000))).await;
    let status = client.try_head().await.map(|head| head.status());
    assert!(matches!(status, None | Some(431 | 400)), "{status:?}");
    assert!(servers.arrived().is_none());
    let mut other = Client::connect(router.addr).await;
    other.send(post("/v1/completions", b"{}")).await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(other.answer().await.status(), 200);
}
