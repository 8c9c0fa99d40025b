//! Being told to end.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::client::{Client, ask_json};
use crate::eventually::until;
use crate::raw_server::{LAST_CHUNK, RawServers, STREAM, chunk};
use crate::router::{Process, Router, mvllm};
use crate::sims::chat;
use crate::wire::Chunk;

#[tokio::test]
async fn sigterm_lets_a_running_stream_finish_and_takes_no_new_connections() {
    let mut servers = RawServers::start(1).await;
    let mut router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: {\"n\":1}\n\n")).await;
    client.head().await;
    client.data().await;
    router.process.signal(Signal::TERM);
    router.says("leaving").await;
    until("no more connections", || std::net::TcpStream::connect(router.addr).is_err()).await;
    assert!(router.process.is_running());
    let rest = "data: {\"n\":2}\n\ndata: [DONE]\n\n";
    exchange.respond([chunk(rest), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, rest.as_bytes());
    assert_eq!(client.chunk().await, Chunk::Last);
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_router_ends_at_once_by_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let servers = RawServers::start(1).await;
        let mut router = Router::before(&servers.addrs(), "").await;
        // An idle connection of a client is no reason to stay.
        let mut idle = Client::connect(router.addr).await;
        idle.send(crate::client::bare("GET", "/livez")).await;
        idle.answer().await;
        router.process.signal(signal);
        assert_eq!(router.process.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn told_twice_the_router_leaves_at_once() {
    let mut servers = RawServers::start(1).await;
    let mut router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", "{}").await;
    let _never_answered = servers.next().await;
    router.process.signal(Signal::TERM);
    router.says("leaving").await;
    router.process.signal(Signal::TERM);
    assert_ne!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_demo_answers_and_takes_its_servers_with_it_when_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--port", "0", "-n", "2"];
    let mut demo = Process::start(mvllm().args(arguments).current_dir(folder.path()));
    demo.says("listening on http://").await;
    let text = demo.log();
    let address = |text: &str| -> SocketAddr {
        let at = text.find("http://").unwrap() + "http://".len();
        text[at..].split(char::is_whitespace).next().unwrap().parse().unwrap()
    };
    let router = address(&text[text.find("\n  router").unwrap()..]);
    let servers: Vec<_> =
        text.lines().filter(|line| line.contains("   process ")).map(address).collect();
    assert_eq!(servers.len(), 2, "{text}");
    let answer = ask_json(router, "/v1/chat/completions", &chat(2, false)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    demo.signal(Signal::INT);
    assert_eq!(demo.ended().await.code(), Some(0));
    for server in servers {
        until("a server gone", || std::net::TcpStream::connect(server).is_err()).await;
    }
}
