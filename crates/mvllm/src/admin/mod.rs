//! mvllm's own endpoints, with the paths and the keys of 0.1.0.
//!
//! Computed from the latest published view; no request here ever waits for a server.

pub(crate) mod control;
mod health;
mod load_stats;
mod metrics;
mod models;
mod wall;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use mvllm_core::health::Health;
use serde::Serialize;
use serde_json::json;

use crate::board::Published;
use crate::leave::Stage;
use crate::proxy::{DataThread, Refused, Reply};

/// The endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Root,
    Health,
    LoadStats,
    ServerModels,
    Models,
    Live,
    Ready,
    Metrics,
    Status,
}

impl Endpoint {
    /// The endpoint at `path`, if it is one of ours; refused if it is asked with another method
    /// than GET or HEAD.
    pub(crate) fn at(path: &str, method: &Method) -> Option<Result<Self, Refused>> {
        let endpoint = match path {
            "/" => Self::Root,
            "/health" => Self::Health,
            "/load-stats" => Self::LoadStats,
            "/server-models" => Self::ServerModels,
            "/v1/models" => Self::Models,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/status" => Self::Status,
            _ => return None,
        };
        let reads = method == Method::GET || method == Method::HEAD;
        Some(if reads { Ok(endpoint) } else { Err(Refused::Method { allow: "GET, HEAD" }) })
    }

    pub(crate) fn answer(self, published: &Published, thread: &DataThread) -> Response<Reply> {
        let clock = thread.clock;
        match self {
            Self::Root => respond(StatusCode::OK, &root()),
            Self::Health => respond(StatusCode::OK, &health::report(published, clock)),
            Self::LoadStats => respond(StatusCode::OK, &load_stats::report(published, clock)),
            Self::ServerModels => respond(StatusCode::OK, &models::by_server(published, clock)),
            Self::Models => respond(StatusCode::OK, &models::merged(published, clock)),
            Self::Live => respond(StatusCode::OK, &json!({"status": "alive"})),
            Self::Ready => ready(published, *thread.board.stage.borrow()),
            Self::Metrics => {
                let page = metrics::render(&thread.board, &thread.traffic, clock);
                text(metrics::CONTENT_TYPE, page)
            }
            Self::Status => respond(StatusCode::OK, &**thread.status.borrow()),
        }
    }
}

fn root() -> serde_json::Value {
    json!({"service": "vLLM Router", "version": env!("CARGO_PKG_VERSION"), "status": "running"})
}

/// For load balancers in front of mvllm: 200 as long as at least one server can be sent requests, and
/// the router stays.
fn ready(published: &Published, stage: Stage) -> Response<Reply> {
    let servers = &published.fleet.servers;
    let routable = servers.iter().filter(|server| published.fleet.gets_requests(server)).count();
    let (status, word) = match (stage, routable) {
        (Stage::LastRequests | Stage::Closing, _) => (StatusCode::SERVICE_UNAVAILABLE, "leaving"),
        (Stage::Serving, 0) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Stage::Serving, _) => (StatusCode::OK, "ready"),
    };
    respond(
        status,
        &json!({"status": word, "routable_servers": routable, "total_servers": servers.len()}),
    )
}

/// 0.1.0's words for the states. A suspect server was `checking`, and still got requests; so do one
/// under test, if nobody else can take them, and one on probation, one at a time.
fn status_word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unproven | Health::Suspect | Health::UnderTest { .. } | Health::Probation => {
            "checking"
        }
        Health::Ejected { .. } => "unhealthy",
    }
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response<Reply> {
    let report = serde_json::to_string(body).expect("reports have string keys");
    let mut response = text("application/json", report);
    *response.status_mut() = status;
    response
}

fn text(kind: &'static str, body: String) -> Response<Reply> {
    let mut response = Response::new(Reply::from(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
