//! Event streams: passed on event by event, retried before the first, and never ended as if whole
//! when they were cut.

mod backpressure;
mod cut;

use crate::client::{Client, post};
use crate::raw_server::{Exchange, LAST_CHUNK, RawServers, STREAM, chunk};
use crate::router::Router;
use crate::wire::{Chunk, End};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","stream":true}"#;
const DONE: &str = "data: [DONE]\n\n";

fn event(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

/// An event stream with these chunks, complete.
fn stream_of(chunks: &[&str]) -> Vec<u8> {
    let mut bytes = STREAM.as_bytes().to_vec();
    bytes.extend(chunks.iter().flat_map(chunk));
    bytes.extend(LAST_CHUNK.as_bytes());
    bytes
}

async fn start(servers: usize) -> (RawServers, Router) {
    let servers = RawServers::start(servers).await;
    let router = Router::before(&servers.addrs(), "").await;
    (servers, router)
}

/// A client that has asked for a stream, and its request at a server.
async fn asked(servers: &mut RawServers, router: &Router) -> (Client, Exchange) {
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    (client, servers.next().await)
}

#[tokio::test]
async fn every_event_arrives_before_the_server_sends_the_next() {
    let (mut servers, router) = start(1).await;
    let (mut client, mut exchange) = asked(&mut servers, &router).await;
    exchange.send(STREAM).await;
    for nth in 0..50 {
        let event = event(&nth.to_string());
        exchange.send(chunk(&event)).await;
        if nth == 0 {
            assert_eq!(client.head().await.get("content-type"), Some(EVENT_STREAM));
        }
        assert_eq!(client.data().await, event.as_bytes());
    }
    exchange.send(chunk(DONE)).await;
    assert_eq!(client.data().await, DONE.as_bytes());
    exchange.respond(LAST_CHUNK).await;
    assert_eq!(client.chunk().await, Chunk::Last);
}

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

#[tokio::test]
async fn bodies_that_are_no_event_streams_pass_as_they_come_too() {
    let (mut servers, router) = start(1).await;
    let (mut client, mut exchange) = asked(&mut servers, &router).await;
    exchange.send("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n").await;
    exchange.send("transfer-encoding: chunked\r\n\r\n").await;
    for nth in 0_u8..20 {
        exchange.send(chunk([nth, b'\n', 0xff])).await;
        if nth == 0 {
            client.head().await;
        }
        assert_eq!(client.data().await, [nth, b'\n', 0xff]);
    }
    exchange.respond(LAST_CHUNK).await;
    assert_eq!(client.chunk().await, Chunk::Last);
}

#[tokio::test]
async fn a_stream_may_be_cut_into_chunks_at_any_byte() {
    let (mut servers, router) = start(1).await;
    let text =
        ": hello\n\ndata: {\"a\":\"\u{1f980}é\"}\r\n\r\nevent: x\rdata:y\r\rdata: [DONE]\n\n";
    let mut client = Client::connect(router.addr).await;
    for at in 1..text.len() {
        let (left, right) = text.as_bytes().split_at(at);
        client.post(CHAT, BODY).await;
        let mut exchange = servers.next().await;
        exchange.send(STREAM).await;
        exchange.send(chunk(left)).await;
        exchange.respond([chunk(right), LAST_CHUNK.into()].concat()).await;
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.end), (text, End::Proper), "cut at {at}");
    }
}

/// As over a line that loses packets: nothing arrives together.
#[tokio::test]
async fn a_conversation_in_single_bytes_is_understood_and_passes_unchanged() {
    let (mut servers, router) = start(1).await;
    let text = "data: {\"a\":\"\u{1f980}\"}\n\n: hello\n\ndata: [DONE]\n\n";
    let mut client = Client::connect(router.addr).await;
    client.send("").await;
    for byte in post(CHAT, BODY.as_bytes()) {
        client.send_more([byte]).await;
    }
    let mut exchange = servers.next().await;
    assert_eq!(exchange.body, BODY.as_bytes());
    for byte in [STREAM.as_bytes(), &chunk(text), LAST_CHUNK.as_bytes()].concat() {
        exchange.send([byte]).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.end), (text, End::Proper));
}

