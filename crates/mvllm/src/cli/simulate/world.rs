//! Virtual time: requests come, routers choose, engines compute, nobody waits.

use std::time::Duration;

use mvllm_core::ledger::Reservation;
use mvllm_core::prompt::{BLOCK_TOKENS, Prompt};
use mvllm_core::time::Timestamp;
use mvllm_sim::engine::{Event, EventKind};
use mvllm_sim::kv_cache::BlockHash;

use super::contestant::{Contestant, foresee};
use super::plant::{BLOCK_SIZE, FleetSpec, Plant};
use super::router::{Router, rules};
use super::tally::{Served, Tally};
use super::workload::Workload;

/// As `mvllm run` does.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);

/// The first one of so many requests only fill the caches.
const UNCOUNTED: usize = 10;

/// What is tried.
#[derive(Debug, Clone)]
pub(super) struct Trial<'a> {
    pub(super) workload: &'a Workload,
    pub(super) fleet: &'a FleetSpec,
    pub(super) routers: usize,
    pub(super) contestant: Contestant,
    pub(super) seed: u64,
}

/// A request on its way.
#[derive(Debug, Default)]
struct Course {
    came: Duration,
    reservation: Option<Reservation>,
    first: Option<Duration>,
    last: Duration,
    tokens: u32,
    cached: u32,
}

impl Course {
    fn token(&mut self, at: Duration, tally: &mut Tally) {
        if self.first.is_some() {
            tally.gap(at - self.last);
        } else {
            self.first = Some(at);
            let reservation = self.reservation.as_mut();
            reservation.into_iter().for_each(|r| r.first_token(Timestamp::after_start(at)));
        }
        self.last = at;
        self.tokens += 1;
    }
}

struct World<'a> {
    trial: &'a Trial<'a>,
    plant: Plant,
    routers: Vec<Router>,
    /// When which router looks at which server next.
    scrapes: Vec<(Duration, usize, usize)>,
    courses: Vec<Course>,
    random: fastrand::Rng,
    tally: Tally,
}

/// Runs the whole workload.
pub(super) fn run(trial: &Trial<'_>) -> Tally {
    let mut world = World::new(trial);
    let requests = &trial.workload.requests;
    let mut coming = 0;
    let mut left = requests.len();
    while left > 0 {
        let arrival = requests.get(coming).map(|request| request.at);
        let step = world.plant.next();
        let (scrape, ..) = world.scrapes[0];
        let event = step.map_or(Duration::MAX, |(at, _)| at);
        let arrives = arrival.unwrap_or(Duration::MAX);
        if event <= arrives && event <= scrape {
            let Some((now, server)) = step else { break };
            left -= world.advance(server, now);
        } else if arrives <= scrape {
            left -= world.arrive(coming, arrives);
            coming += 1;
        } else {
            world.scrape();
        }
    }
    world.finish()
}

impl<'a> World<'a> {
    fn new(trial: &'a Trial<'a>) -> Self {
        let plant = Plant::new(trial.fleet);
        let mut random = fastrand::Rng::with_seed(trial.seed);
        let routers: Vec<_> =
            (0..trial.routers).map(|_| Router::new(plant.len(), rules(), random.u64(..))).collect();
        let mut scrapes: Vec<_> = (0..routers.len())
            .flat_map(|router| (0..plant.len()).map(move |server| (router, server)))
            .map(|(router, server)| (SCRAPE_INTERVAL.mul_f64(random.f64()), router, server))
            .collect();
        scrapes.sort_unstable();
        let courses = trial.workload.requests.iter().map(|_| Course::default()).collect();
        let tally = Tally::new(plant.len());
        Self { trial, plant, routers, scrapes, courses, random, tally }
    }

    /// All scrapes have the same interval, so they stay in their order.
    fn scrape(&mut self) {
        let (due, router, server) = self.scrapes.remove(0);
        let now = Timestamp::after_start(due);
        self.routers[router].scrape(&self.plant, server, now);
        if server == 0 {
            self.routers[router].tick(now);
        }
        self.scrapes.push((due + SCRAPE_INTERVAL, router, server));
    }

    /// A request comes. How many are over by that: one that can never fit.
    fn arrive(&mut self, nth: usize, now: Duration) -> usize {
        let workload = self.trial.workload;
        let request = &workload.requests[nth];
        let blocks = workload.blocks(request, BLOCK_SIZE, 1);
        let blocks: Vec<_> = blocks.into_iter().map(BlockHash).collect();
        let course = &mut self.courses[nth];
        course.came = now;
        let server = match self.trial.contestant {
            Contestant::Router(policy) => {
                let prompt = Prompt {
                    blocks: workload.blocks(request, BLOCK_TOKENS, 2).into(),
                    tokens: request.prompt,
                    ..Prompt::default()
                };
                let router = self.random.usize(..self.routers.len());
                let session = request.prefix[(request.prefix.len() - 1).min(1)];
                let at = Timestamp::after_start(now);
                let (server, candidate) = self.routers[router].choose(policy, &prompt, session, at);
                course.reservation = Some(candidate.reservation);
                server
            }
            Contestant::Oracle { price } => {
                foresee(&self.plant, &blocks, request.prompt, price, &mut self.random, now)
            }
        };
        let lengths = (request.prompt, request.output);
        if !self.plant.submit(server, nth, lengths, blocks, now) {
            self.tally.missed();
            self.courses[nth].reservation = None;
            return 1;
        }
        self.advance(server, now)
    }

    /// Lets a server work until now. How many requests are over by that.
    fn advance(&mut self, server: usize, now: Duration) -> usize {
        let mut over = 0;
        for (nth, Event { at, kind, .. }) in self.plant.advance(server, now) {
            let course = &mut self.courses[nth];
            match kind {
                EventKind::Scheduled { cached_tokens } => course.cached = cached_tokens as u32,
                EventKind::Token(_) => course.token(at, &mut self.tally),
                EventKind::Finished(_) => {
                    course.reservation = None;
                    over += 1;
                    let first = course.first.unwrap_or(at);
                    let requests = &self.trial.workload.requests;
                    self.tally.served(Served {
                        server,
                        came: course.came,
                        ttft: first - course.came,
                        tpot: (at - first) / course.tokens.saturating_sub(1).max(1),
                        prompt: requests[nth].prompt,
                        cached: course.cached,
                        prefill: self.plant.profile(server).compute_per_token,
                        counts: nth >= requests.len() / UNCOUNTED,
                    });
                }
            }
        }
        over
    }

    fn finish(mut self) -> Tally {
        for server in 0..self.plant.len() {
            self.tally.preemptions += self.plant.preemptions(server);
        }
        self.tally
    }
}
