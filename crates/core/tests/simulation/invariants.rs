//! The rules, and the account of a life by which they are checked: kept apart from the core's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mvllm_core::attempt::{DEATHS_MAX, Failure, GiveUp};
use mvllm_core::choice::{Candidate, Refusal};
use mvllm_core::fleet::Change;
use mvllm_core::health::{Fault, Health};
use mvllm_core::ledger::Ledger;
use mvllm_core::snapshot::{Admission, Judgement, ServerKey, ServerView};
use mvllm_core::time::Timestamp;

use super::eyes::CHECK_LIMIT;
use super::router::{MAX_RETRIES, Outcome, RETRY_SHARE};
use super::servers::Ailment;
use super::world::{FORGOTTEN, LAST_CALL, World};

/// On top of what the rules promise: news travel for a millisecond, ticks and looks come when they
/// come, and a probe waits for its step.
const LEEWAY: Duration = Duration::from_secs(2);

/// A sleep that is noticed, and for how long after it nothing is held against servers.
const ABSENCE: Duration = Duration::from_secs(7);
const DROWSY: Duration = Duration::from_secs(5);

/// What the budget grants beside its share; and a window of it.
const FLOOR: f64 = 30.0;
const WINDOW: u64 = 10;

/// What was seen in lives: a rule that nothing has put to the test has not been kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what.clone()).or_default() += times;
        }
    }

    pub(crate) fn has_seen_everything(&self) {
        for what in [
            "became Healthy",
            "became Suspect",
            "became UnderTest",
            "became Probation",
            "became Ejected",
            "Doubted",
            "Overslept",
            "Restarted",
            "Removed",
            "a trial",
            "a last resort",
            "a retry",
            "budget spent",
            "ended Answered",
            "ended Broken",
            "ended Refused(Exhausted)",
            "ended Refused(UnknownModel)",
            "ended GaveUp(Poison)",
            "ended GaveUp(Exhausted)",
            "ended GaveUp(BudgetSpent)",
            "ended GaveUp(NotRepeatable)",
            "ended ClientLeft",
        ] {
            assert!(self.0.contains_key(what), "no seed ever saw {what}");
        }
    }
}

/// One server's account as the world keeps it.
#[derive(Debug)]
struct Account {
    ledger: Arc<Ledger>,
    held: u32,
    /// Since when it has had a request without a break.
    busy_since: Timestamp,
    /// The request that has it on trial.
    trial: Option<u32>,
    /// Requests that it got once all was forgotten.
    late: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) tally: Tally,
    pub(crate) probes: u64,
    accounts: BTreeMap<ServerKey, Account>,
    deaths: BTreeMap<u32, usize>,
    /// Requests that some server has answered, if only with a failure.
    heard: BTreeSet<u32>,
    /// By second: requests, and retries that were granted out of the budget.
    requests: BTreeMap<u64, u32>,
    retries: BTreeMap<u64, u32>,
}

/// Whether a server that failed like this has not acted on the request.
fn never_began(failure: Failure) -> bool {
    matches!(failure, Failure::Unreachable | Failure::OwnLimit | Failure::Overloaded(_))
}

fn second(now: Timestamp) -> u64 {
    now.since(Timestamp::ZERO).as_secs()
}

impl Watch {
    pub(crate) fn met(&mut self, key: ServerKey, ledger: &Arc<Ledger>) {
        let (ledger, busy_since) = (Arc::clone(ledger), Timestamp::ZERO);
        let account = Account { ledger, held: 0, busy_since, trial: None, late: 0 };
        assert!(self.accounts.insert(key, account).is_none(), "{key:?} was used before");
    }

    pub(crate) fn ledger(&self, key: ServerKey) -> &Ledger {
        &self.accounts[&key].ledger
    }

    pub(crate) fn placed(&mut self, id: u32, candidate: &Candidate, now: Timestamp) {
        let account = self.accounts.get_mut(&candidate.server.key).unwrap();
        if candidate.server.health == Health::Probation {
            account.trial.get_or_insert(id);
        }
        if account.held == 0 {
            account.busy_since = now;
        }
        account.held += 1;
        account.late += u32::from(now > Timestamp::after_start(FORGOTTEN));
    }

    pub(crate) fn given_back(&mut self, id: u32, key: ServerKey) {
        let account = self.accounts.get_mut(&key).unwrap();
        account.held -= 1;
        account.trial.take_if(|holder| *holder == id);
    }

    pub(crate) fn note_request(&mut self, now: Timestamp) {
        *self.requests.entry(second(now)).or_default() += 1;
    }

