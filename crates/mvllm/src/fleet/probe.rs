//! The question that a hung engine cannot answer: one token, please.
//!
//! `/health` of vLLM reads a flag and never asks the engine (v1/engine/async_llm.py,
//! `check_health`), so an engine that hangs is well by its own account. A server in doubt is
//! therefore asked to compute something, as little as there is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mvllm_core::attempt::{Failure, Verdict, judge};
use mvllm_core::fleet::Event;
use mvllm_core::health::{Fault, Health, Probe};
use mvllm_core::snapshot::{Models, ServerView};
use mvllm_core::time::Timestamp;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, Unanswered};
use super::observers::Sight;
use crate::upstream::Target;

/// How often the server's state is looked at. Looking costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Asks as long as the fleet task finds the server's state doubtful. There is one of these for each
/// server, so there is never more than one probe under way there, and nothing to give back.
pub(super) async fn probe_forever(sight: Sight) {
    let mut prober = Prober::new(Arc::clone(&sight.target));
    let mut latest = Timestamp::ZERO;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(view) = sight.view() else { continue };
        let tuning = sight.board.read().settings.tuning.clone();
        let now = sight.clock.now();
        let is_due = tuning.enable_active_health_check
            && is_due(&view, latest, tuning.health_check_interval, now);
        if !is_due {
            continue;
        }
        latest = now;
        // As long as the server may be without progress before it is asked (see `stall_limit`).
        let Some(probe) = prober.probe(view.models.as_ref(), tuning.request_timeout / 3).await
        else {
            continue;
        };
        sight.tell(Event::Probed(sight.key, latest, probe)).await;
    }
}

/// At once where a server has come under test or shows progress again, else with each check.
fn is_due(view: &ServerView, latest: Timestamp, check_interval: Duration, now: Timestamp) -> bool {
    let is_new = match view.health {
        Health::UnderTest { since } | Health::Ejected { since, .. } => latest < since,
        _ => false,
    };
    view.health.wants_probe(now)
        && (is_new || now.since(latest) >= check_interval || view.ledger.progress_at() > latest)
}

/// A request's body for a model.
type RequestFor = fn(&str) -> Value;

/// The smallest requests that there are, each for servers that do not know the one before.
const REQUESTS: [(&str, RequestFor); 3] = [
    (
        "/v1/completions",
        |model| json!({ "model": model, "prompt": "a", "max_tokens": 1, "temperature": 0 }),
    ),
    ("/v1/embeddings", |model| json!({ "model": model, "input": "a" })),
    ("/pooling", |model| json!({ "model": model, "input": "a" })),
];

#[derive(Debug)]
struct Prober {
    client: Client,
    /// Whether this server has ever answered a probe. As long as it has not, an error in place of
    /// an answer may be its way of saying that it cannot.
    has_answered: bool,
}

impl Prober {
    fn new(target: Arc<Target>) -> Self {
        Self { client: Client::new(target), has_answered: false }
    }

    /// `None`: no news, neither good nor bad.
    async fn probe(&mut self, models: Option<&Models>, limit: Duration) -> Option<Probe> {
        let Some(model) = models.and_then(|models| models.iter().next()) else {
            return Some(Probe::CannotTell);
        };
        for (path, request) in REQUESTS {
            let answer = self.client.post(path, request(model).to_string(), limit).await;
            match self.read(answer) {
                Reading::AskOtherwise => {}
                Reading::NoNews => return None,
                Reading::News(probe) => {
                    self.has_answered |= probe == Probe::Answered;
                    return Some(probe);
                }
            }
        }
        Some(Probe::CannotTell)
    }

    fn read(&self, answer: Result<(StatusCode, Bytes), Unanswered>) -> Reading {
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(Unanswered::NotAsked) => return Reading::NoNews,
            Err(Unanswered::Fault(Fault::Silent)) => {
                return Reading::News(Probe::Failed(Fault::NoProgress));
            }
            Err(Unanswered::Fault(fault)) => return Reading::News(Probe::Failed(fault)),
        };
        match (status.as_u16(), judge(status.as_u16(), &body)) {
            (200..=299, _) => Reading::News(Probe::Answered),
            // Another request would not have the key either.
            (401 | 403, _) => Reading::News(Probe::CannotTell),
            (_, Verdict::Failed(Failure::Overloaded(_))) => Reading::NoNews,
            (_, Verdict::Failed(Failure::ServerError(_))) if !self.has_answered => {
                Reading::News(Probe::CannotTell)
            }
            (_, Verdict::Failed(failure)) => {
                failure.fault().map_or(Reading::NoNews, |f| Reading::News(Probe::Failed(f)))
            }
            (_, Verdict::Deliver) => Reading::AskOtherwise,
        }
    }
}

/// What an answer to a probe means.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    News(Probe),
    /// The server is full, or was not asked.
    NoNews,
    /// The server does not serve such requests.
    AskOtherwise,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerUrl;

    fn prober(has_answered: bool) -> Prober {
        let url: ServerUrl = "http://127.0.0.1:1".parse().unwrap();
        Prober { has_answered, ..Prober::new(Arc::new(Target::new(&url).unwrap())) }
    }

    fn read(status: u16, body: &'static str) -> Reading {
        prober(true)
            .read(Ok((StatusCode::from_u16(status).unwrap(), Bytes::from_static(body.as_bytes()))))
    }

    #[test]
    fn what_an_answer_means() {
        assert_eq!(read(200, "{}"), Reading::News(Probe::Answered));
        assert_eq!(read(404, "{}"), Reading::AskOtherwise);
        assert_eq!(read(400, "no completions"), Reading::AskOtherwise);
        assert_eq!(read(401, "{}"), Reading::News(Probe::CannotTell));
        assert_eq!(read(503, "The engine is currently busy"), Reading::NoNews);
        let dead = "EngineCore encountered an issue.";
        assert_eq!(read(500, dead), Reading::News(Probe::Failed(Fault::EngineDead)));
        assert_eq!(read(500, "{}"), Reading::News(Probe::Failed(Fault::Status(500))));
    }

    #[test]
    fn silence_is_no_progress_and_our_own_limits_are_nobodys() {
        let silent = prober(false).read(Err(Unanswered::Fault(Fault::Silent)));
        assert_eq!(silent, Reading::News(Probe::Failed(Fault::NoProgress)));
        assert_eq!(prober(false).read(Err(Unanswered::NotAsked)), Reading::NoNews);
    }

    #[test]
    fn an_error_of_a_server_that_never_answered_a_probe_tells_nothing() {
        let answer = || Ok((StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()));
        assert_eq!(prober(false).read(answer()), Reading::News(Probe::CannotTell));
        let expected = Reading::News(Probe::Failed(Fault::Status(500)));
        assert_eq!(prober(true).read(answer()), expected);
    }
}
