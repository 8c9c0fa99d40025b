//! The fleet, told anything in any order; and requests that are placed in it meanwhile.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use mvllm_core::attempt::Failure;
use mvllm_core::choice::{Facts, Refusal, Tried, choose};
use mvllm_core::fleet::{Change, Event, Fleet};
use mvllm_core::health::{Check, Fault, Health, HealthRules, Probe};
use mvllm_core::ledger::{Ledger, Reservation};
use mvllm_core::load::{Capacity, Counters, Reading, Sample};
use mvllm_core::policy::Policy;
use mvllm_core::snapshot::{
    Admission, Judgement, Models, ServerKey, ServerSpec, ServerView, Snapshot,
};
use mvllm_core::time::Timestamp;

/// Every few bytes are one event; the invariants hold after each.
pub fn check(input: &[u8]) {
    let mut bytes = Bytes(input);
    let mut life = Life::new();
    while !bytes.0.is_empty() {
        life.step(&mut bytes);
    }
}

/// The input as small numbers; zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, end: usize) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first) % end
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const URLS: [&str; 5] = ["http://a", "http://b", "http://c", "http://d", "http://e"];
const MODELS: [&str; 3] = ["m1", "m2", "m3"];
const FAULTS: [Fault; 10] = [
    Fault::Unreachable,
    Fault::Reset,
    Fault::Silent,
    Fault::NoProgress,
    Fault::EngineDead,
    Fault::Status(500),
    Fault::ErrorEvent,
    Fault::Malformed,
    Fault::SuccessRate,
    Fault::SlowChecks,
];

const RULES: HealthRules = HealthRules {
    active_checks: true,
    check_interval: Duration::from_secs(30),
    failure_threshold: 2,
    recovery_after: Duration::from_secs(60),
    consecutive_failures: 3,
    min_success_rate: 0.8,
    max_response_time: Duration::from_secs(10),
    window: 10,
    silence_limit: Duration::from_secs(30),
};

struct Life {
    fleet: Fleet,
    now: Timestamp,
    random: fastrand::Rng,
    /// The operator's word.
    urls: Vec<&'static str>,
    /// Every server ever met, with its account.
    met: BTreeMap<ServerKey, Arc<Ledger>>,
    held: Vec<(ServerKey, Reservation)>,
}

impl Life {
    fn new() -> Self {
        Self {
            fleet: Fleet::new(RULES),
            now: Timestamp::ZERO,
            random: fastrand::Rng::with_seed(1),
            urls: Vec::new(),
            met: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        const WAITS: [u64; 8] = [0, 1, 100, 1_000, 2_000, 4_000, 30_000, 400_000];
        let what = bytes.below(16);
        self.now = self.now + Duration::from_millis(bytes.of(&WAITS));
        match what {
            0 => self.place(bytes),
            1 => self.give_back(bytes),
            2 => self.look_at_the_account(bytes),
            _ => {
                let event = self.event(what, bytes);
                self.apply(event);
            }
        }
        self.is_sound();
    }

    /// Of a server known or long gone.
    fn key(&self, bytes: &mut Bytes<'_>) -> ServerKey {
        ServerKey::nth(bytes.below(self.met.len() + 1) as u64)
    }

    fn event(&mut self, what: usize, bytes: &mut Bytes<'_>) -> Event {
        let key = self.key(bytes);
        let earlier = |bytes: &mut Bytes<'_>, now: Timestamp| {
            Timestamp::from_nanos(now.as_nanos() / 16 * bytes.below(17) as u64).min(now)
        };
        match what {
            3 | 4 => Event::Checked(key, check_of(bytes)),
            5 => Event::Scraped(key, reading(bytes, self.now)),
            6 => Event::ScrapeRefused(key),
            7 => Event::ModelsLearnt(key, models(bytes)),
            8 | 9 => Event::RequestFailed(key, bytes.of(&FAULTS)),
            10 => Event::RequestSucceeded(key, earlier(bytes, self.now)),
            11 => {
                let fault = bytes.of(&FAULTS);
                let probe = bytes.of(&[Probe::Answered, Probe::CannotTell, Probe::Failed(fault)]);
                Event::Probed(key, earlier(bytes, self.now), probe)
            }
            12 => {
                let admissions = [Admission::Open, Admission::Cordoned, Admission::Draining];
                Event::Admission(bytes.of(&URLS).into(), bytes.of(&admissions))
            }
            13 => self.configured(bytes),
            _ => Event::Tick,
        }
    }

