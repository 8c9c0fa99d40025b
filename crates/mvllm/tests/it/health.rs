//! Which servers are taken out, which are not, and how they come back.

use std::net::SocketAddr;

use mvllm_sim::{Fault, SimServer};
use rustix::process::Signal;
use serde_json::json;

use crate::client::{Client, ask_json};
use crate::eventually::{eventually, until};
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::{Router, entry};
use crate::sims::{SimProcess, addrs, chat, sim, sims, stats};
use crate::wire::Chunk;

const CHAT: &str = "/v1/chat/completions";

/// Waits until a server is out, or back in.
async fn healthy(router: &Router, server: SocketAddr, wanted: bool) {
    let what = format!("{server} healthy: {wanted}");
    router.until("/health", &what, |report| entry(report, server)["healthy"] == wanted).await;
}

/// Sends requests until a server has got one of them.
async fn gets_requests(router: &Router, server: &SimServer) {
    let before = server.stats().received;
    eventually("a request at the server", || async {
        assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
        (server.stats().received > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bad_requests_reach_the_client_verbatim_and_leave_every_server_healthy() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "failure_threshold = 1").await;
    let bad = json!({ "model": "sim", "messages": [{ "role": "user", "content": "x" }],
                      "max_tokens": -1 });
    let direct = ask_json(sims[0].addr(), CHAT, &bad).await;
    assert_eq!(direct.status(), 400);
    for _ in 0..20 {
        let answer = ask_json(router.addr, CHAT, &bad).await;
        assert_eq!((answer.status(), answer.text()), (400, direct.text()));
    }
    let received: u64 = sims.iter().map(|sim| sim.stats().received).sum();
    assert_eq!(received, 21, "bad requests were repeated");
    for sim in &sims {
        let health = router.health_of(sim.addr()).await;
        assert_eq!(health["health_status"], "healthy");
        assert_eq!(health["consecutive_failures"], 0);
    }
}

#[tokio::test]
async fn every_4xx_passes_as_it_is() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1").await;
    let mut client = Client::connect(router.addr).await;
    for status in [400, 401, 403, 404, 409, 413, 415, 422] {
        client.post(CHAT, r#"{"model":"m"}"#).await;
        let body = format!(r#"{{"own words":{status}}}"#);
        servers.next().await.respond(json_answer(status, &body)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (status, body));
    }
    assert_eq!(router.health_of(servers.addrs()[0]).await["consecutive_failures"], 0);
}

#[tokio::test]
async fn a_dead_engine_is_out_though_it_still_lists_its_models() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "").await;
    sims[0].set_fault(Fault::EngineDead { health: 503 }, None);
    healthy(&router, sims[0].addr(), false).await;
    // The router goes on asking it itself, by another path.
    let chats = || sims[0].log().iter().filter(|request| request.target == CHAT).count();
    let before = chats();
    for _ in 0..20 {
        assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
    }
    assert_eq!(chats(), before);
    sims[0].set_fault(Fault::Healthy, None);
    healthy(&router, sims[0].addr(), true).await;
    gets_requests(&router, &sims[0]).await;
}

#[tokio::test]
async fn a_killed_server_is_out_at_once_and_back_soon_after_its_restart() {
    let other = sim();
    let server = SimProcess::start().await;
    let addr = server.addr;
    // The patience of a test is two of these intervals.
    let router = Router::before(&[addr, other.addr()], "health_check_interval = 10").await;
    drop(server);
    healthy(&router, addr, false).await;
    let restarted = SimProcess::start_on(addr.port()).await;
    healthy(&router, addr, true).await;
    eventually("a request at the restarted server", || async {
        let before = other.stats().received;
        assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
        (other.stats().received == before).then_some(())
    })
    .await;
    drop(restarted);
}

#[tokio::test]
async fn a_stopped_server_costs_no_request_and_comes_back() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(SimProcess::start().await);
    }
    let listed: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let tuning = "request_timeout = 1\nhealth_check_timeout = 1";
    let router = Router::before(&listed, tuning).await;
    let (stopped, addr) = (&servers[0], servers[0].addr);
    stopped.process.signal(Signal::STOP);
    let mut clients = tokio::task::JoinSet::new();
    for nth in 0..12 {
        let router = router.addr;
        clients.spawn(async move {
            let answer = ask_json(router, CHAT, &chat(20, nth % 2 == 0)).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert!(answer.text().contains("usage") || answer.text().ends_with("[DONE]\n\n"));
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    healthy(&router, addr, false).await;
    stopped.process.signal(Signal::CONT);
    healthy(&router, addr, true).await;
}

#[tokio::test]
async fn a_server_too_busy_for_its_health_checks_stays_in_while_tokens_flow() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "health_check_timeout = 1").await;
    sim.set_fault(Fault::SlowHealth { delay_ms: 10_000 }, None);
    let checks = || sim.log().iter().filter(|request| request.target == "/health").count();
    let enough = checks() + 5;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, chat(8000, true).to_string()).await;
    client.head().await;
    while checks() < enough {
        assert!(matches!(client.chunk().await, Chunk::Data(_)), "the stream ended too soon");
        assert_eq!(router.health_of(sim.addr()).await["healthy"], true);
    }
}

