//! Too few file descriptors: accepting pauses, nothing is lost, no server is blamed.

use crate::client::{Client, bare};
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::{Router, configuration};

/// Clients that are connected and idle. Only some of them are accepted.
async fn crowd(router: &Router, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(router.addr).await);
    }
    clients
}

async fn is_served(client: &mut Client) {
    client.send(bare("GET", "/livez")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn with_few_descriptors_clients_wait_and_servers_are_still_reached() {
    let mut servers = RawServers::start(1).await;
    // (200 - 64) / 2 = 68 clients.
    let text = configuration(&servers.addrs(), "");
    let router = Router::start_with_few_files(&text, 200).await;
    router.routable(1).await;
    let mut inside = crowd(&router, 68).await;
    for client in &mut inside {
        is_served(client).await;
    }
    let mut outside = crowd(&router, 300).await;
    router.says("no more connections are accepted until").await;
    // The router's own questions, and requests, have their descriptors.
    servers.scraped_anew(0).await;
    for client in &mut inside {
        client.post("/v1/completions", "{}").await;
    }
    let mut exchanges = Vec::new();
    for _ in 0..inside.len() {
        exchanges.push(servers.next().await);
    }
    for exchange in exchanges {
        exchange.respond(json_answer(200, "{}")).await;
    }
    for client in &mut inside {
        assert_eq!(client.answer().await.status(), 200);
    }
    drop(inside);
    for client in &mut outside[..60] {
        is_served(client).await;
    }
    drop(outside);
    let health = router.health_of(servers.addrs()[0]).await;
    assert_eq!((&health["healthy"], &health["consecutive_failures"]), (&true.into(), &0.into()));
}

/// Whoever sets `max_connections` too high gets the errors of the system.
#[tokio::test]
async fn without_descriptors_accepting_pauses_and_recovers_without_a_flood_of_lines() {
    let servers = RawServers::start(1).await;
    let text = configuration(&servers.addrs(), "max_connections = 1000000");
    let router = Router::start_with_few_files(&text, 100).await;
    router.routable(1).await;
    let crowd = crowd(&router, 150).await;
    router.says("cannot accept connections").await;
    // Checks that came meanwhile had no descriptor either, and blame nobody for that.
    servers.scraped_anew(0).await;
    let ticks = router.processor_ticks();
    servers.scraped_anew(0).await;
    let spent = router.processor_ticks() - ticks;
    assert!(spent < 100, "{spent} hundredths of a second in which nothing happened");
    drop(crowd);
    router.routable(1).await;
    let health = router.health_of(servers.addrs()[0]).await;
    assert_eq!((&health["healthy"], &health["consecutive_failures"]), (&true.into(), &0.into()));
    // It tries ten times a second.
    assert!(router.process.log().matches("cannot accept connections").count() < 5);
}
