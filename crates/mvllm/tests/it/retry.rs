//! Failed attempts: what is tried again, where, how often, and what the client gets in the end.

mod defeat;
mod hedge;
mod idle_connections;
mod safeguards;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use mvllm_sim::Fault;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Client, ask_json};
use crate::raw_server::{Exchange, RawServers, json};
use crate::router::Router;
use crate::sims::{SimProcess, addrs, chat, sims};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m"}"#;

/// An address at which nobody listens.
fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_killed_server_costs_no_request_that_is_not_streamed() {
    const CLIENTS: usize = 8;
    const EACH: usize = 25;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(SimProcess::start().await);
    }
    let listed: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let router = Router::before(&listed, "").await;
    let mut clients = JoinSet::new();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..CLIENTS {
        let (addr, answered) = (router.addr, answered.clone());
        clients.spawn(async move {
            let mut client = Client::connect(addr).await;
            for _ in 0..EACH {
                client.post(CHAT, chat(30, false).to_string()).await;
                let answer = client.answer().await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                assert_eq!(answer.json()["usage"]["completion_tokens"], 30);
                answered.send(()).unwrap();
            }
        });
    }
    for _ in 0..CLIENTS * EACH / 4 {
        answers.recv().await.unwrap();
    }
    servers[0].process.signal(Signal::KILL);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(router.process.log().contains("attempt failed"), "nobody noticed");
}

/// Lets the first attempt fail in some way; the second server must answer.
async fn is_answered_by_another_server<F: Future<Output = ()>>(fail: impl Fn(Exchange) -> F) {
    let mut servers = RawServers::start(2).await;
    for path in [CHAT, "/v1/messages", "/v1/embeddings", "/tokenize"] {
        // A new one: no connection that is used a second time, which would be given another chance.
        let router = Router::before(&servers.addrs(), "").await;
        let mut client = Client::connect(router.addr).await;
        client.post(path, BODY).await;
        let first = servers.next().await;
        let failed = first.server;
        fail(first).await;
        let second = servers.next().await;
        assert_ne!(second.server, failed);
        assert_eq!(second.body, BODY.as_bytes());
        second.respond(json(200, r#"{"ok":1}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"ok":1}"#));
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_before_the_head_is_answered_by_another_server() {
    is_answered_by_another_server(|exchange| async { exchange.reset() }).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_before_the_head_is_answered_by_another_server() {
    is_answered_by_another_server(|exchange| async { exchange.close() }).await;
}

#[tokio::test]
async fn an_answer_cut_before_its_end_is_answered_by_another_server() {
    is_answered_by_another_server(|mut exchange| async move {
        let whole = json(200, r#"{"long":"answer"}"#);
        exchange.send(&whole[..whole.len() - 5]).await;
        exchange.close();
    })
    .await;
}

#[tokio::test]
async fn a_500_is_answered_by_another_server() {
    is_answered_by_another_server(|exchange| exchange.respond(json(500, "{}"))).await;
}

#[tokio::test]
async fn a_503_is_answered_by_another_server() {
    is_answered_by_another_server(|exchange| exchange.respond(json(503, "{}"))).await;
}

#[tokio::test]
async fn a_429_is_answered_by_another_server() {
    is_answered_by_another_server(|exchange| exchange.respond(json(429, "{}"))).await;
}

#[tokio::test]
async fn bytes_that_are_not_http_are_answered_by_another_server() {
    is_answered_by_another_server(|mut exchange| async move {
        exchange.send("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
        exchange.close();
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_answered_by_another_server() {
    let servers = RawServers::start(1).await.answer_all(|_| json(200, "{}"));
    // Never out, so that it is asked again and again.
    let tuning = "enable_active_health_check = false\nfailure_threshold = 1000000";
    let router = Router::start(&[dead_address(), servers.addrs[0]], tuning).await;
    for _ in 0..40 {
        assert_eq!(ask_json(router.addr, "/v1/load_lora_adapter", &json!({})).await.status(), 200);
    }
    assert!(router.process.log().contains("attempt failed"), "it was never asked");
}

#[tokio::test]
async fn no_server_is_asked_twice_and_max_retries_is_kept() {
    for (max_retries, attempts) in [(3, 4), (0, 1), (50, 6)] {
        let mut servers = RawServers::start(6).await;
        let tuning = format!("max_retries = {max_retries}");
        let router = Router::before(&servers.addrs(), &tuning).await;
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        let mut asked = BTreeSet::new();
        for nth in 1..=attempts {
            let exchange = servers.next().await;
            assert!(asked.insert(exchange.server), "server {} again", exchange.server);
            exchange.respond(json(500, &format!(r#"{{"attempt":{nth}}}"#))).await;
        }
        let answer = client.answer().await;
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.json(), json!({ "attempt": attempts }), "not the last one's words");
        assert!(servers.arrived().is_none());
    }
}

#[tokio::test]
async fn what_is_no_inference_is_not_repeated_once_it_may_have_begun() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1000").await;
    for fail in [Exchange::reset, Exchange::close] {
        let mut client = Client::connect(router.addr).await;
        client.post("/v1/load_lora_adapter", r#"{"lora_name":"x"}"#).await;
        fail(servers.next().await);
        assert_eq!(client.answer().await.status(), 502);
        assert!(servers.arrived().is_none());
    }
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/load_lora_adapter", r#"{"lora_name":"x"}"#).await;
    servers.next().await.respond(json(500, r#"{"own":"words"}"#)).await;
    assert_eq!(client.answer().await.json(), json!({ "own": "words" }));
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_full_server_is_not_a_broken_one() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "").await;
    sims[0].set_fault(Fault::QueueFull, None);
    for _ in 0..20 {
        assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
    }
    sims[1].set_fault(Fault::QueueFull, None);
    let refused = ask_json(router.addr, CHAT, &chat(1, false)).await;
    assert_eq!(refused.status(), 503);
    let message = refused.json()["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("currently busy"), "{message}");
    for sim in &sims {
        let health = router.health_of(sim.addr()).await;
        assert_eq!(health["health_status"], "healthy");
        assert_eq!(health["consecutive_failures"], 0);
    }
}

#[tokio::test]
async fn a_429_of_all_servers_reaches_the_client_verbatim_and_blames_nobody() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1").await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    let full = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\n{}";
    servers.next().await.respond(full).await;
    servers.next().await.respond(full).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (429, Some("7")));
    for server in servers.addrs() {
        assert_eq!(router.health_of(server).await["health_status"], "healthy");
    }
}
