//! Reports for the tests.

use std::sync::Arc;
use std::time::Duration;

use super::input::{Input, meaning};
use super::keyboard::Key;
use super::source::News;
use super::state::{Models, State};
use crate::status::{
    Admission, EventLine, HealthWord, Phase, RequestUnderWay, ServerStatus, Severity, StatusReport,
    Traffic,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A healthy server with `usage` percent of 64 requests.
pub(super) fn server(name: &str, usage: f64) -> ServerStatus {
    let load = (usage * 0.64).round() as u64;
    let history = |second: u16| (f64::from(second % 30) / 30.0 * usage) as f32;
    ServerStatus {
        url: format!("http://{name}:8000"),
        health: HealthWord::Healthy,
        reason: None,
        since_seconds: None,
        admission: Admission::Open,
        models: vec!["Qwen/Qwen3-32B".to_owned()],
        running: load.min(52),
        waiting: load.saturating_sub(52),
        capacity: 64,
        usage_percent: usage,
        in_flight: load as u32,
        kv_cache_usage: Some(usage / 120.0),
        prefix_cache_hit_rate: Some(0.34),
        traffic: Traffic {
            requests_per_second: usage / 10.0,
            ttft_p50_seconds: Some(0.12),
            ttft_p99_seconds: Some(1.31),
            output_tokens_per_second: usage * 21.0,
            retries: 1,
            errors: 0,
        },
        usage_history: (0..60).map(history).collect(),
    }
}

pub(super) fn unhealthy(name: &str) -> ServerStatus {
    ServerStatus {
        health: HealthWord::Unhealthy,
        reason: Some("connection refused".to_owned()),
        since_seconds: Some(130.0),
        kv_cache_usage: None,
        prefix_cache_hit_rate: None,
        traffic: Traffic::default(),
        ..server(name, 0.0)
    }
}

pub(super) fn fleet() -> Vec<ServerStatus> {
    vec![server("gpu-1", 46.875), server("gpu-2", 75.0), server("gpu-3", 93.75)]
}

pub(super) fn report(servers: Vec<ServerStatus>) -> StatusReport {
    let event = |time: &str, severity, text: &str| EventLine {
        time: time.to_owned(),
        severity,
        text: text.to_owned(),
    };
    StatusReport {
        version: "0.2.0".to_owned(),
        time: "2026-11-23T16:36:45.123456".to_owned(),
        uptime_seconds: 274_820.0,
        servers,
        silence_is_ours: false,
        traffic: Traffic {
            requests_per_second: 21.6,
            ttft_p50_seconds: Some(0.118),
            ttft_p99_seconds: Some(1.314),
            output_tokens_per_second: 4_530.0,
            retries: 3,
            errors: 1,
        },
        events: vec![
            event("16:30:04", Severity::Info, "listening on http://0.0.0.0:8888"),
            event("16:31:32", Severity::Error, "http://gpu-2:8000 is unhealthy"),
            event("16:32:10", Severity::Warning, "http://gpu-1:8000 is draining"),
        ],
        slowest: vec![
            request("req-1", 243.0, Phase::Answering, 1),
            request("req-2", 61.5, Phase::Waiting, 2),
        ],
    }
}

fn request(id: &str, age_seconds: f64, phase: Phase, attempts: u32) -> RequestUnderWay {
    RequestUnderWay {
        id: id.to_owned(),
        age_seconds,
        server: Some("http://gpu-1:8000".to_owned()),
        model: Some("Qwen/Qwen3-32B".to_owned()),
        path: "/v1/chat/completions".to_owned(),
        phase,
        attempts,
    }
}

/// A state that has just got a report of `servers`.
pub(super) fn state(servers: Vec<ServerStatus>) -> State {
    let mut state = State::new("the router".to_owned(), Models::Hidden);
    learn(&mut state, servers, Duration::ZERO);
    state
}

pub(super) fn learn(state: &mut State, servers: Vec<ServerStatus>, now: Duration) {
    let news = News::Report(Arc::new(report(servers)));
    assert_eq!(state.apply(Input::News(news), now), None);
}

/// Presses the keys of `typed` in turn; `\n` is Enter, and `\x1b` Esc.
pub(super) fn press(state: &mut State, typed: &str) {
    for letter in typed.chars() {
        let key = match letter {
            '\n' => Key::Enter,
            '\x1b' => Key::Esc,
            letter => Key::Char(letter),
        };
        let input = meaning(key, state.keys());
        let done = input.and_then(|input| state.apply(input, Duration::ZERO));
        assert_eq!(done, None, "{typed:?} is for keys that only change the state");
    }
}
