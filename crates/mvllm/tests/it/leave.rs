//! Being told to end: not ready at once, but serving until nobody asks any more, and gone when the
//! last request is done, or time is up.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, ask_json, bare};
use crate::eventually::{until, within_patience};
use crate::raw_server::{Exchange, LAST_CHUNK, RawServers, STREAM, chunk, json};
use crate::router::{Process, Router, mvllm};
use crate::sims::chat;
use crate::wire::{Chunk, End};

/// No load balancer is waited for.
const AT_ONCE: &str = "shutdown_grace = 0";

/// Longer than any test waits.
const LONG: &str = "shutdown_grace = 600\nshutdown_timeout = 600";

async fn start(tuning: &str) -> (RawServers, Router) {
    let servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), tuning).await;
    (servers, router)
}

/// A stream of which the client has the first event.
async fn streaming(servers: &mut RawServers, router: &Router) -> (Client, Exchange) {
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", r#"{"stream":true}"#).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: {\"n\":1}\n\n")).await;
    client.head().await;
    client.data().await;
    (client, exchange)
}

async fn finishes(mut client: Client, exchange: Exchange) {
    let rest = "data: {\"n\":2}\n\ndata: [DONE]\n\n";
    exchange.respond([chunk(rest), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, rest.as_bytes());
    assert_eq!(client.chunk().await, Chunk::Last);
}

fn is_refused(router: &Router) -> bool {
    std::net::TcpStream::connect(router.addr).is_err()
}

#[tokio::test]
async fn after_sigterm_it_is_not_ready_and_still_serves_whoever_asks() {
    let (mut servers, router) = start(LONG).await;
    let mut kept_alive = Client::connect(router.addr).await;
    kept_alive.send(bare("GET", "/livez")).await;
    assert_eq!(kept_alive.answer().await.head.get("connection"), None);
    router.process.signal(Signal::TERM);
    router.says("leaving").await;

    for (path, status) in [("/readyz", 503), ("/livez", 200)] {
        let answer = router.get(path).await;
        assert_eq!((answer.status(), answer.head.get("connection")), (status, Some("close")));
    }
    assert_eq!(router.get("/readyz").await.json()["status"], "leaving");
    let fresh = Client::connect(router.addr).await;
    for mut client in [kept_alive, fresh] {
        client.post("/v1/completions", "{}").await;
        servers.next().await.respond(json(200, r#"{"ok":1}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.end), (200, End::Proper));
        assert_eq!(answer.head.get("connection"), Some("close"));
        assert_eq!(client.rest().await, b"", "the connection is closed");
    }
}

#[tokio::test]
async fn after_the_grace_no_connections_are_taken_and_a_running_stream_finishes() {
    let (mut servers, mut router) = start("shutdown_grace = 1").await;
    let (client, exchange) = streaming(&mut servers, &router).await;
    router.process.signal(Signal::TERM);
    until("no more connections", || is_refused(&router)).await;
    assert!(router.process.is_running());
    finishes(client, exchange).await;
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_person_who_presses_ctrl_c_waits_for_requests_and_for_nothing_else() {
    let (mut servers, mut router) = start(LONG).await;
    // An idle connection of a client is no reason to stay.
    let mut idle = Client::connect(router.addr).await;
    idle.send(bare("GET", "/livez")).await;
    idle.answer().await;
    let (client, exchange) = streaming(&mut servers, &router).await;
    router.process.signal(Signal::INT);
    until("no more connections", || is_refused(&router)).await;
    assert_eq!(idle.rest().await, b"");
    assert!(router.process.is_running());
    finishes(client, exchange).await;
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_connection_made_at_the_last_moment_gets_its_answer() {
    let (mut servers, mut router) = start(AT_ONCE).await;
    let mut late = Client::connect(router.addr).await;
    router.process.signal(Signal::TERM);
    late.post("/v1/completions", "{}").await;
    servers.next().await.respond(json(200, r#"{"ok":1}"#)).await;
    assert_eq!(late.answer().await.status(), 200);
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn when_time_is_up_requests_are_broken_off_and_counted() {
    let (mut servers, mut router) = start("shutdown_grace = 0\nshutdown_timeout = 1").await;
    let (mut client, _exchange) = streaming(&mut servers, &router).await;
    router.process.signal(Signal::TERM);
    assert_eq!(router.process.ended().await.code(), Some(3));
    assert_ne!(client.chunk().await, Chunk::Last);
    router.says("time is up with 1 request under way").await;
}

#[tokio::test]
async fn told_twice_the_router_leaves_at_once() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        let (mut servers, mut router) = start(LONG).await;
        let mut client = Client::connect(router.addr).await;
        client.post("/v1/completions", "{}").await;
        let _never_answered = servers.next().await;
        router.process.signal(signals[0]);
        router.says("leaving").await;
        router.process.signal(signals[1]);
        assert_eq!(router.process.ended().await.code(), Some(130));
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_waited_for_like_a_request() {
    let (mut servers, mut router) = start(AT_ONCE).await;
    let (mut client, mut exchange) = upgraded(&mut servers, &router).await;
    router.process.signal(Signal::TERM);
    until("no more connections", || is_refused(&router)).await;
    exchange.socket().write_all(b"to the client").await.unwrap();
    assert_eq!(client.exactly(13).await, b"to the client");
    client.send_more(b"to the server").await;
    let mut bytes = [0; 13];
    within_patience("bytes", exchange.socket().read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"to the server");
    assert!(router.process.is_running());
    drop((client, exchange));
    assert_eq!(router.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_upgraded_connection_is_closed_when_time_is_up() {
    let (mut servers, mut router) = start("shutdown_grace = 0\nshutdown_timeout = 1").await;
    let (mut client, mut exchange) = upgraded(&mut servers, &router).await;
    router.process.signal(Signal::TERM);
    assert_eq!(router.process.ended().await.code(), Some(3));
    router.says("time is up with 1 request under way").await;
    assert_eq!(client.rest().await, b"");
    exchange.closed_by_the_router().await;
}

async fn upgraded(servers: &mut RawServers, router: &Router) -> (Client, Exchange) {
    let mut client = Client::connect(router.addr).await;
    client.send("GET /v1/realtime HTTP/1.1\r\nhost: r\r\nconnection: upgrade\r\n").await;
    client.send_more("upgrade: websocket\r\n\r\n").await;
    let mut exchange = servers.next().await;
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    exchange.send(head).await;
    assert_eq!(client.head().await.status(), 101);
    (client, exchange)
}

#[tokio::test]
async fn an_http_2_client_is_sent_away_and_gets_the_answers_that_it_waits_for() {
    let (mut servers, router) = start(LONG).await;
    let stream = TcpStream::connect(router.addr).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let url = format!("http://{}/v1/completions", router.addr);
    let request = http::Request::post(url).body(Empty::<Bytes>::new()).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let exchange = servers.next().await;
    router.process.signal(Signal::TERM);
    router.says("leaving").await;
    exchange.respond(json(200, r#"{"ok":1}"#)).await;
    let answer = within_patience("the answer", answer).await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), r#"{"ok":1}"#);
    // The grace is long: what has ended the connection is that the router has asked for it.
    within_patience("the end of the connection", connection).await.unwrap().unwrap();
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
