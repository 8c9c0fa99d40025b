//! `GET /health`: always 200, as in 0.1.0; the body tells. `/readyz` has a status that tells.

use mvllm_core::snapshot::{Models, ServerView};
use serde::Serialize;

use super::status_word;
use super::wall::iso;
use crate::board::Published;
use crate::clock::Clock;

/// From this share of healthy servers on the fleet is healthy, or merely degraded.
const HEALTHY_FROM: f64 = 0.8;
const DEGRADED_FROM: f64 = 0.5;

#[derive(Serialize)]
pub(super) struct Report {
    status: &'static str,
    health_score: f64,
    total_servers: usize,
    healthy_servers: usize,
    unhealthy_servers: usize,
    servers: Vec<Server>,
    config: Config,
}

#[derive(Serialize)]
struct Server {
    url: String,
    healthy: bool,
    health_status: &'static str,
    last_check: Option<String>,
    consecutive_failures: u32,
    success_rate: f64,
    /// Seconds, as is every time here.
    avg_response_time: f64,
    last_response_time: Option<f64>,
    total_checks: u64,
    supported_models: Vec<String>,
    models_last_updated: Option<String>,
}

#[derive(Serialize)]
struct Config {
    health_check_enabled: bool,
    health_check_interval: u64,
    min_success_rate: f64,
    max_response_time: f64,
}

pub(super) fn report(published: &Published, clock: Clock) -> Report {
    let servers: Vec<_> =
        published.fleet.servers.iter().map(|server| describe(server, clock)).collect();
    let healthy = servers.iter().filter(|server| server.healthy).count();
    let (status, health_score) = score(healthy, servers.len());
    let tuning = &published.settings.tuning;
    Report {
        status,
        health_score,
        total_servers: servers.len(),
        healthy_servers: healthy,
        unhealthy_servers: servers.len() - healthy,
        servers,
        config: Config {
            health_check_enabled: tuning.enable_active_health_check,
            health_check_interval: tuning.health_check_interval.as_secs(),
            min_success_rate: tuning.health_check_min_success_rate,
            max_response_time: tuning.health_check_max_response_time.as_secs_f64(),
        },
    }
}

fn score(healthy: usize, total: usize) -> (&'static str, f64) {
    if total == 0 {
        return ("no_servers", 0.0);
    }
    let share = healthy as f64 / total as f64;
    let word = match share {
        _ if share >= HEALTHY_FROM => "healthy",
        _ if share >= DEGRADED_FROM => "degraded",
        _ => "unhealthy",
    };
    (word, share)
}

fn describe(server: &ServerView, clock: Clock) -> Server {
    let figures = &server.figures;
    Server {
        url: server.spec.url.to_string(),
        healthy: server.is_routable(),
        health_status: status_word(server.health),
        last_check: figures.last_check.map(|at| iso(at, clock)),
        consecutive_failures: figures.consecutive_failures,
        success_rate: figures.success_rate,
        avg_response_time: figures.avg_response_time.as_secs_f64(),
        last_response_time: figures.last_response_time.map(|time| time.as_secs_f64()),
        total_checks: figures.total_checks,
        supported_models: names(server.models.as_ref()),
        models_last_updated: server.models_updated.map(|at| iso(at, clock)),
    }
}

pub(super) fn names(models: Option<&Models>) -> Vec<String> {
    models.into_iter().flat_map(Models::iter).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_the_fleet_are_those_of_0_1_0() {
        assert_eq!(score(0, 0), ("no_servers", 0.0));
        assert_eq!(score(4, 5), ("healthy", 0.8));
        assert_eq!(score(1, 2), ("degraded", 0.5));
        assert_eq!(score(0, 2), ("unhealthy", 0.0));
    }
}
