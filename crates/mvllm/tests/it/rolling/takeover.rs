//! `mvllm run --takeover`.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::json;

use super::traffic::Traffic;
use crate::client::{Client, ask, bare};
use crate::eventually::eventually;
use crate::raw_server::{LAST_CHUNK, RawServers, STREAM, chunk, json as json_answer};
use crate::router::{Process, Router, entry, mvllm};
use crate::sims::SimProcess;
use crate::wire::Chunk;

/// A router that takes over from `router`, and shares its configuration.
fn successor(router: &Router) -> Process {
    let port = router.addr.port().to_string();
    let arguments = ["run", "--console", "--host", "127.0.0.1", "--port", &port, "--takeover"];
    let path = router.config_path();
    let folder = path.parent().unwrap();
    Process::start(mvllm().args(arguments).arg("--config").arg(&path).current_dir(folder))
}

async fn order(router: SocketAddr, verb: &str, server: SocketAddr) {
    let request = format!(
        "POST /admin/servers/{verb}?url=http://{server} HTTP/1.1\r\nhost: r\r\n\
         content-length: 0\r\n\r\n"
    );
    assert_eq!(ask(router, request).await.status(), 200);
}

/// Waits until a server is described by `/status` as wanted.
async fn until_it_is(router: SocketAddr, server: SocketAddr, key: &str, wanted: &str) {
    eventually(&format!("a server whose {key} is {wanted}"), || async {
        let report = ask(router, bare("GET", "/status")).await.json();
        (entry(&report, server)[key] == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn servers_and_router_are_restarted_one_by_one_under_load_and_no_request_fails() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(SimProcess::start().await);
    }
    let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let mut router = Router::before(&addrs, "").await;
    let mut traffic = Traffic::start(router.addr, 8);
    traffic.goes_on(20).await;
    for server in &mut servers {
        order(router.addr, "drain", server.addr).await;
        until_it_is(router.addr, server.addr, "admission", "drained").await;
        server.process.signal(Signal::KILL);
        server.process.ended().await;
        traffic.goes_on(20).await;
        *server = SimProcess::start_on(server.addr.port()).await;
        until_it_is(router.addr, server.addr, "health", "healthy").await;
        order(router.addr, "uncordon", server.addr).await;
        traffic.goes_on(20).await;
    }
    let mut next = successor(&router);
    next.says("taken over").await;
    assert_eq!(router.process.ended().await.code(), Some(0));
    traffic.goes_on(50).await;
    // And back again.
    let _third = successor(&router);
    assert_eq!(next.ended().await.code(), Some(0));
    traffic.goes_on(50).await;
    assert!(traffic.stop().await >= 220);
}

/// Nobody drains them: the requests that they had are answered by the others.
#[tokio::test]
async fn servers_are_killed_or_stopped_one_by_one_under_load_and_no_short_answer_is_lost() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(SimProcess::start().await);
    }
    let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let router = Router::before(&addrs, "").await;
    let mut traffic = Traffic::of_short_answers(router.addr, 8);
    traffic.goes_on(20).await;
    for (server, signal) in servers.iter_mut().zip([Signal::KILL, Signal::TERM, Signal::KILL]) {
        server.process.signal(signal);
        server.process.ended().await;
        traffic.goes_on(20).await;
        *server = SimProcess::start_on(server.addr.port()).await;
        until_it_is(router.addr, server.addr, "health", "healthy").await;
        traffic.goes_on(20).await;
    }
    assert!(traffic.stop().await >= 140);
}

#[tokio::test]
async fn the_one_that_is_relieved_finishes_its_streams_however_long_after() {
    let mut servers = RawServers::start(1).await;
    let tuning = "shutdown_grace = 0\nshutdown_timeout = 1";
    let mut router = Router::before(&servers.addrs(), tuning).await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: 1\n\n")).await;
    client.head().await;
    client.data().await;

    let next = successor(&router);
    router.says("another process has taken over").await;
    next.says("taken over").await;
    // Longer than a signal would have given it.
    router.says("leaving: waiting for 1 request").await;
    assert!(router.process.is_running());
    let mut other = Client::connect(router.addr).await;
    other.post("/v1/completions", "{}").await;
    servers.next().await.respond(json_answer(200, r#"{"ok":1}"#)).await;
    assert_eq!(other.answer().await.json(), json!({ "ok": 1 }));
    exchange.respond([chunk("data: [DONE]\n\n"), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, b"data: [DONE]\n\n");
    assert_eq!(client.chunk().await, Chunk::Last);
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_to_the_one_that_is_relieved_ends_it_in_the_time_of_signals() {
    let mut servers = RawServers::start(1).await;
    let mut router = Router::before(&servers.addrs(), "shutdown_timeout = 1").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", "{}").await;
    let _never_answered = servers.next().await;
    let next = successor(&router);
    next.says("taken over").await;
    router.says("another process has taken over").await;
    router.process.signal(Signal::TERM);
    assert_eq!(router.process.ended().await.code(), Some(3));
}

#[tokio::test]
async fn a_successor_that_dies_before_it_is_ready_changes_nothing() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), "health_check_timeout = 60").await;
    // It looks at all servers before it accepts, and one takes its time.
    servers.say(0, |says| says.silent = true);
    let mut next = successor(&router);
    router.says("another process wants to take over").await;
    next.signal(Signal::KILL);
    next.ended().await;
    router.says("nobody has taken over").await;
    assert_eq!(router.get("/readyz").await.status(), 200);
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", "{}").await;
    servers.next().await.respond(json_answer(200, r#"{"ok":1}"#)).await;
    assert_eq!(client.answer().await.head.get("connection"), None);
}

#[tokio::test]
async fn a_cordon_holds_on_in_the_next_process() {
    let servers = RawServers::start(2).await;
    let mut router = Router::before(&servers.addrs(), "").await;
    order(router.addr, "cordon", servers.addrs()[0]).await;
    let next = successor(&router);
    next.says("taken over").await;
    router.process.ended().await;
    until_it_is(router.addr, servers.addrs()[0], "admission", "cordoned").await;
    assert_eq!(router.report("/readyz").await["routable_servers"], 1);
}

#[tokio::test]
async fn where_no_router_runs_takeover_is_a_start_as_any_other() {
    let mut router = Router::before(&[], "").await;
    router.process.signal(Signal::INT);
    router.process.ended().await;
    let next = successor(&router);
    next.says("listening on").await;
    eventually("an answer", || async { tokio::net::TcpStream::connect(router.addr).await.ok() })
        .await;
    assert_eq!(router.get("/livez").await.status(), 200);
}
