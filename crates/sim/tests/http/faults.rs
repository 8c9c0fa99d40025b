use std::io;

use mvllm_sim::{BadMetrics, Death, Fault, SimServer};
use serde_json::json;

use crate::client::{Client, get, post};
use crate::{chat, server, until, with};

const CHAT: &str = "/v1/chat/completions";

/// Starts a stream that dies after two events and reads these.
async fn dying_stream(server: &SimServer, how: Death) -> Client {
    server.set_fault(Fault::DieAfterEvents { events: 2, how }, Some(1));
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &with(chat(50), "stream", true)).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    for _ in 0..2 {
        assert!(client.chunk().await.unwrap().starts_with("data: {"));
    }
    client
}

async fn is_healthy_again(server: &SimServer) {
    let stats = until(server, |stats| stats.running == 0).await;
    assert_eq!(stats.waiting, 0);
    assert_eq!(post(server.addr(), CHAT, &chat(1)).await.head.status, 200);
}

#[tokio::test]
async fn a_stream_is_reset_after_its_events_arrived() {
    let server = server();
    let mut client = dying_stream(&server, Death::Reset).await;
    let error = client.closed().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    until(&server, |stats| stats.aborted == 1).await;
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_stream_is_truncated_in_its_chunked_body() {
    let server = server();
    let mut client = dying_stream(&server, Death::Truncated).await;
    client.closed().await.unwrap();
    until(&server, |stats| stats.aborted == 1).await;
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_stream_ends_properly_without_saying_done() {
    let server = server();
    let mut client = dying_stream(&server, Death::NoDone).await;
    assert_eq!(client.chunk().await.unwrap(), "");
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_chat_whose_engine_dies_says_so_and_done() {
    let server = server();
    let mut client = dying_stream(&server, Death::ErrorEvent).await;
    // To the byte as a real vLLM 0.32 said it when its engine was killed.
    assert_eq!(
        client.chunk().await.unwrap(),
        "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) \
         for the root cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n"
    );
    assert_eq!(client.chunk().await.unwrap(), "data: [DONE]\n\n");
    assert_eq!(client.chunk().await.unwrap(), "");
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_message_whose_engine_dies_ends_in_an_error_event() {
    let server = server();
    server.set_fault(Fault::DieAfterEvents { events: 3, how: Death::ErrorEvent }, Some(1));
    let body = with(chat(50), "stream", true);
    let stream = post(server.addr(), "/v1/messages", &body).await;
    let last = stream.body.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\ndata: {\"type\":\"error\""), "{last}");
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_response_whose_engine_dies_is_truncated() {
    let server = server();
    server.set_fault(Fault::DieAfterEvents { events: 3, how: Death::ErrorEvent }, Some(1));
    let body = json!({ "input": "hello", "stream": true });
    let mut client = Client::connect(server.addr()).await;
    client.post("/v1/responses", &body).await;
    assert_eq!(client.answer().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_stream_may_die_right_after_its_head() {
    let server = server();
    server.set_fault(Fault::DieAfterEvents { events: 0, how: Death::Truncated }, Some(1));
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &with(chat(50), "stream", true)).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.closed().await.unwrap();
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn a_connection_is_closed_without_an_answer() {
    let server = server();
    server.set_fault(Fault::CloseBeforeHead, Some(1));
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &chat(1)).await;
    assert_eq!(client.head().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    is_healthy_again(&server).await;
}

#[tokio::test]
async fn requests_fail_in_vllms_words() {
    let server = server();
    let cases = [
        (Fault::Error500, 500, "InternalServerError"),
        (Fault::EngineDead { health: 503 }, 500, "InternalServerError"),
        (Fault::QueueFull, 503, "Service Unavailable"),
    ];
    for (fault, status, kind) in cases {
        server.set_fault(fault, Some(1));
        let answer = post(server.addr(), CHAT, &with(chat(5), "stream", true)).await;
        assert_eq!(answer.head.status, status);
        assert_eq!(answer.json()["error"]["type"], kind);
        assert_eq!(answer.json()["error"]["code"], status);
        is_healthy_again(&server).await;
    }
}

#[tokio::test]
async fn a_dead_engine_shows_in_health_if_it_was_noticed() {
    let server = server();
    for health in [200, 503] {
        server.set_fault(Fault::EngineDead { health }, None);
        assert_eq!(get(server.addr(), "/health").await.head.status, health);
    }
}

#[tokio::test]
async fn a_hung_engine_answers_probes_and_goes_on_when_healed() {
    let server = server();
    server.set_fault(Fault::Hang, None);
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &with(chat(3), "stream", true)).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(get(server.addr(), "/health").await.head.status, 200);
    assert_eq!(get(server.addr(), "/metrics").await.head.status, 200);
    let stats = server.stats();
    assert_eq!(stats.running + stats.waiting, 1);
    assert_eq!(stats.finished, 0);
    server.set_fault(Fault::Healthy, None);
    assert!(client.chunk().await.unwrap().starts_with("data: "));
}

#[tokio::test]
async fn a_counted_hang_holds_one_request_while_others_are_served() {
    let server = server();
    server.set_fault(Fault::Hang, Some(1));
    let mut hung = Client::connect(server.addr()).await;
    hung.post(CHAT, &chat(1)).await;
    until(&server, |stats| stats.received == 1).await;
    assert_eq!(post(server.addr(), CHAT, &chat(1)).await.head.status, 200);
    assert_eq!(server.stats().finished, 1);
    drop(hung);
    until(&server, |stats| stats.aborted == 1).await;
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
    let server = server();
    server.set_fault(Fault::FreezeAll, None);
    let mut probe = Client::connect(server.addr()).await;
    probe.send("GET /health HTTP/1.1", b"").await;
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &chat(1)).await;
    until(&server, |stats| stats.received == 1).await;
    assert_eq!(server.stats().finished, 0);
    let healed = post(server.addr(), "/sim/fault", &json!({ "kind": "healthy" })).await;
    assert_eq!(healed.head.status, 200);
    assert_eq!(probe.answer().await.unwrap().head.status, 200);
    assert_eq!(client.answer().await.unwrap().head.status, 200);
}

#[tokio::test]
async fn metrics_may_be_worthless() {
    let server = server();
    server.set_fault(Fault::Metrics { how: BadMetrics::Nan }, Some(1));
    assert!(get(server.addr(), "/metrics").await.body.contains("model_name=\"sim\"} NaN"));
    server.set_fault(Fault::Metrics { how: BadMetrics::Garbage }, Some(1));
    assert!(get(server.addr(), "/metrics").await.body.starts_with("<html>"));
    assert!(get(server.addr(), "/metrics").await.body.contains("vllm:num_requests_running{"));
}

#[tokio::test]
async fn faults_are_set_over_http_with_a_count() {
    let server = server();
    let fault = json!({ "kind": "error_500", "count": 2 });
    assert_eq!(post(server.addr(), "/sim/fault", &fault).await.head.status, 200);
    for status in [500, 500, 200] {
        assert_eq!(post(server.addr(), CHAT, &chat(1)).await.head.status, status);
    }
    let nonsense = json!({ "kind": "gremlins" });
    assert_eq!(post(server.addr(), "/sim/fault", &nonsense).await.head.status, 400);
}
