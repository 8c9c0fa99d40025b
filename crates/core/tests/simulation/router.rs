//! The router's part, done as the program does it (`fleet/task.rs`, `observers.rs`, `probe.rs`,
//! `proxy/dispatch.rs`, `silence.rs`, `relay.rs`), with all decisions left to the core.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use mvllm_core::attempt::{Failure, GiveUp, Next, Replay, next};
use mvllm_core::budget::RetryBudget;
use mvllm_core::choice::{Candidate, Facts, Refusal, Tried, choose};
use mvllm_core::fleet::{Change, Event as News, Fleet};
use mvllm_core::health::{Fault, Health, HealthRules};
use mvllm_core::load::Capacity;
use mvllm_core::policy::Policy;
use mvllm_core::snapshot::{Admission, Models, ServerKey, ServerSpec, Snapshot};
use mvllm_core::time::Timestamp;

use super::eyes::{CHECK_LIMIT, Eyes};
use super::servers::{Owner, Sign};
use super::world::{Event, LAST_CALL, World};

/// `max_retries` and `retry_budget` at their defaults.
pub(crate) const MAX_RETRIES: usize = 3;
pub(crate) const RETRY_SHARE: f64 = 0.1;

/// Short, so that a life of two minutes sees many of each.
pub(crate) const RULES: HealthRules = HealthRules {
    active_checks: true,
    check_interval: Duration::from_secs(2),
    failure_threshold: 2,
    recovery_after: Duration::from_secs(5),
    consecutive_failures: 3,
    min_success_rate: 0.5,
    max_response_time: CHECK_LIMIT,
    window: 10,
    silence_limit: Duration::from_secs(6),
};

/// As in dispatch.rs: after a full queue, and while servers are being checked for the first time.
const FULL_FOR: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);
/// As in silence.rs.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// After its beginning had reached the client.
    Broken,
    Refused(Refusal),
    GaveUp(GiveUp),
    ClientLeft,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: Option<&'static str>,
    replay: Replay,
    pub(crate) tried: Tried,
    pub(crate) keys: Vec<ServerKey>,
    /// Waits for first checks until then.
    waits_until: Option<Timestamp>,
    pub(crate) attempt: Option<Attempt>,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) candidate: Candidate,
    sent_at: Timestamp,
    last_byte: Timestamp,
    has_begun: bool,
}

pub(crate) struct Router {
    fleet: Fleet,
    pub(crate) rules: HealthRules,
    pub(crate) published: Snapshot,
    budget: RetryBudget,
    random: fastrand::Rng,
    pub(crate) asleep_until: Timestamp,
    /// How long it stood still the last time.
    pub(crate) slept: Duration,
    pub(crate) requests: BTreeMap<u32, Request>,
    arrived: u32,
    pub(crate) eyes: BTreeMap<ServerKey, Eyes>,
    /// Where the servers that it has ever met are, by position in the world.
    pub(crate) homes: BTreeMap<ServerKey, usize>,
    /// The operator lets them have no new requests.
    pub(crate) closed: BTreeSet<&'static str>,
}

impl Router {
    pub(crate) fn new(fate: &mut fastrand::Rng, random: fastrand::Rng) -> Self {
        // At the defaults a check is given up before it is slow; not so everywhere.
        let max_response_time = fate.choice([CHECK_LIMIT / 2, CHECK_LIMIT]).unwrap();
        let active_checks = fate.u32(..8) != 0;
        let rules = HealthRules { active_checks, max_response_time, ..RULES };
        Self {
            fleet: Fleet::new(rules),
            rules,
            published: Snapshot::default(),
            budget: RetryBudget::default(),
            random,
            asleep_until: Timestamp::ZERO,
            slept: Duration::ZERO,
            requests: BTreeMap::new(),
            arrived: 0,
            eyes: BTreeMap::new(),
            homes: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }
}

impl World {
    /// A configuration with those servers of the world that `are_in`.
    pub(crate) fn configure(&mut self, are_in: impl Fn(usize) -> bool) {
        let rules = self.router.rules;
        let servers = self.servers.iter().enumerate().filter(|(at, _)| are_in(*at));
        let specs = servers.map(|(_, server)| ServerSpec {
            url: server.url.into(),
            capacity: Capacity::new(NonZeroU32::new(server.capacity).unwrap()),
            declared_models: (!rules.active_checks)
                .then(|| Models::new(server.models.iter().map(|name| (*name).into()))),
        });
        let specs = specs.collect();
        self.learn(News::Configured(specs, rules));
    }

    pub(crate) fn admit(&mut self, at: usize, admission: Admission) {
        let url = self.servers[at].url;
        match admission {
            Admission::Open => self.router.closed.remove(url),
            Admission::Cordoned | Admission::Draining => self.router.closed.insert(url),
        };
        self.learn(News::Admission(url.into(), admission));
    }

