//! `GET /load-stats`: what every server is doing now.

use mvllm_core::load::Load;
use mvllm_core::snapshot::ServerView;
use mvllm_core::time::Timestamp;
use serde::Serialize;

use super::status_word;
use super::wall::iso;
use crate::board::Published;
use crate::clock::Clock;

#[derive(Serialize)]
pub(super) struct Report {
    servers: Vec<Server>,
    summary: Summary,
}

#[derive(Serialize)]
struct Server {
    url: String,
    /// Requests running and waiting.
    current_load: u64,
    max_capacity: u64,
    available_capacity: u64,
    /// At most 100.
    utilization_percent: f64,
    status: bool,
    health_status: &'static str,
    last_updated: String,
    detailed_metrics: Metrics,
}

/// Of the latest scrape; zero before the first.
#[derive(Serialize)]
struct Metrics {
    num_requests_running: u64,
    num_requests_waiting: u64,
    gpu_cache_usage_perc: f64,
    process_max_fds: u64,
}

#[derive(Serialize)]
struct Summary {
    total_servers: usize,
    healthy_servers: usize,
    total_active_load: u64,
    total_capacity: u64,
    overall_utilization_percent: f64,
}

pub(super) fn report(published: &Published, clock: Clock) -> Report {
    let views = &published.fleet.servers;
    let servers: Vec<_> = views.iter().map(|server| describe(server, clock)).collect();
    let total_active_load = servers.iter().map(|server| server.current_load).sum();
    let total_capacity = servers.iter().map(|server| server.max_capacity).sum();
    let summary = Summary {
        total_servers: servers.len(),
        healthy_servers: servers.iter().filter(|server| server.status).count(),
        total_active_load,
        total_capacity,
        overall_utilization_percent: percent(total_active_load, total_capacity),
    };
    Report { servers, summary }
}

fn describe(server: &ServerView, clock: Clock) -> Server {
    let now = clock.now();
    let (Load { running, waiting }, _) = server.load(now);
    // Both are whole numbers; only their type is not.
    let current_load = (running + waiting) as u64;
    let max_capacity = u64::from(server.spec.capacity.get());
    let sample = server.sample();
    Server {
        url: server.spec.url.to_string(),
        current_load,
        max_capacity,
        available_capacity: max_capacity.saturating_sub(current_load),
        utilization_percent: percent(current_load, max_capacity).min(100.0),
        status: server.is_routable(),
        health_status: status_word(server.health),
        last_updated: iso(sample.map_or(Timestamp::ZERO, |sample| sample.sent_at), clock),
        detailed_metrics: Metrics {
            num_requests_running: sample.map_or(0, |sample| sample.running as u64),
            num_requests_waiting: sample.map_or(0, |sample| sample.waiting as u64),
            gpu_cache_usage_perc: sample.map_or(0.0, |sample| sample.kv_cache_usage),
            process_max_fds: server
                .reading
                .and_then(|reading| reading.process_max_fds)
                .unwrap_or(0),
        },
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}
