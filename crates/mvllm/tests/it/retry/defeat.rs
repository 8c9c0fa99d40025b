//! What the client gets when no server has an answer.

use serde_json::json;

use crate::client::{Answer, Client, ask_json};
use crate::raw_server::RawServers;
use crate::router::Router;

use super::{BODY, CHAT, dead_address};

/// `/v1/messages` speaks Anthropic's language, everything else OpenAI's.
fn check_shape(path: &str, answer: &Answer, code: u16, anthropic_type: &str) {
    assert_eq!(answer.status(), code, "{}", answer.text());
    assert_eq!(answer.head.get("content-type"), Some("application/json"));
    let body = answer.json();
    assert!(body["error"]["message"].is_string(), "{body}");
    if path == "/v1/messages" {
        assert_eq!(body["type"], "error", "{body}");
        assert_eq!(body["error"]["type"], anthropic_type, "{body}");
    } else {
        assert_eq!(body["error"]["code"], code, "{body}");
        assert_eq!(body["error"]["type"], "http_error", "{body}");
    }
}

#[tokio::test]
async fn if_every_connection_breaks_the_client_gets_a_502() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1000").await;
    for path in [CHAT, "/v1/messages"] {
        let mut client = Client::connect(router.addr).await;
        client.post(path, BODY).await;
        servers.next().await.reset();
        servers.next().await.reset();
        check_shape(path, &client.answer().await, 502, "api_error");
    }
}

#[tokio::test]
async fn if_all_servers_are_known_to_be_out_the_client_gets_a_503_and_a_time_to_wait() {
    let router = Router::start(&[dead_address(), dead_address()], "").await;
    router.until("/health", "no healthy server", |report| report["healthy_servers"] == 0).await;
    for path in [CHAT, "/v1/messages"] {
        let answer = ask_json(router.addr, path, &json!({ "stream": true })).await;
        check_shape(path, &answer, 503, "overloaded_error");
        let wait: u64 = answer.head.get("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
}

#[tokio::test]
async fn without_any_servers_the_client_gets_a_503() {
    let router = Router::start(&[], "").await;
    let answer = ask_json(router.addr, CHAT, &json!({ "model": "m" })).await;
    check_shape(CHAT, &answer, 503, "");
    assert!(answer.head.get("retry-after").unwrap().parse::<u64>().is_ok());
}

#[tokio::test]
async fn if_all_servers_stay_silent_the_client_gets_a_504() {
    let mut servers = RawServers::start(2).await;
    let tuning = "request_timeout = 1\nfailure_threshold = 1000";
    let router = Router::before(&servers.addrs(), tuning).await;
    for path in [CHAT, "/v1/messages"] {
        let mut client = Client::connect(router.addr).await;
        client.post(path, BODY).await;
        let mut first = servers.next().await;
        let mut second = servers.next().await;
        assert_ne!(first.server, second.server);
        first.closed_by_the_router().await;
        second.closed_by_the_router().await;
        check_shape(path, &client.answer().await, 504, "timeout_error");
    }
}
