//! Streamed answers whose server dies or falls silent in their middle: another carries them on, and
//! the client sees one stream.

use std::net::SocketAddr;

use mvllm_sim::{Death, Fault, SimServer};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, ask_json};
use crate::router::Router;
use crate::sims::{SimProcess, addrs, sims};
use crate::wire::End;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const TOKENS: usize = 60;

/// A stream is asked for until it was one that broke. A server that failed is avoided for a while,
/// so now one and now the other is to die; where it is still a lot, 64 wrong ones in a row are not
/// drawn.
const TRIES: usize = 64;

fn body(path: &str) -> Value {
    let mut body = json!({
        "model": "sim",
        "max_tokens": TOKENS,
        "ignore_eos": true,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    match path {
        CHAT => body["messages"] = json!([{ "role": "user", "content": "How are you?" }]),
        _ => body["prompt"] = json!("Tell me of a server. "),
    }
    body
}

fn with(mut body: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// What a client makes of a stream.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    finish: Value,
    /// Of the prompt, of the answer, and both.
    usage: Vec<Value>,
    /// What all events are to have in common.
    heads: Vec<Value>,
    introductions: usize,
    is_done: bool,
}

impl Told {
    fn of(stream: &str) -> Self {
        let mut told = Self {
            text: String::new(),
            finish: Value::Null,
            usage: Vec::new(),
            heads: Vec::new(),
            introductions: 0,
            is_done: false,
        };
        for event in stream.split_terminator("\n\n") {
            assert!(!told.is_done, "{event}");
            match event.strip_prefix("data: ").unwrap() {
                "[DONE]" => told.is_done = true,
                data => told.take(&serde_json::from_str(data).unwrap()),
            }
        }
        told
    }

    fn take(&mut self, event: &Value) {
        assert!(event.get("error").is_none(), "{event}");
        let names = ["id", "object", "created", "model"];
        let head = Value::from_iter(names.map(|name| event[name].clone()));
        if !self.heads.contains(&head) {
            self.heads.push(head);
        }
        for choice in event["choices"].as_array().unwrap() {
            assert_eq!(choice.get("token_ids").unwrap_or(&Value::Null), &Value::Null);
            let text = choice.get("text").unwrap_or(&choice["delta"]["content"]);
            self.text += text.as_str().unwrap();
            self.introductions += usize::from(choice["delta"]["role"] == "assistant");
            if !choice["finish_reason"].is_null() {
                self.finish = choice["finish_reason"].clone();
            }
        }
        if let Some(usage) = event.get("usage") {
            let names = ["prompt_tokens", "completion_tokens", "total_tokens"];
            self.usage = names.map(|name| usage[name].clone()).to_vec();
        }
    }

    /// But for what differs from request to request.
    fn substance(&self) -> (&str, &Value, &[Value], usize, usize, bool) {
        let heads = self.heads.len();
        (&self.text, &self.finish, &self.usage, self.introductions, heads, self.is_done)
    }
}

/// The whole stream, and how its body ended.
async fn stream(addr: SocketAddr, path: &str, body: &Value) -> (String, End) {
    let answer = ask_json(addr, path, body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    (answer.text(), answer.end)
}

async fn undisturbed(sim: &SimServer, path: &str, body: &Value) -> Told {
    let (stream, end) = stream(sim.addr(), path, body).await;
    assert_eq!(end, End::Proper);
    Told::of(&stream)
}

async fn counted(router: &Router, outcome: &str) -> u64 {
    let page = router.get("/metrics").await.text();
    let name = format!("mvllm_stream_continuations_total{{outcome=\"{outcome}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
    line.parse().unwrap()
}

/// A router that does not mind how many streams break.
async fn router(servers: &[SimServer], tuning: &str) -> Router {
    Router::before(&addrs(servers), &format!("failure_threshold = 1000\n{tuning}")).await
}

/// The streams of two servers of which one dies after so many events, until one was seen whose
/// server did and which came to `outcome`; each is checked.
async fn dies_after(
    (sims, router): (&[SimServer], &Router),
    (path, body): (&str, &Value),
    (events, how): (u32, Death),
    (outcome, check): (&str, impl Fn(&str, End)),
) {
    let before = counted(router, outcome).await;
    for nth in 0..TRIES {
        let dying = &sims[nth % sims.len()];
        dying.set_fault(Fault::DieAfterEvents { events, how }, Some(1));
        let (stream, end) = stream(router.addr, path, body).await;
        dying.set_fault(Fault::Healthy, None);
        if counted(router, outcome).await > before {
            return check(&stream, end);
        }
    }
    panic!("the server that dies was never chosen");
}

async fn survives(
    setting: (&[SimServer], &Router),
    (path, body): (&str, &Value),
    death: (u32, Death),
) {
    let right = undisturbed(&setting.0[1], path, body).await;
    let check = |stream: &str, end| {
        assert_eq!(end, End::Proper, "{death:?}: {stream}");
        assert_eq!(Told::of(stream).substance(), right.substance(), "{death:?}");
    };
    dies_after(setting, (path, body), death, ("resumed", check)).await;
}

#[tokio::test]
async fn a_stream_goes_on_wherever_its_server_dies() {
    let sims = sims(2);
    let router = router(&sims, "").await;
    for path in [CHAT, COMPLETIONS] {
        for events in [1, 2, 3, 30, TOKENS as u32 - 1] {
            survives((&sims, &router), (path, &body(path)), (events, Death::Reset)).await;
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_however_its_server_dies() {
    let sims = sims(2);
    let router = router(&sims, "").await;
    for how in [Death::Reset, Death::Truncated, Death::NoDone, Death::ErrorEvent] {
        survives((&sims, &router), (CHAT, &body(CHAT)), (20, how)).await;
    }
}

#[tokio::test]
async fn a_stream_goes_on_by_its_text() {
    let sims = sims(2);
    let router = router(&sims, "continue_streams = \"text\"").await;
    for path in [CHAT, COMPLETIONS] {
        for events in [2, 30] {
            survives((&sims, &router), (path, &body(path)), (events, Death::Truncated)).await;
        }
    }
}

#[tokio::test]
async fn stop_strings_limits_of_the_context_and_running_usage_are_as_without_a_death() {
    let sims = sims(2);
    let router = router(&sims, "").await;
    let chat = body(CHAT);
    let running = json!({ "include_usage": true, "continuous_usage_stats": true });
    for change in [
        json!({ "stop": ["never said", "."] }),
        json!({ "stop": "a text that is not there" }),
        json!({ "max_tokens": null, "ignore_eos": false }),
        json!({ "stream_options": running }),
        json!({ "stream_options": null }),
    ] {
        survives((&sims, &router), (CHAT, &with(chat.clone(), &change)), (4, Death::Reset)).await;
    }
}

#[tokio::test]
async fn what_is_missing_of_the_end_is_added_without_another_server() {
    let sims = sims(2);
    let router = router(&sims, "").await;
    for path in [CHAT, COMPLETIONS] {
        let body = body(path);
        let right = undisturbed(&sims[1], path, &body).await;
        let all = TOKENS as u32 + u32::from(path == CHAT);
        // Without usage and end, and without the end.
        for events in [all, all + 1] {
            let check = |stream: &str, end| {
                assert_eq!(end, End::Proper, "{stream}");
                assert_eq!(Told::of(stream).substance(), right.substance());
            };
            let death = (events, Death::Reset);
            dies_after((&sims, &router), (path, &body), death, ("ended", check)).await;
        }
    }
}

#[tokio::test]
async fn an_undisturbed_stream_is_the_servers_own_to_the_byte() {
    let sims = sims(1);
    let router = router(&sims, "").await;
    for path in [CHAT, COMPLETIONS] {
        let bytes = |(stream, _): (String, End)| {
            let event: Value = serde_json::from_str(
                stream.strip_prefix("data: ").unwrap().split("\n\n").next().unwrap(),
            )
            .unwrap();
            let (id, created) = (event["id"].as_str().unwrap(), event["created"].to_string());
            // The prompt is cached the second time.
            let stream = stream.split("\"usage\"").next().unwrap().to_owned();
            stream.replace(id, "id").replace(&created, "0")
        };
        let direct = bytes(stream(sims[0].addr(), path, &body(path)).await);
        assert_eq!(bytes(stream(router.addr, path, &body(path)).await), direct);
    }
}

#[tokio::test]
async fn what_cannot_be_carried_on_ends_in_an_error_as_ever() {
    let sims = sims(2);
    let error = |stream: &str, end| {
        assert_eq!(end, End::Broken, "{stream}");
        assert!(stream.contains("\"error\"") && !stream.contains("[DONE]"), "{stream}");
    };
    let off = router(&sims, "continue_streams = \"off\"").await;
    let death = (5, Death::Reset);
    let chat = body(CHAT);
    dies_after((&sims, &off), (CHAT, &chat), death, ("impossible", error)).await;
    let router = router(&sims, "").await;
    for change in [
        json!({ "logprobs": true }),
        json!({ "n": 2, "temperature": 1 }),
        json!({ "response_format": { "type": "json_object" } }),
    ] {
        let body = with(chat.clone(), &change);
        dies_after((&sims, &router), (CHAT, &body), death, ("impossible", error)).await;
    }
}

#[tokio::test]
async fn a_request_under_which_two_servers_died_is_not_carried_on_by_a_third() {
    let sims = sims(3);
    let router = router(&sims, "").await;
    for sim in &sims {
        sim.set_fault(Fault::DieAfterEvents { events: 10, how: Death::Reset }, Some(1));
    }
    let (stream, end) = stream(router.addr, CHAT, &body(CHAT)).await;
    assert_eq!(end, End::Broken, "{stream}");
    assert_eq!(stream.matches("\"role\":\"assistant\"").count(), 1, "{stream}");
    assert_eq!((counted(&router, "resumed").await, counted(&router, "impossible").await), (1, 0));
    assert_eq!(counted(&router, "failed").await, 1);
}

/// A client that has had so many events of a stream, and on which of the servers it is.
async fn begun(router: &Router, servers: &[SocketAddr], events: usize) -> (Client, String, usize) {
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, with(body(CHAT), &json!({ "max_tokens": 2000 })).to_string()).await;
    client.head().await;
    let mut told = String::new();
    while told.matches("\n\n").count() < events {
        told += &String::from_utf8(client.data().await).unwrap();
    }
    for (nth, server) in servers.iter().enumerate() {
        if router.load_of(*server).await["current_load"] == 1 {
            return (client, told, nth);
        }
    }
    panic!("the stream is at no server");
}

/// The rest of a chunked body.
async fn rest(client: &mut Client, mut told: String) -> String {
    while let crate::wire::Chunk::Data(data) = client.chunk().await {
        told += &String::from_utf8(data).unwrap();
    }
    told
}

#[tokio::test]
async fn killed_and_stopped_processes_are_survived() {
    for signal in [Signal::KILL, Signal::STOP] {
        let servers = [SimProcess::start().await, SimProcess::start().await];
        let listed = [servers[0].addr, servers[1].addr];
        let router = Router::before(&listed, "request_timeout = 1").await;
        let (mut client, told, at) = begun(&router, &listed, 10).await;
        servers[at].process.signal(signal);
        let told = Told::of(&rest(&mut client, told).await);
        let whole = with(body(CHAT), &json!({ "max_tokens": 2000 }));
        let (right, _) = stream(servers[1 - at].addr, CHAT, &whole).await;
        assert_eq!(told.substance(), Told::of(&right).substance(), "{signal:?}");
        router.idle().await;
    }
}
