//! What many clients cost in memory, while they are there and after they have gone. Small here; the
//! large numbers, printed, are had with
//! `cargo test --release -p mvllm --test it memory -- --ignored --nocapture --test-threads 1`,
//! for which a process must be allowed 20,000 open files.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Client, bare};
use crate::eventually::eventually;
use crate::raw_server::{Exchange, LAST_CHUNK, RawServers, STREAM, chunk};
use crate::router::Router;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a client that stopped reading may cost: `max_head_bytes` of what is written for it, as much
/// that was read ahead, and the bookkeeping of both.
const STALLED_MAX: usize = 256 * KIB;

/// What a stream under way may cost whose client keeps up.
const STREAM_MAX: usize = 64 * KIB;

/// What a client may cost that is connected and does nothing.
const IDLE_MAX: usize = 32 * KIB;

/// What may stay when all have gone, beside what was there before. A part of what the smallest of
/// these crowds takes.
const LEFT_MAX: usize = 16 * MIB;

/// A server that could not write anything for this long is held up by the router.
const HELD_UP: Duration = Duration::from_millis(500);

/// Requests are made by so many clients at a time, so that no queue of the kernel overflows.
const AT_A_TIME: usize = 50;

#[tokio::test]
async fn stalled_readers_cost_little_and_leave_nothing() {
    stalled_readers(300).await;
}

#[tokio::test]
#[ignore = "large; for figures"]
async fn a_thousand_stalled_readers() {
    stalled_readers(1000).await;
}

#[tokio::test]
async fn streams_under_way_cost_little_and_leave_nothing() {
    streams(1000).await;
}

#[tokio::test]
#[ignore = "large; for figures"]
async fn five_thousand_streams() {
    streams(5000).await;
}

#[tokio::test]
async fn idle_clients_cost_little_and_leave_nothing() {
    idle(1500).await;
}

#[tokio::test]
#[ignore = "large; for figures"]
async fn nine_thousand_idle_clients() {
    idle(9000).await;
}

async fn idle(count: usize) {
    let (servers, router) = start().await;
    let base = router.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(router.addr).await;
        client.send(bare("GET", "/livez")).await;
        assert_eq!(client.answer().await.status(), 200);
        clients.push(client);
    }
    let held = router.resident_bytes();
    drop(clients);
    settle("idle clients", &router, Figures { count, base, held, each_max: IDLE_MAX }).await;
    drop(servers);
}

async fn start() -> (RawServers, Router) {
    let servers = RawServers::start(4).await;
    let router = Router::before(&servers.addrs(), "request_timeout = 600").await;
    (servers, router)
}

/// Clients and their exchanges, each stream begun.
async fn begun(
    servers: &mut RawServers,
    router: &Router,
    count: usize,
    connect: impl AsyncFn() -> Client,
) -> (Vec<Client>, Vec<Exchange>) {
    let (mut clients, mut exchanges) = (Vec::new(), Vec::new());
    while clients.len() < count {
        let asked = AT_A_TIME.min(count - clients.len());
        for _ in 0..asked {
            let mut client = connect().await;
            client.post("/v1/completions", r#"{"stream":true}"#).await;
            clients.push(client);
        }
        for _ in 0..asked {
            let mut exchange = servers.next().await;
            exchange.send(STREAM).await;
            exchange.send(event(0)).await;
            exchanges.push(exchange);
        }
    }
    assert_eq!(exchanges.len(), count, "{}", router.addr);
    (clients, exchanges)
}

/// As long as vLLM's for one token.
fn event(nth: usize) -> Vec<u8> {
    let padding = "x".repeat(180);
    chunk(format!("data: {{\"id\":\"cmpl-1\",\"n\":{nth},\"padding\":\"{padding}\"}}\n\n"))
}

async fn stalled_readers(count: usize) {
    let (mut servers, router) = start().await;
    let base = router.resident_bytes();
    let connect = || Client::connect_with_small_buffer(router.addr);
    let (clients, exchanges) = begun(&mut servers, &router, count, connect).await;
    let mut writing = JoinSet::new();
    for mut exchange in exchanges {
        writing.spawn(async move {
            let tokens: Vec<u8> = (0..100).flat_map(event).collect();
            let mut written = 0;
            while let Ok(more) = timeout(HELD_UP, exchange.socket().write(&tokens)).await {
                written += more.unwrap();
            }
            (exchange, written)
        });
    }
    let (exchanges, written): (Vec<_>, Vec<_>) = writing.join_all().await.into_iter().unzip();
    let written = written.iter().sum::<usize>();
    let held = router.resident_bytes();
    drop(clients);
    for mut exchange in exchanges {
        exchange.closed_by_the_router().await;
    }
    settle("stalled readers", &router, Figures { count, base, held, each_max: STALLED_MAX }).await;
    eprintln!("{} MiB were written by servers until they were held up", written / MIB);
}

async fn streams(count: usize) {
    let (mut servers, router) = start().await;
    let base = router.resident_bytes();
    let connect = || Client::connect(router.addr);
    let (mut clients, mut exchanges) = begun(&mut servers, &router, count, connect).await;
    for client in &mut clients {
        assert_eq!(client.head().await.status(), 200);
        client.data().await;
    }
    for nth in 0..10 {
        for exchange in &mut exchanges {
            exchange.send(event(nth)).await;
        }
        for client in &mut clients {
            client.data().await;
        }
    }
    router.counts(&format!("mvllm_requests_under_way {count}")).await;
    let held = router.resident_bytes();
    for exchange in exchanges {
        exchange.respond([chunk("data: [DONE]\n\n"), LAST_CHUNK.into()].concat()).await;
    }
    for mut client in clients {
        assert_eq!(client.data().await, b"data: [DONE]\n\n");
    }
    settle("streams", &router, Figures { count, base, held, each_max: STREAM_MAX }).await;
}

struct Figures {
    count: usize,
    base: usize,
    held: usize,
    each_max: usize,
}

/// Waits until the router holds nothing of it, and looks at what it took and what it kept.
async fn settle(what: &str, router: &Router, figures: Figures) {
    let Figures { count, base, held, each_max } = figures;
    router.counts("mvllm_requests_under_way 0").await;
    router.idle().await;
    // Of the test's own connections one is open: the one that asks.
    router.counts("mvllm_client_connections 1").await;
    let peak = router.peak_bytes();
    // The allocator gives memory back a little later, so that it need not fetch it again at once.
    let enough = base + LEFT_MAX;
    let is_back = || Some(router.resident_bytes()).filter(|left| *left < enough);
    let left = eventually("the memory given back", || std::future::ready(is_back())).await;
    let each = held.saturating_sub(base) / count;
    eprintln!(
        "{count} {what}: {} MiB before, {} MiB with them ({} KiB each), {} MiB at most, {} MiB after",
        base / MIB,
        held / MIB,
        each / KIB,
        peak / MIB,
        left / MIB
    );
    assert!(each < each_max, "{each} bytes for each of {count} {what}");
}
