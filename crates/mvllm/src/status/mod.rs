//! `GET /status`: one report of everything that a person wants to see at a glance. The monitor in
//! this process, `mvllm top` on another machine and the page all draw this and nothing else.

mod collector;
mod minute;

use serde::{Deserialize, Serialize};

pub(crate) use collector::{Collector, fault_in_words};

/// The state of the router and its fleet. All times are in seconds, all rates per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// mvllm's version.
    pub(crate) version: String,
    /// Local time of the report, ISO 8601 without a zone.
    pub(crate) time: String,
    /// Since the router was started.
    pub(crate) uptime_seconds: f64,
    /// In the order of the configuration.
    pub(crate) servers: Vec<ServerStatus>,
    /// Whether more than half of the servers are silent at once, so that the router itself may be at
    /// fault, and goes on sending them requests. Older routers do not say.
    #[serde(default)]
    pub(crate) silence_is_ours: bool,
    /// What the router sees of the requests, all servers together.
    pub(crate) traffic: Traffic,
    /// The newest last; bounded.
    pub(crate) events: Vec<EventLine>,
    /// The oldest requests under way, oldest first; bounded.
    pub(crate) slowest: Vec<RequestUnderWay>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    pub(crate) url: String,
    pub(crate) health: HealthWord,
    /// Why it is not healthy, in a few words.
    pub(crate) reason: Option<String>,
    /// How long it has been in this state, where it is not healthy.
    pub(crate) since_seconds: Option<f64>,
    pub(crate) admission: Admission,
    pub(crate) models: Vec<String>,
    /// Requests being worked on, and in the server's queue (from `/metrics`, corrected by what this
    /// router has sent and seen end since).
    pub(crate) running: u64,
    pub(crate) waiting: u64,
    /// `max_concurrent_requests`.
    pub(crate) capacity: u32,
    /// `(running + waiting) / capacity`, in percent; may be above 100.
    pub(crate) usage_percent: f64,
    /// Requests of this router at the server now.
    pub(crate) in_flight: u32,
    /// Share of the KV cache that running requests hold, 0 to 1.
    pub(crate) kv_cache_usage: Option<f64>,
    /// Share of prompt tokens found in the prefix cache lately, 0 to 1.
    pub(crate) prefix_cache_hit_rate: Option<f64>,
    pub(crate) traffic: Traffic,
    /// `usage_percent`, once a second, the newest last; at most a minute or two.
    pub(crate) usage_history: Vec<f32>,
}

/// Figures over the last minute (or since the start, if shorter).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) requests_per_second: f64,
    pub(crate) ttft_p50_seconds: Option<f64>,
    pub(crate) ttft_p99_seconds: Option<f64>,
    /// Tokens that the servers generated, by their own counters.
    pub(crate) output_tokens_per_second: f64,
    /// Attempts that failed and were repeated elsewhere.
    pub(crate) retries: u64,
    /// Requests that ended in an error that the client saw.
    pub(crate) errors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthWord {
    Healthy,
    Checking,
    Unhealthy,
}

/// Whether the operator lets a server have new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Admission {
    /// As a matter of course.
    Open,
    /// No new ones (cordoned).
    Cordoned,
    /// No new ones, and those under way are still to finish.
    Draining,
    /// No new ones, and none under way any more.
    Drained,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventLine {
    /// Local time of day, `HH:MM:SS`.
    pub(crate) time: String,
    pub(crate) severity: Severity,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestUnderWay {
    pub(crate) id: String,
    pub(crate) age_seconds: f64,
    /// Where it is now, if it is anywhere.
    pub(crate) server: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) path: String,
    pub(crate) phase: Phase,
    /// Attempts so far, the present one included.
    pub(crate) attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Nothing of the answer has come yet.
    Waiting,
    /// The answer is on its way to the client.
    Answering,
}