    pub(crate) fn note_failure(&mut self, id: u32, failure: Failure) {
        self.tally.count(format!("failed {failure:?}"));
        let is_mute = matches!(failure, Failure::Unreachable | Failure::OwnLimit | Failure::Lost);
        if !is_mute && !matches!(failure, Failure::Silent | Failure::Malformed) {
            self.heard.insert(id);
        }
        if matches!(failure, Failure::Lost | Failure::EngineDead) {
            let deaths = self.deaths.entry(id).or_default();
            *deaths += 1;
            assert!(*deaths <= DEATHS_MAX, "request {id} took {deaths} servers down");
        }
    }

    /// How many retries the last ten seconds have room for, and how many there were.
    fn budget(&self, now: Timestamp) -> (f64, f64) {
        let oldest = (second(now) + 1).saturating_sub(WINDOW);
        let sum = |counts: &BTreeMap<u64, u32>| {
            f64::from(counts.range(oldest..).map(|(_, count)| count).sum::<u32>())
        };
        (sum(&self.requests) * RETRY_SHARE + FLOOR, sum(&self.retries))
    }

    pub(crate) fn note_budget(&mut self, granted: bool, now: Timestamp) {
        let (allowed, taken) = self.budget(now);
        assert_eq!(granted, taken < allowed, "{taken} retries of {allowed}");
        if granted {
            self.tally.count("a retry");
            *self.retries.entry(second(now)).or_default() += 1;
        } else {
            self.tally.count("budget spent");
        }
    }

    pub(crate) fn note_end(&mut self, now: Timestamp, id: u32, outcome: Outcome) {
        self.tally.count(format!("ended {outcome:?}"));
        self.deaths.remove(&id);
        self.heard.remove(&id);
        let is_error = !matches!(outcome, Outcome::Answered | Outcome::ClientLeft);
        // With all servers well and all trouble forgotten, nobody is turned away.
        let is_late = now > Timestamp::after_start(FORGOTTEN);
        assert!(!(is_error && is_late), "{outcome:?} long after the last trouble");
    }

    pub(crate) fn note_change(&mut self, change: &Change) {
        match change {
            Change::Health { to, .. } => {
                let state = format!("{to:?}");
                let name = state.split([' ', '{']).next().unwrap_or_default();
                self.tally.count(format!("became {name}"));
            }
            Change::Judgement(judgement) => self.tally.count(format!("{judgement:?}")),
            Change::Overslept(_) => self.tally.count("Overslept"),
            Change::Restarted(..) => self.tally.count("Restarted"),
            Change::Removed(..) => self.tally.count("Removed"),
            Change::Added(..) | Change::Admission(..) | Change::Models(..) => {}
        }
    }
}

impl World {
    /// After each event.
    pub(crate) fn look_for_broken_rules(&self) {
        for (key, account) in &self.watch.accounts {
            assert_eq!(account.ledger.in_flight(), account.held, "reservations at {key:?}");
        }
        for view in self.router.published.servers.iter() {
            self.is_back_in_time(view);
        }
        self.doubts_itself_when_it_should();
    }

    /// Silence of most of the fleet is held against nobody.
    fn doubts_itself_when_it_should(&self) {
        let servers = &self.router.published.servers;
        let open = servers.iter().filter(|view| view.admission == Admission::Open).count();
        let is_mute = |view: &&Arc<ServerView>| match view.health {
            Health::Ejected { cause, .. } => cause.is_silence(),
            _ => false,
        };
        let open_views = servers.iter().filter(|view| view.admission == Admission::Open);
        let mute = open_views.filter(is_mute).count();
        if mute >= 2 && 2 * mute > open {
            assert_eq!(self.router.published.judgement, Judgement::Doubted, "{mute} of {open}");
        }
    }

    /// What went unseen while the router stood still takes nobody out when it wakes.
    pub(crate) fn judge_change(&self, change: &Change) {
        let &Change::Health { ref url, from, to: Health::Ejected { cause, .. } } = change else {
            return;
        };
        if matches!(from, Health::Ejected { .. }) {
            return;
        }
        let slept = self.router.slept;
        let has_just_woken = slept >= ABSENCE && self.now < self.router.asleep_until + DROWSY;
        // A check that timed out before may weigh on the mean still.
        let may_weigh =
            cause == Fault::SlowChecks && self.router.rules.max_response_time < CHECK_LIMIT;
        assert!(
            !has_just_woken || !cause.is_silence() || may_weigh,
            "{url} is out for {cause:?} after {slept:?}"
        );
    }