    /// The fleet task: applies, publishes, and sets eyes on who is new.
    pub(crate) fn learn(&mut self, news: News) {
        let changes = self.router.fleet.apply(news, self.now);
        self.router.published = self.router.fleet.snapshot();
        for change in changes {
            self.tell(|| format!("    {change:?}"));
            self.watch.note_change(&change);
            self.judge_change(&change);
            match change {
                Change::Added(key, url) => {
                    let at = self.servers.iter().position(|server| *server.url == *url).unwrap();
                    self.router.homes.insert(key, at);
                    // Who was taken out of the file and comes back is a new server, and open.
                    self.router.closed.remove(self.servers[at].url);
                    self.router.eyes.insert(key, Eyes::new(at, self.now));
                    self.open_eyes(key);
                    let views = &self.router.published.servers;
                    let view = views.iter().find(|view| view.key == key).unwrap();
                    self.watch.met(key, &view.ledger);
                }
                Change::Removed(key, _) => drop(self.router.eyes.remove(&key)),
                Change::Restarted(key, _) => self.check_now(key),
                _ => {}
            }
        }
        let waiting = self.router.requests.iter().filter(|(_, r)| r.waits_until.is_some());
        let waiting: Vec<u32> = waiting.map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.place(id));
    }

    /// What data threads report reaches the fleet task a moment later.
    fn report(&mut self, news: News) {
        self.after(Duration::from_millis(1), Event::News(news));
    }

    pub(crate) fn arrive(&mut self) {
        self.router.arrived += 1;
        let id = self.router.arrived;
        let is_inference = self.clients.u32(..10) != 0;
        let replay = if is_inference { Replay::Safe } else { Replay::OnlyIfNotBegun };
        let model = self.clients.choice([None, Some("large"), Some("small")]).unwrap();
        let request = Request {
            model,
            replay,
            tried: Tried::default(),
            keys: Vec::new(),
            waits_until: None,
            attempt: None,
        };
        self.router.requests.insert(id, request);
        self.router.budget.note_request(self.now);
        self.watch.note_request(self.now);
        self.place(id);
        if self.clients.u32(..20) == 0 {
            let patience = Duration::from_millis(self.clients.u64(..4_000));
            self.after(patience, Event::Leave(id));
        }
        if self.now < Timestamp::after_start(LAST_CALL) {
            // Now and then a burst.
            let pause = if self.clients.u32(..4) == 0 { 1 } else { self.clients.u64(50..700) };
            self.after(Duration::from_millis(pause), Event::Arrive);
        }
    }

    /// Chooses a server for the request, and sends it there.
    fn place(&mut self, id: u32) {
        let request = self.router.requests.get_mut(&id).unwrap();
        let facts = Facts { model: request.model, ..Facts::default() };
        let views = self.router.published.servers.iter();
        let scores: Vec<_> = views.map(|view| (view.key, view.score(self.now).0)).collect();
        let decision = choose(
            Policy::Load,
            &facts,
            &self.router.published,
            &request.tried,
            &mut self.router.random,
            self.now,
        );
        match decision {
            Ok(candidate) => {
                request.waits_until = None;
                self.judge_choice(id, &candidate, &scores);
                self.send(id, candidate);
            }
            Err(Refusal::NotYet) => match request.waits_until {
                Some(until) if until <= self.now => self.end(id, Outcome::Refused(Refusal::NotYet)),
                Some(_) => {}
                None => {
                    request.waits_until = Some(self.now + PATIENCE);
                    self.after(PATIENCE, Event::Patience(id));
                }
            },
            Err(refusal) => {
                self.judge_refusal(id, refusal);
                self.end(id, Outcome::Refused(refusal));
            }
        }
    }

    pub(crate) fn lose_patience(&mut self, id: u32) {
        if self.router.requests.get(&id).is_some_and(|request| request.waits_until.is_some()) {
            self.place(id);
        }
    }

    fn send(&mut self, id: u32, candidate: Candidate) {
        let key = candidate.server.key;
        self.tell(|| {
            format!("    {id} to {} ({:?})", candidate.server.spec.url, candidate.server.health)
        });
        self.watch.placed(id, &candidate, self.now);
        let request = self.router.requests.get_mut(&id).unwrap();
        request.keys.push(key);
        let nth = request.keys.len() as u32;
        let (sent_at, last_byte) = (self.now, self.now);
        request.attempt = Some(Attempt { candidate, sent_at, last_byte, has_begun: false });
        self.submit(self.router.homes[&key], Owner::Request(id, nth));
        self.after(self.router.rules.silence_limit, Event::Alarm(id, nth));
    }

