//! From a prepared request to an answer: decide, try, and decide again while that is allowed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mvllm_core::attempt::{Failure, GiveUp, Next, Replay, next};
use mvllm_core::choice::{Candidate, Facts, Refusal, Tried, choose};
use mvllm_core::dialect::Dialect;
use mvllm_core::health::Health;
use mvllm_core::snapshot::{ServerKey, ServerView};
use mvllm_core::stored;
use tokio::time::{timeout, timeout_at};
use tracing::{debug, warn};

use super::asked::Asked;
use super::attempt::{AnswerBody, Answered, Failed, Prepared, attempt};
use super::data_thread::DataThread;
use super::decline::{Elsewhere, declined};
use super::defeat::{Defeat, Defeats};
use super::quarantine::Fingerprint;
use crate::board::Published;
use crate::traffic::Record;

/// For how long others come before a server that said that it is full, where it names no time. A
/// request of vLLM's queue is served in about that time, or many are.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Sends the request to the best server, and to the next best while nothing has come back. What
/// failed is noted in `tried`.
pub(super) async fn dispatch(
    thread: &Arc<DataThread>,
    prepared: &Prepared,
    asked: &Asked,
    record: &mut Record,
    tried: &mut Tried,
) -> Result<Answered, Defeat> {
    thread.safeguards.budget.note_request(thread.clock.now());
    let holder = asked.stored.as_deref().and_then(|id| thread.safeguards.holders.of(id));
    let (facts, defeats) = (asked.facts(holder), Defeats::default());
    Course { thread, prepared, original: prepared, asked, facts, record, tried, defeats }
        .run()
        .await
}

/// One request on its way, and what has become of it so far.
pub(super) struct Course<'a> {
    pub(super) thread: &'a Arc<DataThread>,
    pub(super) prepared: &'a Prepared,
    /// As it came from the client: whatever is made of it later, it is that which may be poison.
    pub(super) original: &'a Prepared,
    pub(super) asked: &'a Asked,
    pub(super) facts: Facts<'a>,
    pub(super) record: &'a mut Record,
    pub(super) tried: &'a mut Tried,
    pub(super) defeats: Defeats,
}

