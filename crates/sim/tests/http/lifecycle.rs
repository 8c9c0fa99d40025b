use std::time::Duration;

use mvllm_sim::{Outcome, SimConfig, SimServer};

use crate::client::{Client, get, post};
use crate::{chat, server, until, with};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_client_that_leaves_takes_its_stream_along() {
    let server = server();
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &with(chat(8000), "stream", true)).await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    assert_eq!(server.stats().running, 1);
    drop(client);
    until(&server, |stats| stats.running == 0 && stats.aborted == 1).await;
    assert_eq!(server.log()[0].outcome, Outcome::Aborted);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_takes_its_request_along() {
    let server = server();
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &chat(8000)).await;
    until(&server, |stats| stats.running == 1).await;
    drop(client);
    until(&server, |stats| stats.running == 0 && stats.aborted == 1).await;
}

#[tokio::test]
async fn the_head_of_a_stream_comes_while_the_request_still_waits() {
    let mut config = SimConfig::fast();
    config.engine.max_num_seqs = 1;
    let server = SimServer::start_on_free_port(config).unwrap();
    let mut first = Client::connect(server.addr()).await;
    first.post(CHAT, &with(chat(8000), "stream", true)).await;
    until(&server, |stats| stats.running == 1).await;
    let mut second = Client::connect(server.addr()).await;
    second.post(CHAT, &with(chat(1), "stream", true)).await;
    assert_eq!(second.head().await.unwrap().status, 200);
    assert_eq!(server.stats().waiting, 1);
    drop(first);
    assert!(second.chunk().await.unwrap().contains("\"role\":\"assistant\""));
}

#[tokio::test]
async fn a_full_queue_is_refused_in_vllms_words() {
    let config = SimConfig { max_num_queued_reqs: Some(1), ..SimConfig::fast() };
    let server = SimServer::start_on_free_port(config).unwrap();
    let mut first = Client::connect(server.addr()).await;
    first.post(CHAT, &with(chat(8000), "stream", true)).await;
    first.head().await.unwrap();
    let refused = post(server.addr(), CHAT, &chat(1)).await;
    assert_eq!(refused.head.status, 503);
    assert_eq!(refused.head.field("retry-after"), None);
    let error = refused.json()["error"].clone();
    assert_eq!(error["type"], "Service Unavailable");
    assert!(error["message"].as_str().unwrap().starts_with("The engine is currently busy"));
    let metrics = get(server.addr(), "/metrics").await.body;
    assert!(metrics.contains("reason=\"max_num_queued_reqs\"} 1.0"));
}

#[tokio::test]
async fn a_connection_serves_several_requests_and_is_closed_when_idle() {
    let config = SimConfig { keep_alive: Duration::from_millis(50), ..SimConfig::fast() };
    let server = SimServer::start_on_free_port(config).unwrap();
    let mut client = Client::connect(server.addr()).await;
    for _ in 0..2 {
        client.post(CHAT, &chat(1)).await;
        assert_eq!(client.answer().await.unwrap().head.status, 200);
    }
    client.closed().await.unwrap();
}

#[tokio::test]
async fn a_request_may_take_longer_than_the_keep_alive_time() {
    let config = SimConfig { keep_alive: Duration::from_millis(20), ..SimConfig::fast() };
    let server = SimServer::start_on_free_port(config).unwrap();
    assert_eq!(post(server.addr(), CHAT, &chat(100)).await.head.status, 200);
}

#[tokio::test]
async fn a_killed_server_breaks_its_streams_and_frees_its_port() {
    let server = server();
    let addr = server.addr();
    let mut client = Client::connect(addr).await;
    client.post(CHAT, &with(chat(8000), "stream", true)).await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    server.shutdown().await;
    while let Ok(chunk) = client.chunk().await {
        assert_ne!(chunk, "", "the stream does not end properly");
    }
    let again = SimServer::start(SimConfig::fast(), std::net::TcpListener::bind(addr).unwrap());
    assert_eq!(get(again.unwrap().addr(), "/health").await.head.status, 200);
}

#[tokio::test]
async fn the_log_shows_each_request_as_it_was_sent() {
    let server = server();
    let mut client = Client::connect(server.addr()).await;
    let head = "POST /v1/completions?x=%20y HTTP/1.1\r\nContent-Type: application/json\r\nX-Odd: a\r\nX-Odd: b";
    let body = br#"{"prompt":"hi",  "max_tokens":1}"#;
    client.send(head, body).await;
    client.answer().await.unwrap();
    until(&server, |stats| stats.finished == 1).await;
    let entry = server.log().remove(0);
    assert_eq!(entry.target, "/v1/completions?x=%20y");
    assert_eq!(entry.body.as_ref(), body);
    let odd: Vec<_> = entry.headers.iter().filter(|(name, _)| name == "x-odd").collect();
    assert_eq!(odd.len(), 2);
    let listed = get(server.addr(), "/sim/log").await.json();
    assert_eq!(listed[0]["outcome"], "finished");
    assert_eq!(listed[0]["status"], 200);
    assert_eq!(listed[0]["body_length"], body.len());
}

#[tokio::test]
async fn an_answer_without_a_body_is_finished_too() {
    let server = server();
    get(server.addr(), "/health").await;
    assert_eq!(server.log()[0].outcome, Outcome::Finished(200.try_into().unwrap()));
}

#[tokio::test]
async fn simulated_time_can_run_faster() {
    let mut config = SimConfig::fast();
    config.engine.profile = mvllm_sim::profile::Profile::demo();
    config.speed = 1000.0;
    let server = SimServer::start_on_free_port(config).unwrap();
    // Half a minute of simulated time: within the client's patience only if it runs faster.
    assert_eq!(post(server.addr(), CHAT, &chat(1000)).await.head.status, 200);
    let metrics = get(server.addr(), "/metrics").await.body;
    let sum = metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix(
                "vllm:e2e_request_latency_seconds_sum{engine=\"0\",model_name=\"sim\"} ",
            )
        })
        .unwrap();
    assert!(sum.parse::<f64>().unwrap() > 29.0, "{sum}");
}