    /// The attempt that this is about, unless it is over.
    fn attempt(&mut self, id: u32, nth: u32) -> Option<&mut Attempt> {
        let request = self.router.requests.get_mut(&id)?;
        if request.keys.len() as u32 == nth { request.attempt.as_mut() } else { None }
    }

    pub(crate) fn reply(&mut self, id: u32, nth: u32, sign: Sign) {
        let now = self.now;
        let Some(attempt) = self.attempt(id, nth) else { return };
        match sign {
            Sign::Fails(failure) if attempt.has_begun => {
                // What breaks off in the middle has no more to it than that.
                let fault = failure.fault().filter(|_| failure != Failure::Lost);
                self.cut(id, fault.unwrap_or(Fault::Reset));
            }
            Sign::Fails(failure) => self.failed(id, failure),
            Sign::Token | Sign::End => {
                attempt.last_byte = now;
                attempt.candidate.reservation.ledger().note_progress(now);
                let is_first = !std::mem::replace(&mut attempt.has_begun, true);
                let (server, sent_at) = (&attempt.candidate.server, attempt.sent_at);
                let proof =
                    (is_first && server.health != Health::Healthy).then_some((server.key, sent_at));
                if let Some((key, sent_at)) = proof {
                    self.report(News::RequestSucceeded(key, sent_at));
                }
                if sign == Sign::End {
                    self.end(id, Outcome::Answered);
                }
            }
        }
    }

    fn cut(&mut self, id: u32, fault: Fault) {
        let attempt = self.router.requests[&id].attempt.as_ref().unwrap();
        let key = attempt.candidate.server.key;
        self.report(News::RequestFailed(key, fault));
        self.end(id, Outcome::Broken);
    }

    /// An attempt of which nothing has reached the client.
    fn failed(&mut self, id: u32, failure: Failure) {
        let key = self.give_back(id);
        if let Some(fault) = failure.fault() {
            self.report(News::RequestFailed(key, fault));
        }
        let now = self.now;
        let (router, watch) = (&mut self.router, &mut self.watch);
        let request = router.requests.get_mut(&id).unwrap();
        if matches!(failure, Failure::Overloaded(_)) {
            watch.ledger(key).note_full(now + FULL_FOR);
        }
        request.tried.note(key, failure);
        watch.note_failure(id, failure);
        let budget = || {
            let granted = router.budget.take(RETRY_SHARE, now);
            watch.note_budget(granted, now);
            granted
        };
        let step = next(failure, request.replay, &request.tried, MAX_RETRIES, budget);
        self.tell(|| format!("    {id}: {failure:?}, so {step:?}"));
        let is_repeatable = self.router.requests[&id].replay == Replay::Safe;
        match step {
            Next::TryAnother => {
                self.judge_trying_again(id, failure, is_repeatable);
                self.place(id);
            }
            Next::GiveUp(why) => {
                self.judge_giving_up(id, failure, why, is_repeatable);
                self.end(id, Outcome::GaveUp(why));
            }
        }
    }

    /// Ends the attempt; whose place it held.
    fn give_back(&mut self, id: u32) -> ServerKey {
        let request = self.router.requests.get_mut(&id).unwrap();
        let attempt = request.attempt.take().unwrap();
        let key = attempt.candidate.server.key;
        let owner = Owner::Request(id, request.keys.len() as u32);
        drop(attempt);
        self.servers[self.router.homes[&key]].abort(owner);
        self.watch.given_back(id, key);
        key
    }

    fn end(&mut self, id: u32, outcome: Outcome) {
        if self.router.requests[&id].attempt.is_some() {
            self.give_back(id);
        }
        self.tell(|| format!("    {id}: {outcome:?}"));
        self.router.requests.remove(&id);
        self.watch.note_end(self.now, id, outcome);
    }

    pub(crate) fn leave(&mut self, id: u32) {
        if self.router.requests.contains_key(&id) {
            self.end(id, Outcome::ClientLeft);
        }
    }

    /// As in silence.rs: neither a byte nor progress of the server for as long as that.
    pub(crate) fn alarm(&mut self, id: u32, nth: u32) {
        let (now, limit) = (self.now, self.router.rules.silence_limit);
        let Some(attempt) = self.attempt(id, nth) else { return };
        let progress_at = attempt.candidate.reservation.ledger().progress_at();
        let mut due = attempt.last_byte.max(progress_at) + limit;
        if now.since(due) >= OVERSLEPT {
            attempt.last_byte = now;
            due = now + limit;
        }
        if due > now {
            self.after(due.since(now), Event::Alarm(id, nth));
        } else if attempt.has_begun {
            self.cut(id, Fault::Silent);
        } else {
            self.failed(id, Failure::Silent);
        }
    }
}
