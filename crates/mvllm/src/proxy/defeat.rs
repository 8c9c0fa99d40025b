//! What the client gets after all attempts failed.

use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use mvllm_core::attempt::{Failure, GiveUp};
use mvllm_core::choice::Refusal;
use mvllm_core::health::Health;

use super::attempt::Failed;
use super::refuse::Refused;
use crate::board::Published;

/// The end of a request that nobody answered well.
#[derive(Debug)]
pub(super) struct Defeat {
    pub(super) last_word: LastWord,
    /// Whether servers have worked on it in vain: then the client's own SDK, which retries twice,
    /// would only make them work in vain again.
    pub(super) is_futile: bool,
}

#[derive(Debug)]
pub(super) enum LastWord {
    /// The last answer that a server gave, verbatim.
    Answer(Box<Parts>, Bytes),
    /// Nobody gave any.
    Refused(Refused),
}

impl From<Refused> for Defeat {
    fn from(refused: Refused) -> Self {
        Self { last_word: LastWord::Refused(refused), is_futile: false }
    }
}

/// The failed attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Defeats {
    answer: Option<(Parts, Bytes)>,
    last: Option<Failure>,
    hoped: bool,
    worked_in_vain: bool,
}

impl Defeats {
    pub(super) fn note(&mut self, failed: Failed, health: Health) {
        self.answer = failed.answer.or(self.answer.take());
        self.last = Some(failed.failure);
        self.hoped |= health.is_routable();
        self.worked_in_vain |= failed.failure.may_have_begun();
    }

    /// The rule says that this is enough.
    pub(super) fn give_up(self, why: GiveUp, published: &Published, model: Option<&str>) -> Defeat {
        match why {
            GiveUp::Poison => {
                Defeat { last_word: LastWord::Refused(Refused::Deadly), is_futile: true }
            }
            GiveUp::NotRepeatable | GiveUp::Exhausted | GiveUp::BudgetSpent => {
                self.settle(Refusal::Exhausted, published, model)
            }
        }
    }

    /// There is nobody left to ask.
    pub(super) fn settle(
        self,
        refusal: Refusal,
        published: &Published,
        model: Option<&str>,
    ) -> Defeat {
        let is_futile = self.worked_in_vain;
        Defeat { last_word: self.last_word(refusal, published, model), is_futile }
    }

    fn last_word(self, refusal: Refusal, published: &Published, model: Option<&str>) -> LastWord {
        if let Some((head, body)) = self.answer {
            return LastWord::Answer(Box::new(head), body);
        }
        LastWord::Refused(match (refusal, self.last) {
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