impl Course<'_> {
    pub(super) async fn run(mut self) -> Result<Answered, Defeat> {
        let (thread, model) = (self.thread, self.facts.model);
        loop {
            let published = Arc::clone(&thread.board.read());
            let candidate = match self.candidate(&published).await {
                Ok(candidate) => candidate,
                Err(refusal) => return Err(self.defeats.settle(refusal, &published, model)),
            };
            let outcome = match self.hedge_after(&published) {
                None => self.tries(candidate, &published).await,
                // Boxed, so that requests that never race need no room for it.
                Some(patience) => Box::pin(self.races(candidate, patience, &published)).await,
            };
            match outcome {
                Ok(answered) => return Ok(answered),
                Err(failure) => match self.after(failure, &published) {
                    Next::TryAnother => {}
                    Next::GiveUp(why) => {
                        return Err(self.defeats.give_up(why, &published, model));
                    }
                },
            }
        }
    }

    async fn tries(
        &mut self,
        candidate: Candidate,
        published: &Published,
    ) -> Result<Answered, Failure> {
        let server = Arc::clone(&candidate.server);
        self.record.sent_to(&server.spec.url);
        let outcome = attempt(self.thread, self.prepared, candidate, published).await;
        self.note(&server, outcome)
    }

    /// As [`Self::tries`]; if nothing has come after `patience`, a second server is asked, and the
    /// first answer counts. The other attempt is dropped, which closes its connection, which makes
    /// vLLM abort it.
    async fn races(
        &mut self,
        candidate: Candidate,
        patience: Duration,
        published: &Published,
    ) -> Result<Answered, Failure> {
        let (thread, prepared) = (self.thread, self.prepared);
        let server = Arc::clone(&candidate.server);
        self.record.sent_to(&server.spec.url);
        let mut first = pin!(attempt(thread, prepared, candidate, published));
        if let Ok(outcome) = timeout(patience, &mut first).await {
            return self.note(&server, outcome);
        }
        let Some(candidate) = self.rival(server.key, published) else {
            let outcome = first.await;
            return self.note(&server, outcome);
        };
        let rival = Arc::clone(&candidate.server);
        self.record.hedged_at(&rival.spec.url);
        let mut second = pin!(attempt(thread, prepared, candidate, published));
        tokio::select! {
            biased;
            outcome = &mut first => match self.note(&server, outcome) {
                Ok(answered) => Ok(answered),
                Err(_) => {
                    let outcome = second.await;
                    self.note(&rival, outcome)
                }
            },
            outcome = &mut second => match self.note(&rival, outcome) {
                Ok(answered) => Ok(answered),
                Err(_) => {
                    let outcome = first.await;
                    self.note(&server, outcome)
                }
            },
        }
    }

    /// After how long without an answer a second server is asked as well.
    fn hedge_after(&self, published: &Published) -> Option<Duration> {
        let after = published.settings.tuning.hedge_after;
        (!after.is_zero() && self.prepared.replay() == Replay::Safe).then_some(after)
    }

    /// Somebody well who may be asked the same as `first`, if the budget has room for it.
    fn rival(&self, first: ServerKey, published: &Published) -> Option<Candidate> {
        let mut tried = self.tried.clone();
        tried.leave_out(first);
        let rival = decide(self.thread, published, &tried, &self.facts).ok()?;
        (rival.server.health.is_routable() && self.budget(published)).then_some(rival)
    }

    /// What the failed attempts leave to do.
    pub(super) fn after(&self, failure: Failure, published: &Published) -> Next {
        let tuning = &published.settings.tuning;
        let budget = || self.budget(published);
        let retries = tuning.max_retries as usize;
        let step = next(failure, self.prepared.replay(), self.tried, retries, budget);
        if let Next::GiveUp(why) = step {
            self.thread.traffic.count_given_up(why);
            if why == GiveUp::Poison && !tuning.poison_quarantine.is_zero() {
                let until = self.thread.clock.now() + tuning.poison_quarantine;
                self.thread.safeguards.quarantine.hold(self.fingerprint(), until);
            }
        }
        step
    }

    fn budget(&self, published: &Published) -> bool {
        let share = published.settings.tuning.retry_budget;
        self.thread.safeguards.budget.take(share, self.thread.clock.now())
    }

    /// Notes what came of an attempt: for the request, for the server and for the account.
    fn note(
        &mut self,
        server: &Arc<ServerView>,
        outcome: Result<Answered, Failed>,
    ) -> Result<Answered, Failure> {
        let outcome = match outcome {
            Ok(answered) => match self.decline(&answered, server) {
                Some(failure) => Err(declined(answered, failure, self.thread.clock.now())),
                None => Ok(answered),
            },
            failed => failed,
        };
        match outcome {
            Ok(answered) => {
                self.learn_who_holds(&answered, server.key);
                if server.health != Health::Healthy
                    && let Some(sent_at) = answered.proof_of_engine()
                {
                    self.thread.report_success(server.key, sent_at);
                }
                self.record.answered(&server.spec.url, answered.head.status.as_u16());
                let quarantine = &self.thread.safeguards.quarantine;
                if !quarantine.is_empty() {
                    quarantine.release(self.fingerprint());
                }
                Ok(answered)
            }
            Err(failed) => {
                let failure = failed.failure;
                complain(server, &failed);
                if let Some(fault) = failure.fault() {
                    self.thread.report_failure(server.key, fault);
                }
                if matches!(failure, Failure::Overloaded(_)) {
                    let pause = failed.retry_after().unwrap_or(FULL_FOR);
                    server.ledger.note_full(self.thread.clock.now() + pause);
                }
                self.record.failed(&server.spec.url, failure);
                self.tried.note(server.key, failure);
                self.defeats.note(failed, server.health);
                Err(failure)
            }
        }
    }

    /// Whether the answer means that the request is for another server.
    fn decline(&self, answered: &Answered, server: &ServerView) -> Option<Failure> {
        if !answered.head.status.is_client_error() {
            return None;
        }
        let fleet = &self.thread.board.read().fleet;
        let Self { asked, facts, tried, .. } = self;
        Elsewhere { asked, facts: *facts, fleet, tried }.decline(answered, server)
    }

    /// Notes who has answered, if the answer is a response that can be gone on from.
    fn learn_who_holds(&self, answered: &Answered, server: ServerKey) {
        let is_response = self.prepared.route.dialect() == Dialect::Responses;
        let AnswerBody::Stream(held) = &answered.body else { return };
        if is_response && answered.head.status.is_success() {
            let contents = held.stream.contents();
            if let Some(id) = stored::id_in_answer(&contents) {
                self.thread.safeguards.holders.note(&id, server);
            }
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.original.path.path(), &self.original.body)
    }

    /// Decides; waits for servers that are just being checked for the first time, if nobody else is
    /// there.
    async fn candidate(&self, published: &Published) -> Result<Candidate, Refusal> {
        let decision = decide(self.thread, published, self.tried, &self.facts);
        if !matches!(decision, Err(Refusal::NotYet)) {
            return decision;
        }
        let tuning = &published.settings.tuning;
        let patience = tuning.connect_timeout + tuning.health_check_timeout;
        let deadline = tokio::time::Instant::now() + patience;
        let mut changes = self.thread.board.subscribe();
        loop {
            let published = Arc::clone(&self.thread.board.read());
            let decision = decide(self.thread, &published, self.tried, &self.facts);
            if !matches!(decision, Err(Refusal::NotYet)) {
                return decision;
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(Refusal::Exhausted);
            }
        }
    }
}

pub(super) fn decide(
    thread: &DataThread,
    published: &Published,
    tried: &Tried,
    facts: &Facts<'_>,
) -> Result<Candidate, Refusal> {
    let (policy, fleet) = (published.settings.tuning.policy, &published.fleet);
    let prefixes = &thread.board.prefixes;
    let known = facts.prompt.filter(|_| policy.looks_at_prefixes());
    let held = known.map(|prompt| prefixes.held(prompt));
    let facts = Facts { held: held.as_ref(), ..*facts };
    let candidate = choose(policy, &facts, fleet, tried, &mut thread.random(), thread.clock.now())?;
    if let Some(prompt) = known {
        prefixes.enter(candidate.server.key, prompt);
    }
    Ok(candidate)
}

/// That a server which is known to be out fails once more is no news, and with all of them out it
/// would fill the log. Nor is anything wrong with one that sends a request elsewhere.
fn complain(server: &ServerView, failed: &Failed) {
    let (url, failure, detail) = (&server.spec.url, failed.failure, &failed.detail);
    if server.health.is_routable() && !failure.is_declined() {
        warn!(server = %url, ?failure, "attempt failed: {detail}");
    } else {
        debug!(server = %url, ?failure, "attempt failed: {detail}");
    }
}
