//! Browsers on other origins.

use crate::client::{Client, ask};
use crate::raw_server::{STREAM, chunk, json as json_answer};

use super::start;

#[tokio::test]
async fn a_browsers_preflight_is_answered_without_asking_a_server() {
    let (mut servers, router) = start().await;
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: r\r\norigin: http://page\r\n\
                     access-control-request-method: POST\r\n\
                     access-control-request-headers: authorization,content-type\r\n\r\n";
    let answer = ask(router.addr, preflight).await;
    assert_eq!(answer.status(), 200);
    let header = |name| answer.head.get(name);
    assert_eq!(header("access-control-allow-origin"), Some("*"));
    assert_eq!(header("access-control-allow-headers"), Some("authorization,content-type"));
    assert!(header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(header("access-control-allow-credentials"), None);
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn answers_and_streams_to_a_browser_carry_the_permission() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    let request = "GET /v1/files HTTP/1.1\r\nhost: r\r\norigin: http://page\r\n\r\n";
    client.send(request).await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.head.get("access-control-allow-origin"), Some("*"));
    client.send(request).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: x\n\n")).await;
    assert_eq!(client.head().await.get("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn refusals_carry_the_permission_too() {
    let (_servers, router) = start().await;
    for path in ["/health", "/sleep"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: r\r\norigin: http://page\r\n\r\n");
        let answer = ask(router.addr, request).await;
        assert_eq!(answer.head.get("access-control-allow-origin"), Some("*"), "{path}");
    }
}

#[tokio::test]
async fn who_is_no_browser_gets_no_such_header() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send(crate::client::bare("GET", "/v1/files")).await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.head.all("access-control-allow-origin"), [""; 0]);
}