#[tokio::test]
async fn a_server_that_answers_no_health_checks_and_has_no_tokens_to_show_is_out() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "health_check_timeout = 1").await;
    sims[0].set_fault(Fault::SlowHealth { delay_ms: 10_000 }, None);
    healthy(&router, sims[0].addr(), false).await;
    sims[0].set_fault(Fault::Healthy, None);
    healthy(&router, sims[0].addr(), true).await;
}

#[tokio::test]
async fn without_active_checks_failed_requests_take_a_server_out_and_time_brings_it_back() {
    let mut servers = RawServers::start(2).await;
    let tuning = "enable_active_health_check = false\nfailure_threshold = 1\n\
                  auto_recovery_threshold = 2\nmax_retries = 1";
    let router = Router::before(&servers.addrs(), tuning).await;
    let (bad, good) = (servers.addrs()[0], 1);
    // One connection for all, so that one request follows the other.
    let mut client = Client::connect(router.addr).await;
    let mut failures = 0;
    while failures < 1 {
        client.post(CHAT, "{}").await;
        let mut exchange = servers.next().await;
        if exchange.server != good {
            failures += 1;
            exchange.respond(json_answer(500, "{}")).await;
            exchange = servers.next().await;
        }
        exchange.respond(json_answer(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    healthy(&router, bad, false).await;
    client.post(CHAT, "{}").await;
    let exchange = servers.next().await;
    assert_eq!(exchange.server, good);
    exchange.respond(json_answer(200, "{}")).await;
    client.answer().await;
    healthy(&router, bad, true).await;
    let health = router.health_of(bad).await;
    assert_eq!(health["health_status"], "checking", "it is on probation: {health}");
}

#[tokio::test]
async fn if_every_server_is_out_the_least_bad_is_tried_all_the_same() {
    let sims = sims(1);
    let tuning = "failure_threshold = 1\nhealth_check_interval = 600";
    let router = Router::before(&addrs(&sims), tuning).await;
    sims[0].set_fault(Fault::Error500, Some(1));
    assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 500);
    healthy(&router, sims[0].addr(), false).await;
    assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
    healthy(&router, sims[0].addr(), true).await;
}

#[tokio::test]
async fn a_hung_server_is_left_when_neither_bytes_nor_tokens_come() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "request_timeout = 1").await;
    sims[0].set_fault(Fault::Hang, None);
    let mut clients = tokio::task::JoinSet::new();
    for nth in 0..8 {
        let router = router.addr;
        clients.spawn(async move { ask_json(router, CHAT, &chat(5, nth % 2 == 0)).await });
    }
    stats(&sims[0], "a request", |stats| stats.received > 0).await;
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    until("the hung requests given up", || sims[0].stats().aborted == sims[0].stats().received)
        .await;
}
