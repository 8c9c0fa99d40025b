//! HTTP/2 that no honest client sends. Servers are spoken to in HTTP/1.1, where a field's value ends
//! at the end of its line: what HTTP/2 can carry and HTTP/1.1 cannot must not get there (RFC 9113,
//! section 8.2.1 and 10.3).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, bare};
use crate::eventually::within_patience;
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::Router;

use super::start;

/// RFC 9113, section 3.4; then an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Types of frames (section 6), and the flags of them that are used here.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A text as HPACK has it (RFC 7541, section 5.2), without Huffman's code.
fn text(text: &str) -> Vec<u8> {
    const PREFIX: usize = 127;
    let mut bytes = Vec::new();
    match text.len().checked_sub(PREFIX) {
        None => bytes.push(text.len() as u8),
        Some(mut rest) => {
            bytes.push(PREFIX as u8);
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    [&bytes, text.as_bytes()].concat()
}

type Field<'a> = (&'a str, &'a str);

/// Literal fields that no table takes up (section 6.2.2).
fn block(fields: &[Field<'_>]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const POST: [Field<'_>; 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "r"), (":path", "/v1/x")];

/// The fields of a POST with one in the place of the pseudo field of that name.
fn but(name: &str, value: &'static str) -> Vec<Field<'static>> {
    POST.iter().map(|&(known, usual)| (known, if known == name { value } else { usual })).collect()
}

/// The fields of a POST, and more.
fn with(more: &[Field<'static>]) -> Vec<Field<'static>> {
    POST.iter().chain(more).copied().collect()
}

async fn connect(router: &Router) -> TcpStream {
    let mut stream = TcpStream::connect(router.addr).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream
}

/// Reads until the router has done with the stream, or with the connection.
async fn verdict(connection: &mut TcpStream, stream: u32) {
    let reads = async {
        loop {
            let mut head = [0; 9];
            if connection.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if connection.read_exact(&mut payload).await.is_err() {
                return;
            }
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == GOAWAY || (matches!(head[3], HEADERS | RST_STREAM) && of == stream) {
                return;
            }
        }
    };
    within_patience("a verdict", reads).await;
}

/// Whoever comes next is served as if nothing had happened.
async fn others_are_served(servers: &mut RawServers, router: &Router) {
    let mut other = Client::connect(router.addr).await;
    other.send(bare("GET", "/v1/marker")).await;
    loop {
        let exchange = servers.next().await;
        if exchange.head.request().1 == "/v1/marker" {
            exchange.respond(json_answer(200, "{}")).await;
            break;
        }
    }
    assert_eq!(other.answer().await.status(), 200);
}

/// The request ends at the router.
async fn is_refused(name: &str, fields: &[Field<'_>], body: &str) {
    let (mut servers, router) = start("").await;
    let mut connection = connect(&router).await;
    let head = frame(HEADERS, END_HEADERS, 1, &block(fields));
    let data = frame(DATA, END_STREAM, 1, body.as_bytes());
    connection.write_all(&[head, data].concat()).await.unwrap();
    tokio::select! {
        () = verdict(&mut connection, 1) => {}
        exchange = servers.next() => panic!("{name}: arrived as {exchange:?}"),
    }
    assert!(servers.arrived().is_none(), "{name}");
    others_are_served(&mut servers, &router).await;
}

#[tokio::test]
async fn an_honest_request_in_such_frames_arrives() {
    let (mut servers, router) = start("").await;
    let mut connection = connect(&router).await;
    let fields = with(&[("content-length", "2"), ("x-a", "1"), ("te", "trailers")]);
    let (start, end) = (block(&fields[..3]), block(&fields[3..]));
    let head = [frame(HEADERS, 0, 1, &start), frame(CONTINUATION, END_HEADERS, 1, &end)].concat();
    connection.write_all(&[head, frame(DATA, END_STREAM, 1, b"{}")].concat()).await.unwrap();
    let exchange = servers.next().await;
    assert_eq!(exchange.head.request(), ("POST", "/v1/x"));
    assert_eq!((exchange.head.get("x-a"), &exchange.body[..]), (Some("1"), &b"{}"[..]));
    exchange.respond(json_answer(200, "{}")).await;
    verdict(&mut connection, 1).await;
}

#[tokio::test]
async fn what_an_http_1_head_cannot_hold_is_refused() {
    const SMUGGLED: &str = "/v1/x HTTP/1.1\r\nhost: r\r\n\r\nGET /v1/smuggled";
    for (name, fields) in [
        ("a line end in a value", with(&[("x-a", "1\r\nx-smuggled: 1")])),
        ("a LF in a value", with(&[("x-a", "1\nx-smuggled: 1")])),
        ("a bare CR in a value", with(&[("x-a", "1\rx-smuggled: 1")])),
        ("NUL in a value", with(&[("x-a", "1\x002")])),
        ("a line end in a name", with(&[("x-a: 1\r\nx-smuggled", "1")])),
        ("a blank in a name", with(&[("x a", "1")])),
        ("a colon in a name", with(&[("x-a:", "1")])),
        ("an upper-case name", with(&[("X-A", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("a request in the path", but(":path", SMUGGLED)),
        ("a blank in the path", but(":path", "/v1/x y")),
        ("an empty path", but(":path", "")),
        ("a request in the method", but(":method", "GET /v1/smuggled HTTP/1.1\r\n\r\nPOST")),
        ("a line end in the authority", but(":authority", "r\r\nx-smuggled: 1")),
        ("a line end in the scheme", but(":scheme", "http\r\nx-smuggled: 1")),
    ] {
        is_refused(name, &fields, "").await;
    }
}

#[tokio::test]
async fn pseudo_fields_that_are_missing_doubled_late_or_unknown_are_refused() {
    let late = [&[("x-a", "1")], &POST[..]].concat();
    for (name, fields) in [
        ("no path", POST[..3].to_vec()),
        ("no method", POST[1..].to_vec()),
        ("two paths", with(&[(":path", "/v1/smuggled")])),
        ("two methods", with(&[(":method", "GET")])),
        ("behind a field", late),
        ("unknown", with(&[(":smuggled", "1")])),
        ("of an answer", with(&[(":status", "200")])),
    ] {
        is_refused(name, &fields, "").await;
    }
}

#[tokio::test]
async fn framing_of_http_1_and_false_lengths_are_refused() {
    for (name, more, body) in [
        ("chunked", ("transfer-encoding", "chunked"), "0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\n\r\n"),
        ("close", ("connection", "close"), ""),
        ("keep-alive", ("keep-alive", "timeout=5"), ""),
        ("upgrade", ("upgrade", "websocket"), ""),
        ("proxy", ("proxy-connection", "keep-alive"), ""),
        ("te", ("te", "gzip"), ""),
        ("too long a body", ("content-length", "3"), "GET /v1/smuggled HTTP/1.1\r\n\r\n"),
        ("too short a body", ("content-length", "300"), "{}"),
        ("no number", ("content-length", "2, 3"), "{}"),
        ("a sign", ("content-length", "+2"), "{}"),
    ] {
        is_refused(name, &with(&[more]), body).await;
    }
}

#[tokio::test]
async fn connect_is_no_way_out_in_http_2_either() {
    let fields = [(":method", "CONNECT"), (":authority", "example.com:443")];
    is_refused("CONNECT", &fields, "").await;
}

#[tokio::test]
async fn a_head_without_an_end_is_broken_off() {
    for (name, payload) in
        [("of fields", block(&[("x-a", "1")]).repeat(100)), ("of nothing", vec![])]
    {
        let (mut servers, router) = start("").await;
        let mut connection = connect(&router).await;
        connection.write_all(&frame(HEADERS, 0, 1, &block(&POST))).await.unwrap();
        let more = frame(CONTINUATION, 0, 1, &payload).repeat(100);
        // Ends in an error once the router has hung up, which it must: nothing else ends this.
        let floods = async { while connection.write_all(&more).await.is_ok() {} };
        within_patience(name, floods).await;
        assert!(servers.arrived().is_none(), "{name}");
        others_are_served(&mut servers, &router).await;
    }
}

#[tokio::test]
async fn ten_thousand_fields_are_refused() {
    let many: Vec<String> = (0..10_000).map(|nth| format!("x-{nth}")).collect();
    let fields: Vec<Field<'_>> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let (mut servers, router) = start("").await;
    let mut connection = connect(&router).await;
    let block = block(&[&POST[..], &fields].concat());
    let mut parts = block.chunks(16_000);
    let mut bytes = frame(HEADERS, END_STREAM, 1, parts.next().unwrap());
    let last = parts.len() - 1;
    for (nth, part) in parts.enumerate() {
        let flags = if nth == last { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, flags, 1, part));
    }
    // The router may have hung up before the end.
    let _ = connection.write_all(&bytes).await;
    verdict(&mut connection, 1).await;
    assert!(servers.arrived().is_none());

    let lines: String = many.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let mut client = Client::connect(router.addr).await;
    client.send(format!("GET /v1/x HTTP/1.1\r\nhost: r\r\n{lines}\r\n")).await;
    let status = client.try_head().await.map(|head| head.status());
    assert!(matches!(status, None | Some(431 | 400)), "{status:?}");
    assert!(servers.arrived().is_none());
    others_are_served(&mut servers, &router).await;
}

/// Opens streams and takes them back at once (CVE-2023-44487).
#[tokio::test]
async fn streams_that_are_taken_back_at_once_hold_nothing() {
    const STREAMS: u32 = 2_000;
    let (mut servers, router) = start("").await;
    let mut connection = connect(&router).await;
    let fields = block(&but(":method", "GET"));
    for nth in 0..STREAMS {
        let stream = 2 * nth + 1;
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        let cancel = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        // The router may hang up at any time.
        if connection.write_all(&[open, cancel].concat()).await.is_err() {
            break;
        }
    }
    others_are_served(&mut servers, &router).await;
    router.idle().await;
}
