//! Bodies are bytes: whatever they say, they arrive as they were sent, both ways.

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::client::{Client, ask, post};
use crate::raw_server::{RawServers, json as json_answer};
use crate::router::Router;
use crate::wire::End;

use super::{echo, start};

/// Bodies in all, and how many connections share them.
const BODIES: usize = 10_000;
const CONNECTIONS: usize = 20;

#[tokio::test]
async fn ten_thousand_odd_bodies_come_back_as_they_were_sent() {
    let (_servers, router) = echo().await;
    let mut clients = JoinSet::new();
    for seed in 0..CONNECTIONS as u64 {
        let addr = router.addr;
        clients.spawn(async move {
            let mut random = Rng::with_seed(seed);
            let mut client = Client::connect(addr).await;
            for _ in 0..BODIES / CONNECTIONS {
                let body = body(&mut random);
                client.post("/v1/chat/completions", &body).await;
                let answer = client.answer().await;
                let same = answer.status() == 200 && answer.body == body;
                assert!(same, "seed {seed}: {}", String::from_utf8_lossy(&body));
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// Something like a request, as odd as JSON may be, and sometimes odder.
fn body(random: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    space(random, &mut text);
    text.push('{');
    let members = random.usize(0..8);
    for nth in 0..members {
        space(random, &mut text);
        if random.u8(..4) == 0 {
            // The one that the router reads. Twice is not forbidden.
            text.push_str("\"model\"");
            space(random, &mut text);
            text.push(':');
            space(random, &mut text);
            text.push_str("\"m\"");
        } else {
            text.push_str(random.choice(KEYS).unwrap());
            space(random, &mut text);
            text.push(':');
            value(random, &mut text, 0);
        }
        if nth + 1 < members {
            text.push(',');
        }
    }
    text.push('}');
    space(random, &mut text);
    let mut bytes = text.into_bytes();
    if random.u8(..20) == 0 {
        let cut = random.usize(..=bytes.len());
        bytes.truncate(cut);
    }
    bytes
}

const KEYS: &[&str] = &[
    "\"stream\"",
    "\"messages\"",
    "\"chat_template_kwargs\"",
    "\"\"",
    "\"a\\u0000\\n\\\"\"",
    "\"\\ud83e\\udd80\"",
    "\"ключ\"",
    "\"Model\"",
    "\"model \"",
    "\"__proto__\"",
];

const SCALARS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0e-0",
    "1e400",
    "1E+2",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "\"\"",
    "\"\\u00e9\\ud800\"",
    "\"\u{1f980}\u{feff}\u{200b}é\"",
    "\"data: [DONE]\\n\\n\"",
    "\"\\\"model\\\": \\\"other\\\"\"",
];

fn value(random: &mut Rng, text: &mut String, depth: usize) {
    space(random, text);
    match random.u8(..6) {
        0 if depth < 4 => {
            text.push('[');
            for nth in 0..random.usize(0..4) {
                if nth > 0 {
                    text.push(',');
                }
                value(random, text, depth + 1);
            }
            text.push(']');
        }
        1 if depth < 4 => {
            text.push('{');
            for nth in 0..random.usize(0..4) {
                if nth > 0 {
                    text.push(',');
                }
                // Not the top level: what `model` says here is nobody's business.
                text.push_str(if random.bool() { "\"model\":" } else { "\"x\":" });
                value(random, text, depth + 1);
            }
            text.push('}');
        }
        2 => {
            text.push('"');
            (0..random.usize(0..200)).for_each(|_| text.push(letter(random)));
            text.push('"');
        }
        _ => text.push_str(random.choice(SCALARS).unwrap()),
    }
    space(random, text);
}

fn letter(random: &mut Rng) -> char {
    match random.char(' '..) {
        '"' | '\\' => 'x',
        other => other,
    }
}

fn space(random: &mut Rng, text: &mut String) {
    const SPACES: &[&str] = &["", "", "", " ", "\n", "\r\n\t", "    "];
    text.push_str(random.choice(SPACES).unwrap());
}

#[tokio::test]
async fn bodies_that_are_no_text_at_all_come_back_as_they_were_sent() {
    let (_servers, router) = echo().await;
    let mut random = Rng::with_seed(7);
    for length in [1, 2, 1000, 65_535, 65_536, 3_000_000] {
        let body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let answer = ask(router.addr, post("/v1/files", &body)).await;
        assert!(answer.body == body && answer.end == End::Proper, "{length} bytes");
    }
}

#[tokio::test]
async fn a_chunked_body_arrives_whole_and_with_one_length() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send("POST /v1/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n").await;
    client.send_more("trailer: x-t\r\n\r\n").await;
    for part in ["{\"model\"", ":\"m\",", "\"prompt\":\"\u{1f980}", "\"}"] {
        client.send_more(format!("{:X};ext=1\r\n{part}\r\n", part.len())).await;
    }
    client.send_more("0\r\nx-t: 1\r\n\r\n").await;
    let exchange = servers.next().await;
    let whole = "{\"model\":\"m\",\"prompt\":\"\u{1f980}\"}";
    assert_eq!(String::from_utf8_lossy(&exchange.body), whole);
    assert_eq!(exchange.head.get("content-length"), Some(whole.len().to_string().as_str()));
    assert_eq!(exchange.head.get("transfer-encoding"), None);
    exchange.respond(json_answer(200, "{}")).await;
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let (mut servers, router) = start().await;
    let mut client = Client::connect(router.addr).await;
    client.send("POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n").await;
    client.send_more("expect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 100);
    client.send_more("{}").await;
    let exchange = servers.next().await;
    assert_eq!((exchange.head.get("expect"), exchange.body.as_slice()), (None, &b"{}"[..]));
    exchange.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn an_upload_goes_to_the_server_of_the_model_named_after_the_file() {
    let mut servers = RawServers::start(3).await;
    servers.say(1, |says| says.models = vec!["whisper".to_owned()]);
    let router = Router::before(&servers.addrs(), "").await;
    let mut body = b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
                     content-type: audio/wav\r\n\r\n"
        .to_vec();
    let mut random = Rng::with_seed(3);
    body.extend((0..5_000_000).map(|_| random.u8(..)));
    body.extend(
        b"\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n",
    );
    for _ in 0..3 {
        let mut client = Client::connect(router.addr).await;
        let head = format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: r\r\ncontent-length: {}\r\n\
             content-type: multipart/form-data; boundary=b\r\n\r\n",
            body.len()
        );
        client.send(head).await;
        client.send_more(&body).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.server, 1);
        assert!(exchange.body == body);
        assert_eq!(exchange.head.get("content-type"), Some("multipart/form-data; boundary=b"));
        exchange.respond(json_answer(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}
