//! Health by what servers do, not by what they say of themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mvllm_sim::{Death, Fault, SimServer};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::client::{Answer, Client, ask_json};
use crate::eventually::{eventually, until};
use crate::raw_server::{Exchange, RawServers, json as json_answer, metrics};
use crate::router::{Router, entry};
use crate::sims::{SimProcess, addrs, chat, sim, sims, stats};
use crate::wire::{Chunk, End};

const CHAT: &str = "/v1/chat/completions";
const PROBE: &str = "/v1/completions";

/// Waits until a server is out, or back in.
async fn healthy(router: &Router, server: SocketAddr, wanted: bool) {
    let what = format!("{server} healthy: {wanted}");
    router.until("/health", &what, |report| entry(report, server)["healthy"] == wanted).await;
}

/// How many requests for that path a server has got. Clients of these tests chat, so completions
/// are probes.
fn asked(sim: &SimServer, path: &str) -> usize {
    sim.log().iter().filter(|request| request.target == path).count()
}

/// Requests one after the other, which all succeed.
async fn chats(router: &Router, count: usize) {
    for nth in 0..count {
        let answer = ask_json(router.addr, CHAT, &chat(1, nth % 2 == 0)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

/// Requests side by side.
fn chats_side_by_side(router: &Router, count: usize, tokens: usize) -> JoinSet<Answer> {
    let mut clients = JoinSet::new();
    for nth in 0..count {
        let router = router.addr;
        clients.spawn(async move { ask_json(router, CHAT, &chat(tokens, nth % 2 == 0)).await });
    }
    clients
}

/// Waits for all of them to succeed.
async fn all_succeed(mut clients: JoinSet<Answer>) {
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status(), answer.end), (200, End::Proper), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_server_that_says_it_is_well_and_sends_no_token_is_out_until_tokens_flow() {
    let sims = sims(3);
    // So many failures that the requests alone would never take it out.
    let tuning = "request_timeout = 3\nfailure_threshold = 1000";
    let router = Router::before(&addrs(&sims), tuning).await;
    let hung = &sims[0];
    hung.set_fault(Fault::Hang, None);
    let clients = chats_side_by_side(&router, 9, 5);
    stats(hung, "a request", |stats| stats.received > 0).await;
    healthy(&router, hung.addr(), false).await;
    router.says("server taken out: it makes no progress with its requests").await;
    all_succeed(clients).await;
    let before = asked(hung, CHAT);
    chats(&router, 30).await;
    assert_eq!(asked(hung, CHAT), before, "a hung server was sent requests");
    hung.set_fault(Fault::Healthy, None);
    healthy(&router, hung.addr(), true).await;
    eventually("a request at the server that is back", || async {
        all_succeed(chats_side_by_side(&router, 12, 5)).await;
        (asked(hung, CHAT) > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_is_out_while_all_are_too_busy_for_health_checks_and_stream_on() {
    let sims = sims(3);
    let router = Router::before(&addrs(&sims), "health_check_timeout = 1").await;
    let mut streams = Vec::new();
    for _ in &sims {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, chat(8000, true).to_string()).await;
        client.head().await;
        streams.push(client);
    }
    for sim in &sims {
        assert_eq!(asked(sim, CHAT), 1, "one stream at each");
        sim.set_fault(Fault::SlowHealth { delay_ms: 30_000 }, None);
    }
    let enough: Vec<_> = sims.iter().map(|sim| asked(sim, "/health") + 4).collect();
    while sims.iter().zip(&enough).any(|(sim, enough)| asked(sim, "/health") < *enough) {
        for stream in &mut streams {
            assert!(matches!(stream.chunk().await, Chunk::Data(_)), "it ended too soon");
        }
    }
    assert_eq!(router.report("/health").await["healthy_servers"], 3);
    assert!(!router.process.log().contains("taken out"));
}

#[tokio::test]
async fn a_dead_engine_gets_nothing_from_its_first_word_on_though_its_health_says_200() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "failure_threshold = 1000").await;
    let dead = &sims[0];
    dead.set_fault(Fault::EngineDead { health: 200 }, None);
    eventually("a request at the dead engine", || async {
        chats(&router, 1).await;
        (asked(dead, CHAT) > 0).then_some(())
    })
    .await;
    healthy(&router, dead.addr(), false).await;
    router.says("server taken out: it says that its engine is dead").await;
    let before = asked(dead, CHAT);
    until("some probes", || asked(dead, PROBE) >= 3).await;
    assert_eq!(router.health_of(dead.addr()).await["healthy"], false, "its /health is believed");
    chats(&router, 20).await;
    assert_eq!(asked(dead, CHAT), before, "a dead engine was sent requests");
    dead.set_fault(Fault::Healthy, None);
    healthy(&router, dead.addr(), true).await;
}

#[tokio::test]
async fn a_stream_in_which_the_engine_dies_is_enough() {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "failure_threshold = 1000").await;
    sims[0].set_fault(Fault::DieAfterEvents { events: 3, how: Death::ErrorEvent }, Some(1));
    let answer = ask_json(router.addr, CHAT, &chat(9, true)).await;
    assert!(answer.text().contains("EngineCore encountered an issue"), "{}", answer.text());
    router.says("server taken out: it says that its engine is dead").await;
}

#[tokio::test]
async fn a_restarted_server_is_asked_anew_at_once() {
    let servers = RawServers::start(1).await;
    let process = |start: u32, tokens: u32| {
        let (load, started) = (metrics(0, 0), "process_start_time_seconds");
        format!("{load}vllm:generation_tokens_total {tokens}\n{started} {start}.25\n")
    };
    servers.say(0, |says| says.metrics = process(100, 7));
    let router = Router::before(&servers.addrs(), "health_check_interval = 600").await;
    servers.scraped_anew(0).await;
    servers.say(0, |says| {
        says.models = vec!["another".to_owned()];
        says.metrics = process(200, 0);
    });
    router.says("server was restarted").await;
    let addr = servers.addrs()[0];
    router
        .until("/health", "the new models", |report| {
            entry(report, addr)["supported_models"][0] == "another"
        })
        .await;
    assert_eq!(router.health_of(addr).await["healthy"], true);
}

#[tokio::test]
async fn a_server_that_comes_and_goes_costs_no_request() {
    let steady = sim();
    let first = SimProcess::start().await;
    let addr = first.addr;
    let router = Router::before(&[addr, steady.addr()], "").await;
    let (stop, clients) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    let mut clients = clients;
    for _ in 0..4 {
        let (stop, router) = (Arc::clone(&stop), router.addr);
        clients.spawn(async move {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = ask_json(router, CHAT, &chat(5, false)).await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                answered += 1;
            }
            answered
        });
    }
    let mut up = first;
    for _ in 0..3 {
        drop(up);
        healthy(&router, addr, false).await;
        up = SimProcess::start_on(addr.port()).await;
        healthy(&router, addr, true).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(answered) = clients.join_next().await {
        assert!(answered.unwrap() > 0);
    }
    assert_eq!(router.process.log().matches("server taken out").count(), 3);
}

#[tokio::test]
async fn a_server_that_fails_at_once_gets_next_to_nothing() {
    let servers = RawServers::start(2).await;
    let addrs = servers.addrs();
    let at_the_bad = Arc::new(AtomicBool::new(false));
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (noted, counted) = (Arc::clone(&at_the_bad), Arc::clone(&count));
    let _answering = servers.answer_all(move |exchange| {
        if exchange.server == 1 {
            return json_answer(200, "{}");
        }
        noted.store(true, Ordering::Relaxed);
        counted.fetch_add(1, Ordering::Relaxed);
        json_answer(500, "{}")
    });
    // Never taken out: only its failures keep requests away.
    let router = Router::before(&addrs, "failure_threshold = 1000000").await;
    let mut client = Client::connect(router.addr).await;
    let mut ask = async |times: usize| {
        for _ in 0..times {
            client.post(CHAT, r#"{"model":"m"}"#).await;
            assert_eq!(client.answer().await.status(), 200);
        }
    };
    ask(20).await;
    assert!(at_the_bad.load(Ordering::Relaxed), "it was never tried");
    let before = count.load(Ordering::Relaxed);
    ask(500).await;
    let there = count.load(Ordering::Relaxed) - before;
    assert!(there < 10, "{there} of 500");
}

#[tokio::test]
async fn a_server_that_cannot_be_probed_shows_by_one_request_whether_it_is_back() {
    let servers = RawServers::start(2).await;
    let addrs = servers.addrs();
    // It wants a key.
    servers.say(0, |says| says.probe = 401);
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let _answering = servers.answer_all(move |exchange: &Exchange| {
        let fails = exchange.server == 0 && is_broken.load(Ordering::Relaxed);
        json_answer(if fails { 500 } else { 200 }, "{}")
    });
    let router = Router::before(&addrs, "failure_threshold = 1").await;
    let chats = || async {
        let answer = ask_json(router.addr, CHAT, &serde_json::json!({ "model": "m" })).await;
        assert_eq!(answer.status(), 200);
    };
    eventually("a failed trial", || async {
        chats().await;
        let log = router.process.log();
        let tried = log.find("server is tried with one request at a time")?;
        log[tried..].contains("server taken out: it answers with status 500").then_some(())
    })
    .await;
    broken.store(false, Ordering::Relaxed);
    eventually("its return", || async {
        chats().await;
        (router.health_of(addrs[0]).await["health_status"] == "healthy").then_some(())
    })
    .await;
}

/// Longer than an absence that is noticed (`fleet/wakefulness.rs`), and than every limit below.
const ABSENCE: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_router_that_was_stopped_blames_no_server_for_it() {
    let sims = sims(3);
    let tuning = "request_timeout = 2\nhealth_check_timeout = 1\nfailure_threshold = 1";
    let router = Router::before(&addrs(&sims), tuning).await;
    let clients = chats_side_by_side(&router, 6, 4000);
    for sim in &sims {
        stats(sim, "a request", |stats| stats.running > 0).await;
    }
    router.process.signal(Signal::STOP);
    // Not to wait for something: the absence is what this is about.
    tokio::time::sleep(ABSENCE).await;
    router.process.signal(Signal::CONT);
    router.says("mvllm itself stood still for").await;
    all_succeed(clients).await;
    assert!(!router.process.log().contains("taken out"));
    assert_eq!(router.report("/health").await["healthy_servers"], 3);
}

#[tokio::test]
async fn a_fleet_that_falls_silent_as_one_keeps_getting_requests() {
    let sims = sims(3);
    let tuning = "request_timeout = 2\nhealth_check_timeout = 1\nfailure_threshold = 1";
    let router = Router::before(&addrs(&sims), tuning).await;
    for sim in &sims[..2] {
        sim.set_fault(Fault::FreezeAll, None);
    }
    router.says("more than half of the servers are silent at once").await;
    let report = router.report("/status").await;
    let metrics = router.get("/metrics").await.text();
    assert!(metrics.contains("mvllm_servers_silence_ignored 1"));
    assert_eq!(router.report("/readyz").await["routable_servers"], 3, "{report}");
    let clients = chats_side_by_side(&router, 12, 5);
    for sim in &sims[..2] {
        stats(sim, "a request all the same", |stats| stats.received > 0).await;
    }
    for sim in &sims[..2] {
        sim.set_fault(Fault::Healthy, None);
    }
    all_succeed(clients).await;
    router.says("most servers answer again").await;
}
