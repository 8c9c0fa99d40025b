use mvllm_sim::{SimConfig, SimServer};
use serde_json::{Value, json};

use crate::client::{Client, post};
use crate::{chat, server, until, with};

const CHAT: &str = "/v1/chat/completions";

fn text(answer: &Value) -> String {
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn streamed(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole_answer() {
    let server = server();
    let whole = post(server.addr(), CHAT, &chat(20)).await.json();
    let stream = post(server.addr(), CHAT, &with(chat(20), "stream", true)).await;
    assert_eq!(streamed(&stream.events()), text(&whole));
    assert!(stream.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(whole["usage"]["completion_tokens"], 20);
}

#[tokio::test]
async fn all_servers_of_a_seed_give_the_same_answer() {
    let other = SimServer::start_on_free_port(SimConfig { seed: 1, ..SimConfig::fast() }).unwrap();
    let (first, second) = (server(), server());
    let mut texts = Vec::new();
    for server in [&first, &second, &other] {
        texts.push(text(&post(server.addr(), CHAT, &chat(20)).await.json()));
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
}

#[tokio::test]
async fn a_cut_chat_goes_on_from_its_text() {
    let server = server();
    let whole = text(&post(server.addr(), CHAT, &chat(30)).await.json());
    let begun = text(&post(server.addr(), CHAT, &chat(11)).await.json());
    let mut rest = chat(19);
    rest["messages"].as_array_mut().unwrap().push(json!({ "role": "assistant", "content": begun }));
    rest["continue_final_message"] = json!(true);
    rest["add_generation_prompt"] = json!(false);
    let rest = text(&post(server.addr(), CHAT, &rest).await.json());
    assert_eq!(format!("{begun}{rest}"), whole);
}

#[tokio::test]
async fn each_event_leaves_as_a_chunk_of_its_own() {
    let server = server();
    let mut client = Client::connect(server.addr()).await;
    client.post(CHAT, &with(chat(5), "stream", true)).await;
    client.head().await.unwrap();
    let mut chunks = Vec::new();
    while let chunk = client.chunk().await.unwrap()
        && !chunk.is_empty()
    {
        assert_eq!(chunk.matches("data: ").count(), 1);
        chunks.push(chunk);
    }
    assert_eq!(chunks.len(), 7, "the role, five tokens, the end");
}

#[tokio::test]
async fn a_natural_end_is_called_stop() {
    let server = server();
    let mut body = chat(4000);
    body["ignore_eos"] = json!(false);
    let answer = post(server.addr(), CHAT, &body).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["stop_reason"], Value::Null);
    assert!(text(&answer).trim_end().ends_with('.'), "{answer}");
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let server = server();
    let whole = text(&post(server.addr(), CHAT, &chat(40)).await.json());
    let stop = &whole[30..36];
    let before = &whole[..whole.find(stop).unwrap()];
    let body = with(chat(40), "stop", stop);
    let answer = post(server.addr(), CHAT, &body).await.json();
    assert_eq!(text(&answer), before);
    assert_eq!(answer["choices"][0]["stop_reason"], stop);
    let stream = post(server.addr(), CHAT, &with(body, "stream", true)).await;
    assert_eq!(streamed(&stream.events()), before);
    let stats = until(&server, |stats| stats.running == 0).await;
    assert_eq!(stats.finished, 3);
}

#[tokio::test]
async fn the_second_request_of_a_prompt_finds_it_cached() {
    let server = server();
    let body =
        with(chat(1), "messages", json!([{ "role": "user", "content": "word ".repeat(400) }]));
    post(server.addr(), CHAT, &body).await;
    let usage = post(server.addr(), CHAT, &body).await.json()["usage"].clone();
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], (prompt - 1) / 16 * 16);
}

#[tokio::test]
async fn a_rank_that_does_not_exist_is_refused() {
    let data_parallel_size = 2.try_into().unwrap();
    let config = SimConfig { data_parallel_size, ..SimConfig::fast() };
    let server = SimServer::start_on_free_port(config).unwrap();
    let mut client = Client::connect(server.addr()).await;
    for (rank, status) in [("0", 200), ("1", 200), ("2", 400)] {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\ncontent-type: application/json\r\nX-data-parallel-rank: {rank}"
        );
        client.send(&head, chat(1).to_string().as_bytes()).await;
        assert_eq!(client.answer().await.unwrap().head.status, status);
    }
    let metrics = crate::client::get(server.addr(), "/metrics").await.body;
    for rank in 0..2 {
        let line =
            format!("vllm:generation_tokens_total{{engine=\"{rank}\",model_name=\"sim\"}} 1.0");
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

#[tokio::test]
async fn an_adapter_is_a_model_of_its_own() {
    let config = SimConfig { loras: vec!["poet".to_owned()], ..SimConfig::fast() };
    let server = SimServer::start_on_free_port(config).unwrap();
    let base = post(server.addr(), CHAT, &chat(10)).await.json();
    let poet = post(server.addr(), CHAT, &with(chat(10), "model", "poet")).await.json();
    assert_eq!(poet["model"], "poet");
    assert_ne!(text(&base), text(&poet));
    let cards = crate::client::get(server.addr(), "/v1/models").await.json();
    assert_eq!(cards["data"][1]["parent"], "sim");
    assert_eq!(cards["data"][1]["max_model_len"], Value::Null);
}
