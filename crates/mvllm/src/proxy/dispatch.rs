//! From a prepared request to an answer: decide, try, and decide again while that is allowed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use mvllm_core::attempt::{Failure, Next, next};
use mvllm_core::choice::{Candidate, Facts, Refusal, Tried, choose};
use mvllm_core::health::Health;
use mvllm_core::policy::Policy;
use tokio::time::timeout_at;
use tracing::warn;

use super::attempt::{Answered, Failed, Prepared, attempt};
use super::data_thread::DataThread;
use super::refuse::Refused;
use crate::board::Published;
use crate::traffic::Record;

/// What the client gets after all attempts failed.
#[derive(Debug)]
pub(super) enum Defeat {
    /// The last answer that a server gave, verbatim.
    Answer(Box<Parts>, Bytes),
    /// Nobody gave any.
    Refused(Refused),
}

impl From<Refused> for Defeat {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Sends the request to the best server, and to the next best while nothing has come back.
pub(super) async fn dispatch(
    thread: &Arc<DataThread>,
    prepared: &Prepared,
    model: Option<&str>,
    record: &mut Record,
) -> Result<Answered, Defeat> {
    let mut tried = Tried::default();
    let mut defeats = Defeats::default();
    loop {
        let published = Arc::clone(&thread.board.read());
        let candidate = match candidate(thread, &published, &tried, model).await {
            Ok(candidate) => candidate,
            Err(refusal) => return Err(defeats.settle(refusal, &published, model)),
        };
        let (key, health) = (candidate.server.key, candidate.server.health);
        let url = Arc::clone(&candidate.server.spec.url);
        record.sent_to(&url);
        match attempt(thread, prepared, candidate, &published).await {
            Ok(answered) => {
                if health != Health::Healthy {
                    thread.report_success(key);
                }
                record.answered(answered.head.status.as_u16());
                return Ok(answered);
            }
            Err(failed) => {
                warn!(server = %url, failure = ?failed.failure, "attempt failed: {}", failed.detail);
                if let Some(fault) = failed.failure.fault() {
                    thread.report_failure(key, fault);
                }
                record.failed(failed.failure);
                tried.note(key, failed.failure.is_answer());
                let step = next(
                    failed.failure,
                    prepared.replay(),
                    tried.count(),
                    published.settings.tuning.max_retries as usize,
                );
                defeats.note(failed, health);
                if step == Next::GiveUp {
                    return Err(defeats.settle(Refusal::Exhausted, &published, model));
                }
            }
        }
    }
}

/// Decides; waits for servers that are just being checked for the first time, if nobody else is
/// there.
async fn candidate(
    thread: &DataThread,
    published: &Published,
    tried: &Tried,
    model: Option<&str>,
) -> Result<Candidate, Refusal> {
    let decide = |published: &Published| {
        let (facts, now) = (Facts { model }, thread.clock.now());
        let mut random = thread.random();
        choose(Policy::Load, &facts, &published.fleet, tried, &mut random, now)
    };
    let decision = decide(published);
    if !matches!(decision, Err(Refusal::NotYet)) {
        return decision;
    }
    let patience =
        published.settings.tuning.connect_timeout + published.settings.tuning.health_check_timeout;
    let deadline = tokio::time::Instant::now() + patience;
    let mut changes = thread.board.subscribe();
    loop {
        let decision = decide(&Arc::clone(&thread.board.read()));
        if !matches!(decision, Err(Refusal::NotYet)) {
            return decision;
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(Refusal::Exhausted);
        }
    }
}

/// The failed attempts of one request.
#[derive(Debug, Default)]
struct Defeats {
    answer: Option<(Parts, Bytes)>,
    last: Option<Failure>,
    hoped: bool,
}

impl Defeats {
    fn note(&mut self, failed: Failed, health: Health) {
        self.answer = failed.answer.or(self.answer.take());
        self.last = Some(failed.failure);
        self.hoped |= health.is_routable();
    }

    fn settle(self, refusal: Refusal, published: &Published, model: Option<&str>) -> Defeat {
        if let Some((head, body)) = self.answer {
            return Defeat::Answer(Box::new(head), body);
        }
        Defeat::Refused(match (refusal, self.last) {
            (Refusal::UnknownModel, None) => unknown_model(published, model),
            (_, Some(Failure::Silent)) => Refused::Timeout,
            (_, Some(_)) if self.hoped => Refused::BadGateway,
            // Nobody was tried, or only servers that were known to be out.
            _ => nobody_now(published, model),
        })
    }
}

fn unknown_model(published: &Published, model: Option<&str>) -> Refused {
    let known = published.fleet.models.names().map(ToString::to_string).collect();
    Refused::UnknownModel { model: model.unwrap_or_default().to_owned(), known }
}

fn nobody_now(published: &Published, model: Option<&str>) -> Refused {
    let retry_after_secs = retry_after_secs(published.settings.tuning.health_check_interval);
    match model.filter(|_| !published.fleet.servers.is_empty()) {
        Some(model) => Refused::NoServersFor { model: model.to_owned(), retry_after_secs },
        None => Refused::NoServers { retry_after_secs },
    }
}

/// By the next health check a server may be back. More than a minute makes SDKs give up
/// altogether, and a fraction is no `Retry-After` (RFC 9110, section 10.2.3).
fn retry_after_secs(health_check_interval: Duration) -> u64 {
    health_check_interval.as_secs().clamp(1, 60)
}
