//! Requests that two parsers may read differently: never do two requests reach a server where a
//! client sent one, and never is the second hidden in the first.

use crate::client::Client;
use crate::raw_server::json as json_answer;

use super::start;

/// What may become of an odd request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Refused, or the connection closed.
    Refused,
    /// Passed on as the one request that it is, with this body.
    One(&'static str),
}

/// Sends the bytes. A marker request on another connection shows when all has arrived that will.
async fn check(name: &str, bytes: &str, allowed: &[Fate]) {
    let (mut servers, router) = start("").await;
    let mut client = Client::connect(router.addr).await;
    client.send(bytes).await;
    let mut marker = Client::connect(router.addr).await;
    let mut bodies = Vec::new();
    let refused = {
        let odd = async {
            let head = client.try_head().await;
            head.is_none_or(|head| (400..500).contains(&head.status()))
        };
        let answering = async {
            loop {
                let exchange = servers.next().await;
                bodies.push(String::from_utf8_lossy(&exchange.body).into_owned());
                assert!(!exchange.head.first_line.contains("smuggled"), "{name}: {exchange:?}");
                exchange.respond(json_answer(200, "{}")).await;
            }
        };
        tokio::select! {
            refused = odd => refused,
            () = answering => false,
        }
    };
    marker.post("/v1/marker", "marker").await;
    loop {
        let exchange = servers.next().await;
        let (_, target) = exchange.head.request();
        assert!(!target.contains("smuggled"), "{name}: {exchange:?}");
        if target == "/v1/marker" {
            break;
        }
    }
    let fate = match &bodies[..] {
        [] if refused => Fate::Refused,
        [_] if refused => panic!("{name}: passed on and refused"),
        [body] => {
            let same = |fate: &&Fate| matches!(fate, Fate::One(allowed) if allowed == body);
            *allowed.iter().find(same).unwrap_or_else(|| panic!("{name}: arrived as {body:?}"))
        }
        more => panic!("{name}: {more:?}"),
    };
    assert!(allowed.contains(&fate), "{name}: {fate:?}");
}

#[tokio::test]
async fn a_length_beside_chunks_hides_no_second_request() {
    // RFC 9112, section 6.3: the coding overrides the length, or the request is refused.
    let hidden = "GET /v1/smuggled HTTP/1.1\r\nhost: r\r\n\r\n";
    for (name, fields) in [
        ("length first", "content-length: 4\r\ntransfer-encoding: chunked\r\n"),
        ("length last", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"),
    ] {
        let request = format!("POST /v1/x HTTP/1.1\r\nhost: r\r\n{fields}\r\n");
        let body = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        check(name, &(request + &body), &[Fate::Refused, Fate::One(hidden)]).await;
    }
}

const HIDDEN: &str = "GET /v1/smuggled HTTP/1.1\r\nhost: r\r\n\r\n";

#[tokio::test]
async fn requests_whose_length_is_in_doubt_are_refused() {
    for (name, fields) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 41\r\n"),
        ("two lengths in one", "content-length: 0, 41\r\n"),
        ("a length with a sign", "content-length: +41\r\n"),
        ("a negative length", "content-length: -1\r\n"),
        ("no number", "content-length: 0x29\r\n"),
        ("an empty length", "content-length: \r\n"),
        ("an enormous length", "content-length: 99999999999999999999999999\r\n"),
        ("an unknown coding", "transfer-encoding: chunked, identity\r\n"),
        ("not chunked", "transfer-encoding: xchunked\r\n"),
    ] {
        let request = format!("POST /v1/x HTTP/1.1\r\nhost: r\r\n{fields}\r\n{HIDDEN}");
        check(name, &request, &[Fate::Refused]).await;
    }
}

#[tokio::test]
async fn broken_chunks_are_refused() {
    for (name, chunks) in [
        ("no hex", "zz\r\nabc\r\n0\r\n\r\n"),
        ("a sign", "-1\r\nabc\r\n0\r\n\r\n"),
        ("a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("too long a size", "fffffffffffffffff1\r\nabc\r\n0\r\n\r\n"),
        ("too little data", "2\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ] {
        let request =
            format!("POST /v1/x HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        check(name, &(request + HIDDEN), &[Fate::Refused]).await;
    }
}

#[tokio::test]
async fn broken_header_fields_are_refused() {
    for (name, fields) in [
        ("a folded line", "x-a: 1\r\n transfer-encoding: chunked\r\n"),
        ("NUL in a value", "x-a: 1\0 2\r\n"),
        ("a bare CR", "x-a: 1\rtransfer-encoding: chunked\r\n"),
        ("a blank in a name", "transfer encoding: chunked\r\n"),
        ("a blank before the colon", "transfer-encoding : chunked\r\n"),
        ("no colon", "transfer-encoding\r\n"),
        ("no name", ": chunked\r\n"),
    ] {
        let request = format!("GET /v1/x HTTP/1.1\r\nhost: r\r\n{fields}\r\n");
        check(name, &(request + HIDDEN), &[Fate::Refused]).await;
    }
}

#[tokio::test]
async fn requests_sent_in_one_go_arrive_one_after_the_other() {
    let (mut servers, router) = start("").await;
    let mut client = Client::connect(router.addr).await;
    let request = |nth: u32| format!("GET /v1/x?{nth} HTTP/1.1\r\nhost: r\r\n\r\n");
    client.send([request(1), request(2), request(3)].concat()).await;
    for nth in 1..=3 {
        let exchange = servers.next().await;
        assert_eq!(exchange.head.request().1, format!("/v1/x?{nth}"));
        assert!(servers.arrived().is_none());
        exchange.respond(json_answer(200, &nth.to_string())).await;
        assert_eq!(client.answer().await.text(), nth.to_string());
    }
}
