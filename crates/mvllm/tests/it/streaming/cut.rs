//! Streams that break after something has reached the client: it must be able to tell.

use crate::client::Client;
use crate::raw_server::{Exchange, LAST_CHUNK, RawServers, STREAM, chunk};
use crate::router::Router;
use crate::wire::End;

use super::{BODY, CHAT, event, start};

/// Ways for a stream to end before its time.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The connection is reset between two events.
    Reset,
    /// The connection is closed between two events.
    Closed,
    /// It is closed within a chunk, and within an event.
    Truncated,
    /// The body ends as HTTP has it, the stream does not.
    NoEnd,
}

impl Cut {
    const ALL: [Self; 4] = [Self::Reset, Self::Closed, Self::Truncated, Self::NoEnd];

    async fn strike(self, mut exchange: Exchange) {
        match self {
            Self::Reset => exchange.reset(),
            Self::Closed => exchange.close(),
            Self::Truncated => {
                let half = chunk("data: {\"choices\":[{\"delta\"");
                exchange.send(&half[..half.len() - 6]).await;
                exchange.close();
            }
            Self::NoEnd => exchange.respond(LAST_CHUNK).await,
        }
    }
}

/// All that the client gets of a stream that began with `begun`.
async fn cut_stream(
    servers: &mut RawServers,
    router: &Router,
    (path, begun): (&str, &str),
    cut: Cut,
) -> (String, End) {
    let mut client = Client::connect(router.addr).await;
    client.post(path, BODY).await;
    let mut exchange = servers.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk(begun)).await;
    let head = client.head().await;
    assert_eq!(client.data().await, begun.as_bytes());
    cut.strike(exchange).await;
    let (rest, end) = client.body(&head).await;
    (String::from_utf8(rest).unwrap(), end)
}

/// Cuts streams of `path` in all ways, and has `check` look at what came in place of the rest.
async fn every_cut_ends_in(path: &str, begun: &str, check: impl Fn(&str)) {
    let servers = RawServers::start(1).await;
    // Cut streams eject a server; this one is to be asked for all of them.
    let router = Router::before(&servers.addrs(), "failure_threshold = 1000").await;
    let mut servers = servers;
    for cut in Cut::ALL {
        let (rest, end) = cut_stream(&mut servers, &router, (path, begun), cut).await;
        assert_eq!(end, End::Broken, "{cut:?}: the body must not end properly");
        assert!(!rest.contains("[DONE]"), "{cut:?}: {rest}");
        assert!(rest.ends_with("\n\n"), "{cut:?}: {rest}");
        check(&rest);
    }
    router.idle().await;
}

/// The data of an event.
fn data(event: &str) -> serde_json::Value {
    let line = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(line).unwrap()
}

#[tokio::test]
async fn a_cut_stream_of_chat_ends_in_an_error_and_a_broken_body() {
    every_cut_ends_in(CHAT, &event("so far"), |rest| {
        assert_eq!(rest.matches("data: ").count(), 1, "{rest}");
        let error = &data(rest)["error"];
        assert!(error["message"].is_string() && error["code"] == 502, "{rest}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_stream_of_completions_ends_in_an_error_and_a_broken_body() {
    every_cut_ends_in("/v1/completions", &event("so far"), |rest| {
        assert_eq!(data(rest)["error"]["code"], 502, "{rest}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_stream_of_messages_ends_in_anthropics_error_event() {
    let begun = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
    every_cut_ends_in("/v1/messages", begun, |rest| {
        assert!(rest.starts_with("event: error\n"), "{rest}");
        let data = data(rest);
        assert_eq!((&data["type"], &data["error"]["type"]), (&"error".into(), &"api_error".into()));
    })
    .await;
}

#[tokio::test]
async fn a_cut_stream_of_responses_ends_in_its_own_error_event() {
    let begun = "event: response.output_text.delta\n\
                 data: {\"type\":\"response.output_text.delta\"}\n\n";
    every_cut_ends_in("/v1/responses", begun, |rest| {
        assert!(rest.starts_with("event: error\n"), "{rest}");
        let data = data(rest);
        assert!(data["code"].is_string() && data["sequence_number"] == 1, "{rest}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_body_of_known_length_is_not_completed() {
    let (mut servers, router) = start(1).await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/audio/speech", BODY).await;
    let mut exchange = servers.next().await;
    let length = 4 * 1024 * 1024;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {length}\r\n\r\n");
    exchange.send(head).await;
    exchange.send(vec![7; 100_000]).await;
    let head = client.head().await;
    assert_eq!(head.get("content-length"), Some(length.to_string().as_str()));
    exchange.close();
    let (body, end) = client.body(&head).await;
    assert_eq!((body.len(), end), (100_000, End::Broken));
}

#[tokio::test]
async fn half_an_event_is_held_back_until_it_is_whole() {
    let (mut servers, router) = start(1).await;
    let (mut client, mut exchange) = super::asked(&mut servers, &router).await;
    let (first, second) = (event("first"), event("second"));
    let (left, right) = second.split_at(20);
    exchange.send(STREAM).await;
    exchange.send(chunk([&first, left].concat())).await;
    client.head().await;
    assert_eq!(client.data().await, first.as_bytes());
    exchange.send(chunk(right)).await;
    let mut rest = client.data().await;
    if rest.len() < second.len() {
        rest.extend(client.data().await);
    }
    assert_eq!(rest, second.as_bytes());
}
