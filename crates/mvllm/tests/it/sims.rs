//! Simulated servers, in this process and as processes of their own.

use std::net::SocketAddr;

use mvllm_sim::{SimConfig, SimServer, Stats};
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::router::{Process, mvllm};

/// A quick simulated server.
pub(crate) fn sim() -> SimServer {
    SimServer::start_on_free_port(SimConfig::fast()).unwrap()
}

/// Some quick simulated servers.
pub(crate) fn sims(count: usize) -> Vec<SimServer> {
    (0..count).map(|_| sim()).collect()
}

pub(crate) fn addrs(sims: &[SimServer]) -> Vec<SocketAddr> {
    sims.iter().map(SimServer::addr).collect()
}

/// Waits until the server is as wanted.
pub(crate) async fn stats(sim: &SimServer, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
    eventually(&format!("{what} at a server"), || {
        std::future::ready(Some(sim.stats()).filter(&wanted))
    })
    .await
}

/// A simulated server in a process of its own, which signals can strike.
#[derive(Debug)]
pub(crate) struct SimProcess {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
}

impl SimProcess {
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        let port = port.to_string();
        let process =
            Process::start(mvllm().args(["sim", "--profile", "fast", "--port", port.as_str()]));
        let addr = process.says("simulated vLLM server on http://").await.trim().parse().unwrap();
        Self { process, addr }
    }
}

/// A chat request that gets exactly so many tokens.
pub(crate) fn chat(max_tokens: usize, stream: bool) -> Value {
    json!({
        "model": "sim",
        "messages": [{ "role": "user", "content": "How are you?" }],
        "max_tokens": max_tokens,
        "ignore_eos": true,
        "stream": stream,
    })
}
