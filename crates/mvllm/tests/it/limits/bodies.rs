//! What all request bodies may take together, and how slowly one may come.

use crate::client::{Client, post};
use crate::eventually::within_patience;
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::Router;

use super::start;

const MIB: usize = 1024 * 1024;

const BOTH_DIALECTS: [(&str, &str); 2] =
    [("/v1/completions", "http_error"), ("/v1/messages", "overloaded_error")];

async fn sends(router: &Router, length: usize) -> Client {
    let mut client = Client::connect(router.addr).await;
    client.send(post("/v1/completions", &vec![b' '; length])).await;
    client
}

fn holds(bytes: usize) -> String {
    format!("mvllm_buffered_body_bytes {bytes}")
}

#[tokio::test]
async fn bodies_that_would_take_too_much_together_are_refused_until_there_is_room() {
    let (mut servers, router) = start("max_buffered_body_bytes = 10000").await;
    let mut first = sends(&router, 6000).await;
    let exchange = servers.next().await;
    router.counts(&holds(6000)).await;
    for (path, kind) in BOTH_DIALECTS {
        let mut client = Client::connect(router.addr).await;
        client.send(post(path, &[b' '; 5000])).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("1")));
        assert_eq!(answer.json()["error"]["type"], kind);
    }
    router.counts("mvllm_refusals_total{reason=\"no_room\"} 2").await;
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(first.answer().await.status(), 200);
    router.counts(&holds(0)).await;
    let _fits = sends(&router, 10_000).await;
    assert_eq!(servers.next().await.body.len(), 10_000);
}

#[tokio::test]
async fn what_can_never_fit_is_too_large() {
    let (_servers, router) = start("max_buffered_body_bytes = 10000").await;
    assert_eq!(sends(&router, 10_001).await.answer().await.status(), 413);
}

#[tokio::test]
async fn an_upload_that_was_only_announced_holds_nothing() {
    let (mut servers, router) = start("max_buffered_body_bytes = 10000").await;
    let mut announced = Client::connect(router.addr).await;
    let head = "POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 9000\r\n\r\n";
    announced.send(head).await;
    router.counts("mvllm_requests_under_way 1").await;
    let _other = sends(&router, 9000).await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    router.counts(&holds(0)).await;
    announced.send_more(vec![b' '; 9000]).await;
    assert_eq!(servers.next().await.body.len(), 9000);
}

#[tokio::test]
async fn a_large_upload_that_has_begun_has_room_to_its_end() {
    let (mut servers, router) = start("max_buffered_body_bytes = 4000000").await;
    let body = vec![b' '; 3 * MIB];
    let whole = post("/v1/completions", &body);
    let (begun, rest) = whole.split_at(whole.len() - MIB);
    let mut first = Client::connect(router.addr).await;
    first.send(begun).await;
    // More than has arrived: the whole of it.
    router.counts(&holds(3 * MIB)).await;
    assert_eq!(sends(&router, MIB).await.answer().await.status(), 503);
    first.send_more(rest).await;
    assert_eq!(servers.next().await.body.len(), body.len());
}

/// Every way out gives back what the body held.
#[tokio::test]
async fn the_room_of_a_body_is_given_back_whatever_becomes_of_its_request() {
    let (mut servers, router) = start("max_body_bytes = 100000\nclient_body_timeout = 1").await;
    let half = post("/v1/completions", &[b' '; 50_000]);
    // The client leaves while it sends; and while it waits.
    let mut client = Client::connect(router.addr).await;
    client.send(&half[..40_000]).await;
    router.counts(&holds(50_000)).await;
    drop(client);
    router.counts(&holds(0)).await;
    let client = sends(&router, 50_000).await;
    let exchange = servers.next().await;
    router.counts(&holds(50_000)).await;
    drop(client);
    router.counts(&holds(0)).await;
    drop(exchange);
    // Too large, when nobody could know before.
    let mut client = Client::connect(router.addr).await;
    client
        .send("POST /v1/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..11 {
        client.send_more(crate::raw_server::chunk([b' '; 10_000])).await;
    }
    assert_eq!(client.answer().await.status(), 413);
    router.counts(&holds(0)).await;
    // Too slow.
    let mut client = Client::connect(router.addr).await;
    client.send(&half[..1000]).await;
    assert_eq!(client.answer().await.status(), 408);
    router.counts(&holds(0)).await;
    // The only server fails.
    let mut client = sends(&router, 50_000).await;
    servers.next().await.reset();
    assert_eq!(client.answer().await.status(), 502);
    router.counts(&holds(0)).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_refused_in_the_dialect_of_its_path() {
    let (mut servers, router) = start("client_body_timeout = 1").await;
    for (path, kind) in [("/v1/completions", "http_error"), ("/v1/messages", "timeout_error")] {
        let mut client = Client::connect(router.addr).await;
        client.send(&post(path, &[b' '; 1000])[..500]).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 408);
        assert_eq!(answer.json()["error"]["type"], kind);
        // What it still sends is not taken for a request.
        client.rest().await;
    }
    router.counts("mvllm_refusals_total{reason=\"body_too_slow\"} 2").await;
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn many_large_uploads_at_once_are_shed_and_the_rest_arrives() {
    let servers = RawServers::start(1).await.answer_all(|exchange| {
        json_answer(200, &format!("{{\"length\":{}}}", exchange.body.len()))
    });
    // Room for four at a time.
    let router = Router::before(&servers.addrs, "max_buffered_body_bytes = 34000000").await;
    let before = router.resident_bytes();
    let length = 8 * MIB;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let addr = router.addr;
        clients.spawn(async move {
            let mut client = Client::connect(addr).await;
            client.send(post("/v1/completions", &vec![b' '; length])).await;
            client.try_head().await.map(|head| head.status())
        });
    }
    let outcomes = within_patience("all answers", clients.join_all()).await;
    // A client that was refused in the middle of its upload may see its connection reset before
    // the answer.
    let answered = outcomes.iter().filter(|status| **status == Some(200)).count();
    assert!(answered >= 4, "{answered} of 24 uploads arrived");
    assert!(outcomes.iter().all(|status| matches!(status, None | Some(200 | 503))));
    router.counts(&holds(0)).await;
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the router has grown by {grown} bytes");
}