#[tokio::test]
async fn a_server_that_dies_before_its_first_event_is_replaced_unnoticed() {
    let (mut servers, router) = start(2).await;
    let (mut client, mut dying) = asked(&mut servers, &router).await;
    dying.send(STREAM).await;
    dying.send(chunk(": keep-alive\n\n")).await;
    dying.send(chunk("data: {\"choices\":[{\"de")).await;
    let died = dying.server;
    dying.reset();
    let other = servers.next().await;
    assert_ne!(other.server, died);
    let whole = [event("whole").as_str(), DONE].concat();
    other.respond(stream_of(&[&whole])).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.end), (whole, End::Proper));
}

#[tokio::test]
async fn a_stream_that_ends_before_its_first_event_is_asked_for_elsewhere() {
    let (mut servers, router) = start(2).await;
    let (mut client, empty) = asked(&mut servers, &router).await;
    empty.respond(stream_of(&[": keep-alive\n\n"])).await;
    let whole = [event("whole").as_str(), DONE].concat();
    servers.next().await.respond(stream_of(&[&whole])).await;
    assert_eq!(client.answer().await.text(), whole);
}

const ENGINE_DEAD: &str = "data: {\"error\":{\"message\":\"EngineCore encountered an issue.\",\
                           \"type\":\"InternalServerError\",\"param\":null,\"code\":500}}\n\n";

#[tokio::test]
async fn a_first_event_that_is_the_servers_error_is_retried_elsewhere() {
    let (mut servers, router) = start(2).await;
    let (mut client, failing) = asked(&mut servers, &router).await;
    let failed = failing.server;
    failing.respond(stream_of(&[": keep-alive\n\n", ENGINE_DEAD, DONE])).await;
    let other = servers.next().await;
    assert_ne!(other.server, failed);
    let whole = [event("whole").as_str(), DONE].concat();
    other.respond(stream_of(&[&whole])).await;
    assert_eq!(client.answer().await.text(), whole);
}

#[tokio::test]
async fn if_every_server_opens_with_an_error_the_client_gets_the_last_one_verbatim() {
    let (mut servers, router) = start(2).await;
    let (mut client, first) = asked(&mut servers, &router).await;
    // Not a dead engine: of such a request two servers would be enough.
    let error = ENGINE_DEAD.replace("EngineCore", "The sampler");
    first.respond(stream_of(&[&error, DONE])).await;
    let last = error.replace("an issue", "another issue");
    servers.next().await.respond(stream_of(&[&last, DONE])).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), [&last, DONE].concat());
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn a_first_event_that_blames_the_client_is_delivered_and_blames_no_server() {
    let (mut servers, router) = start(2).await;
    let (mut client, exchange) = asked(&mut servers, &router).await;
    let blame = ENGINE_DEAD.replace("500", "400");
    exchange.respond(stream_of(&[&blame, DONE])).await;
    assert_eq!(client.answer().await.text(), [&blame, DONE].concat());
    assert!(servers.arrived().is_none());
    for server in servers.addrs() {
        assert_eq!(router.health_of(server).await["consecutive_failures"], 0);
    }
}

#[tokio::test]
async fn an_error_in_mid_stream_is_passed_on_verbatim_and_held_against_the_server() {
    let (mut servers, router) = start(1).await;
    let (mut client, exchange) = asked(&mut servers, &router).await;
    let text = [event("so far").as_str(), ENGINE_DEAD, DONE].concat();
    exchange.respond(stream_of(&[&text])).await;
    assert_eq!(client.answer().await.text(), text);
    router.says("says that its engine is dead").await;
}

#[tokio::test]
async fn the_responses_api_may_announce_itself_and_still_be_retried() {
    let (mut servers, router) = start(2).await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/responses", BODY).await;
    let announced = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
    let mut dying = servers.next().await;
    dying.send(STREAM).await;
    dying.send(chunk(announced)).await;
    dying.close();
    let whole = [
        announced,
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n",
    ]
    .concat();
    servers.next().await.respond(stream_of(&[&whole])).await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.end), (whole, End::Proper));
}

#[tokio::test]
async fn the_place_at_the_server_is_held_until_the_stream_ends() {
    let (mut servers, router) = start(1).await;
    let server = servers.addrs()[0];
    let (mut client, mut exchange) = asked(&mut servers, &router).await;
    exchange.send(STREAM).await;
    exchange.send(chunk(event("a"))).await;
    client.head().await;
    client.data().await;
    assert_eq!(router.load_of(server).await["current_load"], 1);
    exchange.respond([chunk(DONE), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, DONE.as_bytes());
    assert_eq!(client.chunk().await, Chunk::Last);
    router.idle().await;
    assert!(!router.process.log().contains("WARN"), "a whole stream is nothing to warn of");
}
