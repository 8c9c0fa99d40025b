//! Connections to servers that wait for their next request, and servers that close them.

use std::time::Duration;

use crate::client::Client;
use crate::raw_server::{RawServers, json};
use crate::router::Router;

use super::{BODY, CHAT};

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        client.post(CHAT, BODY).await;
        let exchange = servers.next().await;
        connections.push(exchange.connection);
        exchange.respond(json(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    connections.dedup();
    assert_eq!(connections.len(), 1);
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_as_it_is_used_costs_no_error() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1").await;
    let mut client = Client::connect(router.addr).await;
    for nth in 0..30 {
        client.post(CHAT, BODY).await;
        let mut exchange = servers.next().await;
        if nth > 0 {
            // The connection of the round before, closed as the request comes in on it.
            exchange.close();
            exchange = servers.next().await;
        }
        exchange.respond(json(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(router.health_of(servers.addrs()[0]).await["consecutive_failures"], 0);
}

#[tokio::test]
async fn a_server_that_says_connection_close_is_taken_at_its_word() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "failure_threshold = 1").await;
    let mut client = Client::connect(router.addr).await;
    let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    for nth in 1..=10 {
        client.post("/v1/load_lora_adapter", "{}").await;
        let mut exchange = servers.next().await;
        exchange.send(last).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("connection")), (200, None), "{nth}");
        exchange.closed_by_the_router().await;
    }
}

/// uvicorn closes idle connections after five seconds; whoever writes into that loses a request.
#[tokio::test]
async fn idle_connections_are_closed_before_the_server_would() {
    let mut servers = RawServers::start(1).await;
    // Less than the default of 4 s, so that a machine that stands still for a moment fails no test.
    let router = Router::before(&servers.addrs(), "upstream_idle_timeout = 1").await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    let mut exchange = servers.next().await;
    exchange.send(json(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
    let uvicorns = tokio::time::sleep(Duration::from_secs(5));
    tokio::select! {
        () = exchange.closed_by_the_router() => {}
        () = uvicorns => panic!("the server would have closed it first"),
    }
}
