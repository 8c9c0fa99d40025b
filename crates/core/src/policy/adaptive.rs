//! `adaptive`: the server where the request costs everybody the least time.
//!
//! The cost of a candidate is in seconds, and has five parts:
//!
//! * **wait**: the prompts that are there already and not yet computed, at the pace that the server
//!   has shown;
//! * **own**: the part of this prompt that is not in its KV cache, at that pace. It counts twice: the
//!   request waits for it, and so does whoever comes next;
//! * **stall**: the streams that stand still while it is computed. So the more a server decodes,
//!   compared with the others, the more a hit there is worth, without any threshold;
//! * **room**: how full its KV cache will be, squared: a full one makes prompts wait and throws out
//!   requests, a half empty one is as good as an empty one;
//! * **excess**: by how much more than a second longer the request waits here than elsewhere, twice
//!   more: a few must not pay for the good of the many.
//!
//! Nothing here is to be configured. Times are learnt for each server ([`crate::pace`]); the weights
//! are ratios, which hold for fast and slow servers alike. They were chosen on Mooncake's
//! conversation trace and on an unequal fleet; docs/routing-results.md shows them on others.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Term;
use super::session::weight;
use crate::choice::Facts;
use crate::snapshot::{ServerKey, ServerView};
use crate::time::Timestamp;

/// What a second of a request's own computation costs those after it.
const PRICE: f64 = 1.0;

/// What it costs that the streams of a server with as many as the others stand still for a second,
/// against a second before the first token: the same. Half as many cost half of that. (To count the
/// streams themselves instead sends, where there are hundreds, all long prompts to one server.)
const STALL: f64 = 1.0;

/// As long as the servers have fewer streams in the mean, they are few in any case.
const FEW_STREAMS: f64 = 25.0;

/// What a full KV cache costs, in units of work: as much as a long prompt ahead, which is about how
/// long it takes until there is room again.
const ROOM: f64 = 20_000.0;

/// What each second of waiting costs more that comes on top of the least possible and of
/// [`PATIENCE`].
const EXCESS: f64 = 2.0;

/// Seconds. See above.
const PATIENCE: f64 = 1.0;

/// Candidates whose costs differ by less, in seconds or as a part of the own work, are equals: the
/// load decides, by the operator's word on capacities, as for [`super::Policy::Load`].
const ALIKE: f64 = 1e-3;

/// See [`ALIKE`].
const ALIKE_PART: f64 = 0.01;

/// The block that decides where a prompt is at home: 1,024 tokens from its beginning. That is beyond
/// the system prompts that many share, and before the end of most conversations' first turn.
const HOME_BLOCK: usize = 63;

/// What part of a prompt is expected at home, if all requests were those of other routers: all of it.
/// (With half, three routers have 17 % of hits on the conversation trace, with all 22 %, as one has.)
const HOMING: f64 = 1.0;

/// Tokens of a KV cache of which the server does not tell the size.
const UNKNOWN_KV_TOKENS: u64 = 400_000;

/// What a request costs at one server, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Prompts ahead.
    pub wait: f64,
    /// Computing what is not cached.
    pub own: f64,
    /// What that takes from those after it.
    pub price: f64,
    /// What it takes from streams under way.
    pub stall: f64,
    /// What a KV cache without room will take.
    pub room: f64,
    /// What is waited more than elsewhere.
    pub excess: f64,
    /// By how much the server counts as slower than it is (see [`crate::health::Handicap`]).
    pub handicap: f64,
}

impl Cost {
    /// The sum, which decides.
    pub fn total(&self) -> f64 {
        let parts = self.wait + self.own + self.price + self.stall + self.room + self.excess;
        parts * self.handicap
    }

    /// Seconds to the first token, by all that is known.
    pub fn first_token(&self) -> f64 {
        self.wait + self.own
    }
}

pub(super) fn pick<'s>(
    facts: &Facts<'_>,
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    let costs = costs(facts, eligible, now);
    let total = |at: usize| costs[at].0.total();
    let best = (0..costs.len()).min_by(|a, b| total(*a).total_cmp(&total(*b)));
    let best = best.expect("a policy is asked about someone");
    let alike = ALIKE.max(costs[best].0.own * ALIKE_PART);
    let (mut chosen, mut least, mut equals) = (best, f64::INFINITY, 0);
    for at in (0..costs.len()).filter(|at| total(*at) <= total(best) + alike) {
        let (load, _) = eligible[at].score(now);
        if load > least {
            continue;
        }
        // Of k equal servers each is kept with probability 1/k (reservoir sampling).
        equals = if load < least { 1 } else { equals + 1 };
        least = load;
        if equals == 1 || random.u32(..equals) == 0 {
            chosen = at;
        }
    }
    (eligible[chosen], costs[chosen].1)
}

