//! One event after another: a heap ordered by time and sequence, and one stream of random numbers
//! for each actor, so that a seed is a life.

use std::collections::BTreeMap;
use std::time::Duration;

use mvllm_core::fleet::Event as News;
use mvllm_core::health::{Fault, Probe};
use mvllm_core::snapshot::ServerKey;
use mvllm_core::time::Timestamp;

use super::faults::{Mishap, Order};
use super::invariants::Watch;
use super::router::Router;
use super::servers::{Metrics, Owner, Server, Sign};

/// For so long things go wrong; then everything is put right.
pub(crate) const TROUBLE: Duration = Duration::from_secs(40);
/// So long after the start, all that went wrong must be forgotten: the longest hold-down, the ramp,
/// and the memory of failed requests (40 s).
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(90);
/// Until then clients come.
pub(crate) const LAST_CALL: Duration = Duration::from_secs(110);
/// By then the last of them must have left.
pub(crate) const END: Duration = Duration::from_secs(130);

const MODELS: [&[&str]; 3] = [&["large"], &["small"], &["large", "small"]];
const URLS: [&str; 6] = ["http://a", "http://b", "http://c", "http://d", "http://e", "http://f"];

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A server's engine makes a step.
    Step(usize),
    Mishap(Mishap),
    /// For the router, as all that follow.
    Order(Order),
    /// A client sends a request.
    Arrive,
    /// A client has lost patience.
    Leave(u32),
    Reply(Owner, Sign),
    /// An attempt may have been silent for too long.
    Alarm(u32, u32),
    /// A request has waited for first checks long enough.
    Patience(u32),
    News(News),
    Tick,
    Scrape(ServerKey),
    /// Figures, with when they were asked for and how many requests were there then.
    Scraped(ServerKey, Metrics, Timestamp, u32),
    /// The so-manieth appointment: an earlier one may be made.
    Check(ServerKey, u64),
    /// With when the check began.
    Checked(ServerKey, Timestamp, Result<(), Fault>),
    Look(ServerKey),
    ProbeOver(ServerKey, u64, Probe),
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    to_come: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    pub(crate) servers: Vec<Server>,
    pub(crate) router: Router,
    pub(crate) watch: Watch,
    pub(crate) clients: fastrand::Rng,
    pub(crate) fate: fastrand::Rng,
    is_told: bool,
}

impl World {
    /// The world of a seed; `is_told`: with a line for each event.
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let actor = |nth: u64| fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) ^ (nth << 48));
        let mut fate = actor(0);
        let count = fate.usize(1..=URLS.len());
        let servers = (0..count).map(|at| {
            let models = if at == 0 { MODELS[2] } else { fate.choice(MODELS).unwrap() };
            Server::new(URLS[at], models, actor(10 + at as u64))
        });
        let servers: Vec<_> = servers.collect();
        let mut world = Self {
            now: Timestamp::ZERO,
            to_come: BTreeMap::new(),
            sequence: 0,
            router: Router::new(&mut fate, actor(1)),
            watch: Watch::default(),
            servers,
            clients: actor(2),
            fate,
            is_told,
        };
        world.configure(|_| true);
        world.at_once(Event::Tick);
        world.at_once(Event::Arrive);
        world.plan_mishaps();
        world
    }

    /// Lives to the end, with the invariants looked at after each event.
    pub(crate) fn live(&mut self) {
        let end = Timestamp::after_start(END);
        while let Some(((at, sequence), event)) = self.to_come.pop_first() {
            if at > end {
                break;
            }
            // What is for the router waits until it is there again, in the order in which it came.
            let is_for_router = !matches!(event, Event::Step(_) | Event::Mishap(_));
            if is_for_router && at < self.router.asleep_until {
                self.to_come.insert((self.router.asleep_until, sequence), event);
                continue;
            }
            self.now = at;
            self.tell(|| format!("{event:?}"));
            self.happen(event);
            self.look_for_broken_rules();
        }
        self.look_back();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step(server) => self.step(server),
            Event::Mishap(mishap) => self.suffer(mishap),
            Event::Order(order) => self.obey(order),
            Event::Arrive => self.arrive(),
            Event::Leave(id) => self.leave(id),
            Event::Reply(Owner::Request(id, nth), sign) => self.reply(id, nth, sign),
            Event::Reply(Owner::Probe(nth), sign) => self.probe_replied(nth, sign),
            Event::Alarm(id, nth) => self.alarm(id, nth),
            Event::Patience(id) => self.lose_patience(id),
            Event::News(news) => self.learn(news),
            Event::Tick => {
                self.learn(News::Tick);
                self.after(Duration::from_secs(1), Event::Tick);
            }
            Event::Scrape(key) => self.scrape(key),
            Event::Scraped(key, metrics, sent_at, own) => self.scraped(key, metrics, sent_at, own),
            Event::Check(key, nth) => self.check(key, nth),
            Event::Checked(key, begun, found) => self.checked(key, begun, found),
            Event::Look(key) => self.look(key),
            Event::ProbeOver(key, nth, probe) => self.probe_over(key, nth, probe),
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.to_come.insert((self.now + wait, self.sequence), event);
        self.sequence += 1;
    }

    pub(crate) fn at_once(&mut self, event: Event) {
        self.after(Duration::ZERO, event);
    }

    fn step(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let signs = server.step();
        server.is_stepping = !server.is_idle();
        let (again, next) = (server.is_stepping, server.step_time());
        self.deliver(signs);
        if again {
            self.after(next, Event::Step(at));
        }
    }

    /// What servers say needs a moment.
    pub(crate) fn deliver(&mut self, signs: Vec<(Owner, Sign)>) {
        for (owner, sign) in signs {
            self.after(Duration::from_millis(1), Event::Reply(owner, sign));
        }
    }

    /// Hands a piece of work to a server.
    pub(crate) fn submit(&mut self, at: usize, owner: Owner) {
        let server = &mut self.servers[at];
        match server.submit(owner) {
            Err(failure) => self.deliver(vec![(owner, Sign::Fails(failure))]),
            Ok(()) if server.is_stepping => {}
            Ok(()) => {
                server.is_stepping = true;
                let wait = server.step_time();
                self.after(wait, Event::Step(at));
            }
        }
    }

    /// A line of the event log, for whoever replays a seed.
    #[expect(clippy::print_stdout, reason = "that is what it is for")]
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:9.3} {}", self.now.since(Timestamp::ZERO).as_secs_f64(), line());
        }
    }
}
