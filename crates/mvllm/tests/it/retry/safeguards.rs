//! What keeps retries from doing harm: the budget, the two deaths, and whom a full server sends to
//! whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::client::{Client, ask_json};
use crate::raw_server::{Answering, RawServers, json};
use crate::router::Router;

use super::{BODY, CHAT};

/// Servers that answer every request so, and how many requests that were.
async fn always(count: usize, response: Vec<u8>) -> (Answering, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::default());
    let counter = Arc::clone(&asked);
    let servers = RawServers::start(count).await.answer_all(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        response.clone()
    });
    (servers, asked)
}

#[tokio::test]
async fn a_fleet_that_fails_everything_is_not_buried_in_retries() {
    const REQUESTS: u64 = 400;
    let (servers, asked) = always(4, json(500, "{}")).await;
    let router = Router::before(&servers.addrs, "failure_threshold = 1000000").await;
    let begun = Instant::now();
    let mut client = Client::connect(router.addr).await;
    for _ in 0..REQUESTS {
        client.post(CHAT, BODY).await;
        assert_eq!(client.answer().await.status(), 500);
    }
    let windows = 1 + begun.elapsed().as_secs() / 10;
    let retries = asked.load(Ordering::Relaxed) - REQUESTS;
    assert!(retries >= 30, "only {retries} retries");
    assert!(
        retries <= 30 * (windows + 1) + REQUESTS / 10,
        "{retries} retries in {windows} windows"
    );
    let metrics = router.get("/metrics").await.text();
    let denied = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mvllm_retries_denied_total{reason=\"budget_spent\"} "));
    assert!(denied.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
}

#[tokio::test]
async fn a_spent_budget_does_not_keep_a_request_from_leaving_a_dead_server() {
    let mut servers = RawServers::start(2).await;
    let tuning = "failure_threshold = 1000000\nretry_budget = 0.0";
    let router = Router::before(&servers.addrs(), tuning).await;
    for _ in 0..60 {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        servers.next().await.reset();
        servers.next().await.respond(json(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[tokio::test]
async fn a_request_that_brings_servers_down_brings_down_two_and_no_more() {
    let mut servers = RawServers::start(5).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1000000").await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    servers.next().await.reset();
    servers.next().await.close();
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.head.get("x-should-retry")), (502, Some("false")));
    assert!(answer.text().contains("went down"), "{}", answer.text());
    assert!(servers.arrived().is_none());

    // Whoever asks again gets an answer and no server gets the request.
    let again = crate::client::ask(router.addr, crate::client::post(CHAT, BODY.as_bytes())).await;
    assert_eq!(again.status(), 422, "{}", again.text());
    assert!(servers.arrived().is_none());

    // Any other request passes.
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", BODY).await;
    servers.next().await.respond(json(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn a_request_that_somebody_answers_is_quarantined_no_longer() {
    let mut servers = RawServers::start(3).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1000000").await;
    let mut lucky = Client::connect(router.addr).await;
    lucky.post(CHAT, BODY).await;
    let waits = servers.next().await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    servers.next().await.reset();
    servers.next().await.reset();
    assert_eq!(client.answer().await.status(), 502);
    waits.respond(json(200, "{}")).await;
    assert_eq!(lucky.answer().await.status(), 200);
    client.post(CHAT, BODY).await;
    servers.next().await.respond(json(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn quarantine_can_be_turned_off() {
    let mut servers = RawServers::start(2).await;
    let tuning = "failure_threshold = 1000000\npoison_quarantine = 0";
    let router = Router::before(&servers.addrs(), tuning).await;
    for _ in 0..2 {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        servers.next().await.reset();
        servers.next().await.reset();
        assert_eq!(client.answer().await.status(), 502);
    }
}

fn full(retry_after: &str) -> String {
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: {retry_after}\r\ncontent-length: 2\r\n\r\n{{}}"
    )
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is_left_alone() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    let first = servers.next().await;
    let (busy, other) = (first.server, 1 - first.server);
    first.respond(full("50")).await;
    servers.next().await.respond(json(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
    for _ in 0..20 {
        client.post(CHAT, BODY).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.server, other, "server {busy} was asked too early");
        exchange.respond(json(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[tokio::test]
async fn clients_are_told_to_wait_for_whole_seconds_and_not_for_years() {
    for (said, told) in [
        ("7", "7"),
        ("1000000000", "60"),
        ("Fri, 31 Dec 2199 23:59:59 GMT", "60"),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "0"),
    ] {
        let mut servers = RawServers::start(1).await;
        let router = Router::before(&servers.addrs(), "").await;
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        servers.next().await.respond(full(said)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("retry-after")), (429, Some(told)));
        // To wait and to come again is what it asks for.
        assert_eq!(answer.head.get("x-should-retry"), None);
    }
}

#[tokio::test]
async fn an_sdk_is_told_not_to_repeat_what_servers_have_worked_on_in_vain() {
    let (servers, _) = always(2, json(500, r#"{"own":"words"}"#)).await;
    let router = Router::before(&servers.addrs, "failure_threshold = 1000000").await;
    let answer = ask_json(router.addr, CHAT, &json!({})).await;
    assert_eq!((answer.status(), answer.head.get("x-should-retry")), (500, Some("false")));
    assert_eq!(answer.json(), json!({ "own": "words" }));
    // Where nobody could be reached, nothing was done in vain.
    let router = Router::start(&[super::dead_address()], "").await;
    let answer = ask_json(router.addr, CHAT, &json!({})).await;
    assert_eq!(answer.head.get("x-should-retry"), None);
}
