use futures_util::{SinkExt, StreamExt};
use mvllm_sim::{SimConfig, SimServer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, get, post};
use crate::{server, until};

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let server = server();
    let text = "The cache,  naïve 世界.\n\nhello";
    let tokens = post(server.addr(), "/tokenize", &json!({ "prompt": text })).await.json();
    assert_eq!(tokens["count"], tokens["tokens"].as_array().unwrap().len());
    let body = json!({ "tokens": tokens["tokens"] });
    assert_eq!(post(server.addr(), "/detokenize", &body).await.json()["prompt"], text);
}

#[tokio::test]
async fn embeddings_depend_on_the_text_alone() {
    let server = server();
    let body = json!({ "input": ["one", "two", "one"] });
    let data = post(server.addr(), "/v1/embeddings", &body).await.json()["data"].clone();
    assert_eq!(data[0]["embedding"], data[2]["embedding"]);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    let coded = json!({ "input": "one", "encoding_format": "base64" });
    let coded = post(server.addr(), "/v1/embeddings", &coded).await.json();
    assert!(coded["data"][0]["embedding"].is_string());
}

#[tokio::test]
async fn documents_are_ranked_by_their_scores() {
    let server = server();
    let documents = json!(["a", "b", "c"]);
    let body = json!({ "query": "q", "documents": documents, "top_n": 2 });
    let ranked = post(server.addr(), "/rerank", &body).await.json()["results"].clone();
    assert_eq!(ranked.as_array().unwrap().len(), 2);
    let body = json!({ "text_1": "q", "text_2": documents });
    let scores = post(server.addr(), "/score", &body).await.json()["data"].clone();
    let best = ranked[0]["index"].as_u64().unwrap() as usize;
    assert_eq!(scores[best]["score"], ranked[0]["relevance_score"]);
    let best = ranked[0]["relevance_score"].as_f64().unwrap();
    assert!(scores.as_array().unwrap().iter().all(|s| s["score"].as_f64().unwrap() <= best));
}

#[tokio::test]
async fn an_upload_is_transcribed() {
    let server = server();
    let mut client = Client::connect(server.addr()).await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsim\r\n--x\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--x--\r\n";
    let head =
        "POST /v1/audio/transcriptions HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x";
    client.send(head, body.as_bytes()).await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.head.status, 200);
    assert!(!answer.json()["text"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_websocket_says_back_what_it_is_told() {
    let server = server();
    let socket = TcpStream::connect(server.addr()).await.unwrap();
    let url = format!("ws://{}/v1/realtime", server.addr());
    let (mut socket, _) = tokio_tungstenite::client_async(url, socket).await.unwrap();
    for message in [Message::text("{\"type\":\"session.update\"}"), Message::binary(vec![0, 255])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    assert_eq!(get(server.addr(), "/v1/realtime").await.head.status, 404);
}

#[tokio::test]
async fn a_killed_server_takes_its_websockets_along() {
    let server = server();
    let socket = TcpStream::connect(server.addr()).await.unwrap();
    let url = format!("ws://{}/v1/realtime", server.addr());
    let (mut socket, _) = tokio_tungstenite::client_async(url, socket).await.unwrap();
    server.shutdown().await;
    assert!(matches!(socket.next().await, None | Some(Err(_))));
}

#[tokio::test]
async fn responses_are_remembered_only_with_a_store() {
    for (responses_store, status) in [(true, 200), (false, 404)] {
        let config = SimConfig { responses_store, ..SimConfig::fast() };
        let server = SimServer::start_on_free_port(config).unwrap();
        let body = json!({ "input": "hello", "max_output_tokens": 4 });
        let first = post(server.addr(), "/v1/responses", &body).await.json();
        let id = first["id"].as_str().unwrap();
        let found = get(server.addr(), &format!("/v1/responses/{id}")).await;
        assert_eq!(found.head.status, status);
        let mut next = body.clone();
        next["previous_response_id"] = json!(id);
        let next = post(server.addr(), "/v1/responses", &next).await;
        assert_eq!(next.head.status, status);
        let cancel = post(server.addr(), &format!("/v1/responses/{id}/cancel"), &Value::Null).await;
        assert_eq!(cancel.head.status, if responses_store { 400 } else { 404 });
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = server();
    let body = json!({ "prompt": "hello there", "max_tokens": 7, "ignore_eos": true });
    post(server.addr(), "/v1/completions", &body).await;
    until(&server, |stats| stats.finished == 1).await;
    let metrics = get(server.addr(), "/metrics").await.body;
    for line in [
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"sim\"} 7.0",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"sim\"} 1.0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"sim\"} 1.0",
        "vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"sim\"} 6.0",
        "vllm:num_requests_running{engine=\"0\",model_name=\"sim\"} 0.0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing");
    }
}
