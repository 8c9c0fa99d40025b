//! The simulated server over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod client;
mod faults;
mod generation;
mod lifecycle;
mod other_endpoints;

use std::time::Duration;

use mvllm_sim::{SimConfig, SimServer, Stats};
use serde_json::{Value, json};

use client::PATIENCE;

fn server() -> SimServer {
    SimServer::start_on_free_port(SimConfig::fast()).unwrap()
}

fn chat(max_tokens: usize) -> Value {
    json!({
        "model": "sim",
        "messages": [{ "role": "user", "content": "How are you?" }],
        "max_tokens": max_tokens,
        "ignore_eos": true,
    })
}

fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

/// Waits until the server is as wanted: its own counts are the event, and they cannot be subscribed to.
async fn until(server: &SimServer, wanted: impl Fn(&Stats) -> bool) -> Stats {
    let watch = async {
        loop {
            let stats = server.stats();
            if wanted(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.unwrap()
}
