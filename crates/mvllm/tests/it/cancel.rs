//! A client that leaves takes its request with it, in every phase.

use mvllm_sim::{Fault, SimServer};

use crate::client::{Client, post};
use crate::raw_server::{RawServers, STREAM, chunk};
use crate::router::Router;
use crate::sims::{chat, sim, stats};
use crate::wire::Chunk;

async fn start() -> (SimServer, Router) {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "request_timeout = 600").await;
    (sim, router)
}

async fn asked(router: &Router, stream: bool) -> Client {
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/chat/completions", chat(8000, stream).to_string()).await;
    client
}

/// Two servers of which nothing comes unless the test says so.
async fn start_raw() -> (RawServers, Router) {
    let servers = RawServers::start(2).await;
    servers.say(0, |says| says.models = vec!["sim".to_owned()]);
    servers.say(1, |says| says.models = vec!["sim".to_owned()]);
    let router = Router::before(&servers.addrs(), "").await;
    (servers, router)
}

/// The server has stopped working for a client that left, and the router has forgotten it.
async fn nothing_is_left(sim: &SimServer, router: &Router) {
    stats(sim, "an aborted request and nothing left", |stats| {
        (stats.running, stats.waiting, stats.aborted) == (0, 0, 1)
    })
    .await;
    router.idle().await;
    let health = router.health_of(sim.addr()).await;
    assert_eq!((&health["healthy"], &health["consecutive_failures"]), (&true.into(), &0.into()));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_takes_its_request_along() {
    let (mut servers, router) = start_raw().await;
    for stream in [true, false] {
        let client = asked(&router, stream).await;
        let mut exchange = servers.next().await;
        drop(client);
        exchange.closed_by_the_router().await;
        router.idle().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_keep_alives_are_held_back_takes_its_request_along() {
    let (mut servers, router) = start_raw().await;
    let client = asked(&router, true).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk(": keep-alive\n\n")).await;
    drop(client);
    exchange.closed_by_the_router().await;
    router.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_prefill_takes_its_request_along() {
    let (sim, router) = start().await;
    sim.set_fault(Fault::Hang, None);
    let client = asked(&router, true).await;
    stats(&sim, "a request", |stats| stats.running + stats.waiting == 1).await;
    drop(client);
    nothing_is_left(&sim, &router).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_takes_its_request_along() {
    let (sim, router) = start().await;
    let mut client = asked(&router, true).await;
    client.head().await;
    for _ in 0..3 {
        assert!(matches!(client.chunk().await, Chunk::Data(_)));
    }
    drop(client);
    nothing_is_left(&sim, &router).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_request_that_is_not_streamed_takes_it_along() {
    let (sim, router) = start().await;
    let client = asked(&router, false).await;
    stats(&sim, "a running request", |stats| stats.running == 1).await;
    drop(client);
    nothing_is_left(&sim, &router).await;
}

#[tokio::test]
async fn a_client_that_leaves_between_two_attempts_gets_no_second_one() {
    let (mut servers, router) = start_raw().await;
    let client = asked(&router, true).await;
    let first = servers.next().await;
    drop(client);
    router.idle().await;
    first.reset();
    // Another request, to have something to wait for: it alone arrives.
    let mut second = Client::connect(router.addr).await;
    second.post("/v1/completions", "{}").await;
    assert_eq!(servers.next().await.head.request(), ("POST", "/v1/completions"));
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_request_whose_body_never_ends_reaches_no_server() {
    let (mut servers, router) = start_raw().await;
    let whole = post("/v1/completions", br#"{"prompt":"x"}"#);
    let mut client = Client::connect(router.addr).await;
    client.send(&whole[..whole.len() - 1]).await;
    drop(client);
    let mut second = Client::connect(router.addr).await;
    second.post("/v1/completions", "{}").await;
    assert_eq!(servers.next().await.body, b"{}");
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn many_clients_that_come_and_go_leave_no_trace() {
    let (sim, router) = start().await;
    let mut clients = Vec::new();
    // Some in decode, the others in the queue behind them: the engine takes 16 at once.
    for nth in 0..60 {
        let mut client = asked(&router, nth % 2 == 0).await;
        if nth < 10 && nth % 2 == 0 {
            client.head().await;
        }
        clients.push(client);
        if nth % 3 == 0 {
            clients.swap_remove(0);
        }
    }
    drop(clients);
    stats(&sim, "an idle engine", |stats| stats.received > 0 && stats.running + stats.waiting == 0)
        .await;
    router.idle().await;
    assert_eq!(sim.stats().finished, 0);
}
