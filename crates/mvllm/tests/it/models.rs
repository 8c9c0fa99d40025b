//! Requests go to servers that serve the model they name.

use serde_json::{Value, json};

use crate::client::{Client, ask, ask_json, bare, post};
use crate::raw_server::{Exchange, RawServers, json as json_answer};
use crate::router::{Router, configuration};

/// Three servers: `a` and its adapter, `b`, and both.
async fn start() -> (RawServers, Router) {
    let servers = RawServers::start(3).await;
    for (server, models) in [(0, &["a", "a-lora"][..]), (1, &["b"]), (2, &["a", "b"])] {
        let models = models.iter().copied().map(str::to_owned).collect();
        servers.say(server, |says| says.models = models);
    }
    let router = Router::before(&servers.addrs(), "").await;
    (servers, router)
}

/// The servers that requests of this kind go to, when a dozen of them are under way.
async fn asked_servers(request: impl AsRef<[u8]>) -> Vec<usize> {
    let (mut servers, router) = start().await;
    let mut open: Vec<(Client, Exchange)> = Vec::new();
    for _ in 0..12 {
        let mut client = Client::connect(router.addr).await;
        client.send(request.as_ref()).await;
        open.push((client, servers.next().await));
    }
    let mut asked: Vec<_> = open.iter().map(|(_, exchange)| exchange.server).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

#[tokio::test]
async fn a_request_goes_only_to_servers_that_list_its_model() {
    let request = post("/v1/chat/completions", br#"{"stream":false,"model":"a"}"#);
    assert_eq!(asked_servers(request).await, [0, 2]);
    assert_eq!(asked_servers(post("/v1/embeddings", br#"{"model":"b"}"#)).await, [1, 2]);
}

#[tokio::test]
async fn a_lora_adapter_is_a_model_by_its_own_name() {
    assert_eq!(asked_servers(post("/v1/messages", br#"{"model":"a-lora"}"#)).await, [0]);
    assert_eq!(asked_servers(post("/v1/responses", br#"{"model":"a-\u006cora"}"#)).await, [0]);
}

#[tokio::test]
async fn a_model_may_be_named_in_the_query() {
    assert_eq!(asked_servers(bare("GET", "/v1/files?x=1&model=a%2Dlora")).await, [0]);
}

#[tokio::test]
async fn a_model_may_be_named_in_a_form() {
    let body = "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nb\r\n--x--\r\n";
    let request = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: r\r\ncontent-length: {}\r\n\
         content-type: multipart/form-data; boundary=x\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(asked_servers(request).await, [1, 2]);
}

#[tokio::test]
async fn a_request_that_names_no_model_may_go_anywhere() {
    assert_eq!(asked_servers(post("/v1/completions", br#"{"prompt":"x"}"#)).await, [0, 1, 2]);
}

#[tokio::test]
async fn an_unknown_model_is_refused_as_vllm_does_and_the_known_ones_are_named() {
    let (mut servers, router) = start().await;
    let answer = ask_json(router.addr, "/v1/completions", &json!({ "model": "nope" })).await;
    assert_eq!(answer.status(), 404);
    let error = answer.json()["error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("The model `nope` does not exist."), "{message}");
    assert!(["`a`", "`a-lora`", "`b`"].iter().all(|name| message.contains(name)), "{message}");
    assert_eq!(
        (&error["type"], &error["param"], &error["code"]),
        (&json!("NotFoundError"), &json!("model"), &json!(404))
    );
    let answer = ask_json(router.addr, "/v1/messages", &json!({ "model": "nope" })).await;
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_model_that_only_an_ejected_server_has_is_not_unknown_but_unavailable() {
    let (servers, router) = start().await;
    servers.say(0, |says| says.health = 503);
    router.routable(2).await;
    // Better tried than refused: the server is there, if not well.
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"model":"a-lora"}"#).await;
    let mut servers = servers;
    let exchange = servers.next().await;
    assert_eq!(exchange.server, 0);
    exchange.reset();
    let answer = client.answer().await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(answer.head.get("retry-after").is_some());
    assert!(answer.text().contains("a-lora"), "{}", answer.text());
}

#[tokio::test]
async fn a_server_that_learns_a_model_gets_its_requests() {
    let (mut servers, router) = start().await;
    servers.say(1, |says| says.models.push("new".to_owned()));
    router.until("/v1/models", "the new model", |list| ids(list).contains(&"new".to_owned())).await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"model":"new"}"#).await;
    assert_eq!(servers.next().await.server, 1);
}

#[tokio::test]
async fn a_server_added_by_a_reload_serves_its_model_at_once() {
    let mut servers = RawServers::start(2).await;
    servers.say(1, |says| says.models = vec!["new".to_owned()]);
    let tuning = "health_check_interval = 600";
    let router = Router::before(&servers.addrs()[..1], tuning).await;
    let text = configuration(&servers.addrs(), tuning);
    std::fs::write(router.config_path(), text).unwrap();
    router.until("/health", "two servers", |report| report["total_servers"] == 2).await;
    // From here on nobody waits for anything: the router does, if it must.
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"model":"new"}"#).await;
    let exchange = servers.next().await;
    assert_eq!(exchange.server, 1);
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn the_list_of_models_is_that_of_all_servers_that_get_requests() {
    let (servers, router) = start().await;
    assert_eq!(ids(&router.report("/v1/models").await), ["a", "a-lora", "b"]);
    servers.say(0, |says| says.health = 500);
    router.routable(2).await;
    assert_eq!(ids(&router.report("/v1/models").await), ["a", "b"]);
    let answer = ask(router.addr, bare("HEAD", "/v1/models")).await;
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
}

fn ids(list: &Value) -> Vec<String> {
    let cards = list["data"].as_array().unwrap();
    cards.iter().map(|card| card["id"].as_str().unwrap().to_owned()).collect()
}