/// What the cost at this server consists of, but for what only the others tell: the excess, and what
/// is usual.
pub(super) fn terms(facts: &Facts<'_>, server: &ServerView, now: Timestamp) -> Vec<Term> {
    let alone = Usual { capacity: capacity(server), streams: FEW_STREAMS };
    let (cost, _) = cost(facts, server, 0, alone, now);
    let Cost { wait, own, price, stall, room, handicap, .. } = cost;
    let names = ["wait", "own", "price", "stall", "room", "handicap", "cost"];
    let values = [wait, own, price, stall, room, handicap, cost.total()];
    names.into_iter().zip(values).map(|(name, value)| Term { name, value }).collect()
}

/// What the request costs at each of these servers, and the count of own requests there on which
/// that is based.
pub fn costs(facts: &Facts<'_>, eligible: &[&Arc<ServerView>], now: Timestamp) -> Vec<(Cost, u32)> {
    let usual = Usual::of(eligible, now);
    let at_home = home(facts, eligible, now);
    let cost = |server: &&Arc<ServerView>| {
        let expected = at_home.as_ref().filter(|home| home.server == server.key);
        let expected = expected.map_or(0, |home| home.held);
        cost(facts, server, expected, usual, now)
    };
    let mut costs: Vec<_> = eligible.iter().map(cost).collect();
    let least = costs.iter().map(|(cost, _)| cost.first_token()).fold(f64::INFINITY, f64::min);
    for (cost, _) in &mut costs {
        cost.excess = EXCESS * (cost.first_token() - least - PATIENCE).max(0.0);
    }
    costs
}

/// Where several routers are at work, each prompt has a home, on which they agree without a word:
/// the server with the highest hash of it and an early block. What other routers have sent there,
/// this one has not seen; it expects it there.
struct Home {
    server: ServerKey,
    /// Tokens.
    held: u32,
}

fn home(facts: &Facts<'_>, eligible: &[&Arc<ServerView>], now: Timestamp) -> Option<Home> {
    let prompt = facts.prompt?;
    let block = prompt.blocks.get(HOME_BLOCK).or(prompt.blocks.last())?;
    let (mut own, mut foreign) = (0.0, 0.0);
    for server in eligible {
        let others = server.others(now);
        own += f64::from(server.ledger.in_flight());
        foreign += others.running + others.waiting;
    }
    let share = foreign / (own + foreign).max(1.0);
    let home = eligible.iter().max_by_key(|server| weight(*block, &server.spec.url))?;
    let held = f64::from(prompt.tokens) * share * HOMING;
    Some(Home { server: home.key, held: held as u32 })
}

/// What servers are like in the mean.
#[derive(Debug, Clone, Copy)]
struct Usual {
    /// By the operator's word.
    capacity: f64,
    streams: f64,
}

impl Usual {
    fn of(servers: &[&Arc<ServerView>], now: Timestamp) -> Self {
        let mean = |of: &dyn Fn(&ServerView) -> f64| {
            servers.iter().map(|server| of(server)).sum::<f64>() / servers.len() as f64
        };
        Self { capacity: mean(&capacity), streams: mean(&|server| streams(server, now)) }
    }
}

fn capacity(server: &ServerView) -> f64 {
    server.spec.capacity.get().into()
}

/// Requests that have had their first token.
fn streams(server: &ServerView, now: Timestamp) -> f64 {
    let own = server.ledger.in_flight().saturating_sub(server.ledger.prefilling());
    f64::from(own) + server.others(now).running
}

/// All but the excess.
fn cost(
    facts: &Facts<'_>,
    server: &ServerView,
    expected: u32,
    usual: Usual,
    now: Timestamp,
) -> (Cost, u32) {
    let (ledger, pace) = (&server.ledger, server.pace);
    let seen = ledger.in_flight();
    let others = server.others(now);
    let mut work = facts.work_at(server);
    work.uncached = work.uncached.min(work.prompt - expected.min(work.prompt));
    let own = pace.seconds(f64::from(work.prefill()));
    let crowd = streams(server, now) / usual.streams.max(FEW_STREAMS);
    let filled = server.kv_fill(UNKNOWN_KV_TOKENS, work.prompt, now);
    let cost = Cost {
        wait: ledger.seconds_ahead(pace, now) + pace.seconds_for_requests(others.waiting),
        own,
        price: own * PRICE,
        stall: own * crowd * usual.capacity / capacity(server) * STALL,
        room: pace.seconds(ROOM * filled * filled),
        excess: 0.0,
        handicap: server.handicap.factor(now),
    };
    (cost, seen)
}