    fn configured(&mut self, bytes: &mut Bytes<'_>) -> Event {
        let count = bytes.below(URLS.len() + 2);
        self.urls = (0..count).map(|_| bytes.of(&URLS)).collect();
        let active_checks = bytes.below(4) != 0;
        let specs = self.urls.iter().map(|url| ServerSpec {
            url: (*url).into(),
            capacity: Capacity::new(NonZeroU32::new(4).expect("is not 0")),
            declared_models: (!active_checks).then(|| models(bytes)),
        });
        Event::Configured(specs.collect(), HealthRules { active_checks, ..RULES })
    }

    fn apply(&mut self, event: Event) {
        let before = self.fleet.snapshot();
        let answered = match &event {
            Event::RequestSucceeded(key, sent_at) => Some((*key, *sent_at)),
            _ => None,
        };
        let changes = self.fleet.apply(event, self.now);
        let after = self.fleet.snapshot();
        for view in after.servers.iter() {
            let Some(known) = before.servers.iter().find(|known| known.key == view.key) else {
                assert!(
                    self.met.insert(view.key, Arc::clone(&view.ledger)).is_none(),
                    "key reused"
                );
                assert!(changes.contains(&Change::Added(view.key, Arc::clone(&view.spec.url))));
                continue;
            };
            assert!(Arc::ptr_eq(&known.ledger, &view.ledger), "the account was lost");
            self.changes_in_health_are_told(known.health, view, &changes);
            let is_proven = answered.is_some_and(|(key, sent_at)| {
                key == view.key
                    && matches!(known.health, Health::Ejected { since, .. } if since <= sent_at)
            });
            if let Health::Ejected { until, .. } = known.health {
                assert!(
                    !view.health.is_routable() || until <= self.now || is_proven,
                    "{:?} became {:?}",
                    known.health,
                    view.health
                );
            }
        }
        for gone in
            before.servers.iter().filter(|gone| after.servers.iter().all(|v| v.key != gone.key))
        {
            assert!(changes.contains(&Change::Removed(gone.key, Arc::clone(&gone.spec.url))));
        }
    }

    fn changes_in_health_are_told(&self, before: Health, view: &ServerView, changes: &[Change]) {
        let url = Arc::clone(&view.spec.url);
        let told = |change: &Change| matches!(change, Change::Health { url: of, to, .. } if *of == url && *to == view.health);
        assert!(before == view.health || changes.iter().any(told), "{before:?} {changes:?}");
    }

    /// A request: perhaps some servers have been tried, perhaps it names a model.
    fn place(&mut self, bytes: &mut Bytes<'_>) {
        let snapshot = self.fleet.snapshot();
        let model = bytes.of(&[None, Some(MODELS[0]), Some(MODELS[1]), Some("unheard of")]);
        let mut tried = Tried::default();
        let mut keys = Vec::new();
        for _ in 0..bytes.below(3) {
            let failure =
                bytes.of(&[Failure::Lost, Failure::ServerError(500), Failure::Unreachable]);
            keys.push(self.key(bytes));
            tried.note(keys[keys.len() - 1], failure);
        }
        let before: Vec<u32> = snapshot.servers.iter().map(|s| s.ledger.in_flight()).collect();
        let facts = Facts { model, ..Facts::default() };
        let chosen = choose(Policy::Load, &facts, &snapshot, &tried, &mut self.random, self.now);
        let may = |server: &&Arc<ServerView>| {
            server.admission == Admission::Open
                && !keys.contains(&server.key)
                && serves(server, model)
        };
        let able: Vec<&Arc<ServerView>> = snapshot.servers.iter().filter(may).collect();
        match chosen {
            Ok(candidate) => {
                let at = snapshot.servers.iter().position(|s| s.key == candidate.server.key);
                let at = at.expect("a server of the fleet");
                assert_eq!(snapshot.servers[at].ledger.in_flight(), before[at] + 1);
                is_a_good_choice(&candidate.server, &able, &snapshot, self.now);
                self.held.push((candidate.server.key, candidate.reservation));
            }
            Err(refusal) => is_a_true_refusal(refusal, &able, &snapshot, model),
        }
    }

    fn give_back(&mut self, bytes: &mut Bytes<'_>) {
        if !self.held.is_empty() {
            let at = bytes.below(self.held.len());
            drop(self.held.swap_remove(at));
        }
    }

