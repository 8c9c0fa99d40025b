//! A client that reads slowly slows its server down, and costs the router no memory.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::client::Client;
use crate::eventually::PATIENCE;
use crate::raw_server::{Exchange, STREAM, chunk};
use crate::wire::Chunk;

use super::{asked, start};

const MIB: usize = 1024 * 1024;

/// A server that could not write anything for this long is being held up: loopback takes
/// microseconds.
const HELD_UP: Duration = Duration::from_millis(500);

/// What may lie in the router and in four socket buffers on the way.
const ON_THE_WAY_MAX: usize = 16 * MIB;

/// What the router may grow by while it passes a stream on.
const GROWTH_MAX: usize = 8 * MIB;

/// Writes `bytes` again and again until the router takes no more; how many it took.
async fn write_until_held_up(exchange: &mut Exchange, bytes: &[u8]) -> usize {
    let mut taken = 0;
    let mut rest = bytes;
    while let Ok(written) = timeout(HELD_UP, exchange.socket().write(rest)).await {
        let written = written.unwrap();
        taken += written;
        assert!(taken < 1024 * MIB, "the router takes whatever it is sent");
        rest = &rest[written..];
        if rest.is_empty() {
            rest = bytes;
        }
    }
    taken
}

async fn a_slow_client_holds_up(head: &str, data: &[u8]) {
    let (mut servers, router) = start(1).await;
    let mut client = Client::connect_with_small_buffer(router.addr).await;
    client.post(super::CHAT, super::BODY).await;
    let mut exchange = servers.next().await;
    exchange.send(head).await;
    exchange.send(chunk(data)).await;
    client.head().await;
    let before = router.resident_bytes();
    let taken = write_until_held_up(&mut exchange, &chunk(data)).await;
    assert!(taken < ON_THE_WAY_MAX, "{taken} bytes are on the way");
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the router has grown by {grown} bytes");
    // It reads on: all is there, unharmed, and the server may write on.
    let mut read = 0;
    while read < taken - 2 * data.len() {
        read += client.data().await.len();
    }
    timeout(PATIENCE, exchange.socket().writable()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_client_of_an_event_stream_holds_up_its_server() {
    let event = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(60_000));
    a_slow_client_holds_up(STREAM, event.as_bytes()).await;
}

#[tokio::test]
async fn a_slow_client_of_any_other_body_holds_up_its_server() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\ntransfer-encoding: chunked\r\n\r\n";
    a_slow_client_holds_up(head, &[7; 60_000]).await;
}

#[tokio::test]
async fn an_event_without_end_is_not_collected() {
    let (mut servers, router) = start(1).await;
    let (mut client, mut exchange) = asked(&mut servers, &router).await;
    let before = router.resident_bytes();
    exchange.send(STREAM).await;
    exchange.send(chunk("data: ")).await;
    let length = 64 * MIB;
    let reading = tokio::spawn(async move {
        client.head().await;
        let mut read = 0;
        while read < length {
            match client.chunk().await {
                Chunk::Data(data) => read += data.len(),
                other => panic!("{other:?} after {read} bytes"),
            }
        }
        client
    });
    let piece = chunk("y".repeat(MIB));
    for _ in 0..length / MIB {
        exchange.send(&piece).await;
    }
    let _client = reading.await.unwrap();
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the router has grown by {grown} bytes");
}