    /// Since when the server has been well, the router awake and watching it.
    fn well_since(&self, key: ServerKey) -> Option<Timestamp> {
        let eyes = self.router.eyes.get(&key)?;
        let server = &self.servers[eyes.server];
        let since = server.so_since.max(eyes.since).max(self.router.asleep_until);
        server.is_well().then_some(since)
    }

    /// How long after its hold-down a well server may still be out: until the next check or probe,
    /// which may have been about to end badly when the server got well.
    fn way_back(&self) -> Duration {
        let rules = &self.router.rules;
        let probe = rules.silence_limit / 3;
        if rules.active_checks {
            2 * rules.check_interval + probe + CHECK_LIMIT + LEEWAY
        } else {
            rules.recovery_after + LEEWAY
        }
    }

    /// A well server is in again after its hold-down, one interval and one probe.
    fn is_back_in_time(&self, view: &ServerView) {
        if view.health.is_routable() || self.now < self.router.asleep_until {
            return;
        }
        let Some(well_since) = self.well_since(view.key) else { return };
        let until = match view.health {
            Health::Ejected { until, since, .. } => {
                let longest = self.router.rules.check_interval * 10;
                assert!(until.since(since) <= longest, "held down for {:?}", until.since(since));
                until
            }
            _ => Timestamp::ZERO,
        };
        let by = well_since.max(until) + self.way_back();
        assert!(
            self.now <= by,
            "{} is well since {well_since:?} and {:?}",
            view.spec.url,
            view.health
        );
    }

    /// Whether the server would be asked by any rule: open, not tried, and serving the model for
    /// all that is known.
    fn may_be_asked(&self, id: u32, view: &ServerView) -> bool {
        let request = &self.router.requests[&id];
        let server = &self.servers[self.router.homes[&view.key]];
        let serves = |model| view.models.is_none() || server.models.contains(&model);
        !self.router.closed.contains(server.url)
            && !request.keys.contains(&view.key)
            && request.model.is_none_or(serves)
    }

    pub(crate) fn judge_choice(
        &mut self,
        id: u32,
        candidate: &Candidate,
        scores: &[(ServerKey, f64)],
    ) {
        let chosen = &candidate.server;
        let request = &self.router.requests[&id];
        assert!(!request.keys.contains(&chosen.key), "{id} is sent to {:?} again", chosen.key);
        assert!(request.keys.len() <= MAX_RETRIES, "{id} has been tried often enough");
        assert!(self.router.eyes.contains_key(&chosen.key), "{id} is sent to who has left");
        assert!(!self.router.closed.contains(&*chosen.spec.url), "{id} is sent to who is drained");
        assert_eq!(chosen.admission, Admission::Open);
        assert_ne!(chosen.health, Health::Unproven);
        assert!(self.may_be_asked(id, chosen), "{id} is sent to a server without its model");

        self.silence_in_doubt_is_none(id, chosen, scores);
        let is_on_trial = self.watch.accounts[&chosen.key].trial.is_some();
        let is_second = chosen.health == Health::Probation && is_on_trial;
        let is_out = matches!(chosen.health, Health::Ejected { .. });
        let is_hung = self.is_known_to_hang(chosen);
        let snapshot = &self.router.published;
        let alternative = snapshot.servers.iter().find(|other| {
            other.key != chosen.key
                && other.models.is_some()
                && self.may_be_asked(id, other)
                && matches!(other.health, Health::Healthy | Health::Suspect)
                && !other.has_fallen_silent(self.now)
                && !other.ledger.is_full(self.now)
        });
        let is_excused =
            snapshot.judgement == Judgement::Doubted && chosen.health.rests_on_silence();
        let is_wrong = (is_second || is_out || is_hung) && !is_excused;
        if let Some(other) = alternative {
            assert!(!is_wrong, "{id} is sent to {chosen:?}, and not to {other:?}");
        }
        if chosen.health == Health::Probation && !is_second {
            self.watch.tally.count("a trial");
        }
        if is_out {
            self.watch.tally.count("a last resort");
        }
    }

    /// Where the router doubts itself, who is out for silence competes like everybody else.
    fn silence_in_doubt_is_none(&self, id: u32, chosen: &ServerView, scores: &[(ServerKey, f64)]) {
        let snapshot = &self.router.published;
        if snapshot.judgement == Judgement::Trusted {
            return;
        }
        let score = |key| scores.iter().find(|(of, _)| *of == key).unwrap().1;
        for view in snapshot.servers.iter() {
            let competes = view.health.rests_on_silence() && view.models.is_some();
            if competes && self.may_be_asked(id, view) {
                let (of, best) = (score(view.key), score(chosen.key));
                assert!(best <= of, "{id} is sent to {chosen:?} at {best}, {view:?} is at {of}");
            }
        }
    }