    fn look_at_the_account(&mut self, bytes: &mut Bytes<'_>) {
        let key = self.key(bytes);
        let Some(ledger) = self.met.get(&key) else { return };
        match bytes.below(2) {
            0 => ledger.note_progress(self.now),
            _ => ledger.note_full(self.now + Duration::from_secs(bytes.below(20) as u64)),
        }
    }

    fn is_sound(&self) {
        let snapshot = self.fleet.snapshot();
        let urls: Vec<&str> = snapshot.servers.iter().map(|server| &*server.spec.url).collect();
        assert_eq!(urls, self.urls);
        for (key, ledger) in &self.met {
            let held = self.held.iter().filter(|(of, _)| of == key).count();
            assert_eq!(ledger.in_flight() as usize, held, "{key:?}");
        }
        for (at, server) in (0..).zip(snapshot.servers.iter()) {
            let (score, _) = server.score(self.now);
            assert!(score.is_finite() && score >= 0.0 && server.handicap.factor(self.now) >= 1.0);
            for model in server.models.iter().flat_map(Models::iter) {
                let listed = snapshot.models.servers_of(model).expect("it is listed");
                assert!(listed.contains(&at));
            }
        }
        if snapshot.judgement == Judgement::Doubted {
            let open = || snapshot.servers.iter().filter(|s| s.admission == Admission::Open);
            let silent = open().filter(|server| server.health.rests_on_silence()).count();
            assert!(silent >= 2 && 2 * silent > open().count());
        }
    }
}

/// Whether the server may be asked: it lists the model, or has not said what it serves.
fn serves(server: &ServerView, model: Option<&str>) -> bool {
    let lists = |models: &Models| models.iter().any(|name| Some(&**name) == model);
    model.is_none() || server.models.as_ref().is_none_or(lists)
}

fn is_a_good_choice(
    chosen: &ServerView,
    able: &[&Arc<ServerView>],
    snapshot: &Snapshot,
    now: Timestamp,
) {
    assert!(able.iter().any(|server| server.key == chosen.key), "{chosen:?} may not be asked");
    assert_ne!(chosen.health, Health::Unproven);
    // Others who are beyond doubt come before one that is out, and before a second trial.
    let is_fit = |server: &&Arc<ServerView>| {
        matches!(server.health, Health::Healthy)
            && server.key != chosen.key
            && server.models.is_some()
            && !server.has_fallen_silent(now)
            && !server.ledger.is_full(now)
    };
    if able.iter().any(is_fit) {
        assert!(snapshot.gets_requests(chosen), "{:?} before a well one", chosen.health);
    }
}

fn is_a_true_refusal(
    refusal: Refusal,
    able: &[&Arc<ServerView>],
    snapshot: &Snapshot,
    model: Option<&str>,
) {
    let routable = able.iter().any(|server| snapshot.gets_requests(server));
    assert!(!routable, "{refusal:?} though {able:?} would answer");
    match refusal {
        Refusal::NoServers => assert!(snapshot.servers.is_empty()),
        Refusal::UnknownModel => {
            assert!(!snapshot.servers.iter().any(|server| serves(server, model)));
        }
        Refusal::NotYet => assert!(
            snapshot
                .servers
                .iter()
                .any(|server| server.health == Health::Unproven && serves(server, model))
        ),
        Refusal::Exhausted => {}
    }
}

fn check_of(bytes: &mut Bytes<'_>) -> Check {
    let took = Duration::from_millis(bytes.of(&[1, 100, 9_000, 30_000]));
    let fault = bytes.of(&FAULTS);
    Check { took, found: bytes.of(&[Ok(()), Ok(()), Err(fault)]) }
}

fn models(bytes: &mut Bytes<'_>) -> Models {
    let mask = bytes.below(1 << MODELS.len());
    let names = MODELS.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
    Models::new(names.map(|(_, name)| (*name).into()))
}

fn reading(bytes: &mut Bytes<'_>, now: Timestamp) -> Reading {
    let mut figure = || bytes.below(256) as f64;
    let sample = Sample {
        sent_at: now,
        own_in_flight: figure() as u32,
        running: figure(),
        waiting: figure(),
        kv_cache_usage: figure() / 255.0,
    };
    let started = bytes.of(&[None, Some(1.0), Some(2.0)]);
    let generation_tokens = bytes.of(&[None, Some(5), Some(9)]);
    let counters = Counters { generation_tokens, ..Counters::default() };
    Reading { sample, counters, kv_tokens: None, process_max_fds: None, started }
}