    /// Whether the server has had requests, and has not moved, for longer than it takes to find
    /// that out: the stall limit, and what a tick and the latest scrape may add to it.
    fn is_known_to_hang(&self, view: &ServerView) -> bool {
        let rules = &self.router.rules;
        let server = &self.servers[self.router.homes[&view.key]];
        let is_hung = matches!(server.ailment, Some(Ailment::Hung | Ailment::Stopped));
        let (account, eyes) = (&self.watch.accounts[&view.key], &self.router.eyes[&view.key]);
        let since = server.so_since.max(account.busy_since).max(self.router.asleep_until);
        let since = since.max(eyes.saw_again);
        let by = since + rules.stall_limit() + Duration::from_secs(1) + LEEWAY;
        // Without probes nothing but its requests can tell; nor can a probe that it does not know.
        rules.active_checks && server.can_be_probed && is_hung && account.held > 0 && self.now > by
    }

    /// A client hears that nobody can help only if that is so: everybody who could is closed, was
    /// tried, or is out and has not been well for long enough to be expected back.
    pub(crate) fn judge_refusal(&self, id: u32, refusal: Refusal) {
        for view in self.router.published.servers.iter() {
            if !self.may_be_asked(id, view) {
                continue;
            }
            assert_ne!(refusal, Refusal::NoServers);
            assert!(
                self.watch.heard.contains(&id) || view.health == Health::Unproven,
                "{id} is refused ({refusal:?}), has heard nothing, and {view:?} was not tried"
            );
            assert!(
                !self.router.published.gets_requests(view),
                "{id} is refused ({refusal:?}), and {view:?} gets requests"
            );
            let well_for = self.well_since(view.key).map(|since| self.now.since(since));
            let longest = self.router.rules.check_interval * 10 + self.way_back();
            assert!(
                well_for.is_none_or(|time| time <= longest),
                "{id} is refused ({refusal:?}), and {} is well for {well_for:?}",
                view.spec.url
            );
        }
    }

    /// Nothing speaks against one more attempt.
    pub(crate) fn judge_trying_again(&self, id: u32, failure: Failure, is_repeatable: bool) {
        let attempts = self.router.requests[&id].keys.len();
        assert!(attempts <= MAX_RETRIES, "{id} failed {attempts} times");
        let deaths = self.watch.deaths.get(&id).copied().unwrap_or_default();
        assert!(deaths < DEATHS_MAX, "{id} took {deaths} servers down");
        assert!(is_repeatable || never_began(failure), "{id} may have begun: {failure:?}");
    }

    /// Each reason for which a request is not repeated, by the world's own account.
    pub(crate) fn judge_giving_up(
        &self,
        id: u32,
        failure: Failure,
        why: GiveUp,
        is_repeatable: bool,
    ) {
        let attempts = self.router.requests[&id].keys.len();
        let deaths = self.watch.deaths.get(&id).copied().unwrap_or_default();
        match why {
            GiveUp::NotRepeatable => assert!(!is_repeatable && !never_began(failure)),
            GiveUp::Exhausted => assert!(attempts > MAX_RETRIES),
            GiveUp::Poison => assert_eq!(deaths, DEATHS_MAX),
            GiveUp::BudgetSpent => {
                let (allowed, taken) = self.watch.budget(self.now);
                assert!(taken >= allowed, "{taken} retries of {allowed}");
                assert!(!matches!(
                    failure,
                    Failure::Unreachable | Failure::OwnLimit | Failure::Lost | Failure::EngineDead
                ));
            }
        }
    }

    /// At the end of a life in which everything has been well for long.
    pub(crate) fn look_back(&self) {
        assert!(self.router.requests.is_empty(), "never ended: {:?}", self.router.requests);
        for (key, account) in &self.watch.accounts {
            assert_eq!(account.ledger.in_flight(), 0, "left at {key:?}");
            assert!(!account.ledger.is_on_trial(), "a trial without a request at {key:?}");
        }
        assert_eq!(self.router.published.judgement, Judgement::Trusted);
        for view in self.router.published.servers.iter() {
            assert!(view.health.is_routable(), "{view:?} is out");
            let late = self.watch.accounts[&view.key].late;
            assert!(
                late > 0,
                "{} has had no request since {FORGOTTEN:?} (last call: {LAST_CALL:?})",
                view.spec.url
            );
        }
    }
}
