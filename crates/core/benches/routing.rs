//! What a decision and an update of the prefix index cost: `cargo bench -p mvllm-core --bench routing`.
//!
//! The prompt has 32 KB, which are 512 blocks; the index is as full as it gets. Figures are those of
//! the fastest of some rounds: what the code costs when nobody disturbs it.

use std::io::Write;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mvllm_core::choice::{Facts, Tried, choose};
use mvllm_core::fleet::{Event, Fleet};
use mvllm_core::health::{Check, HealthRules};
use mvllm_core::load::Capacity;
use mvllm_core::policy::Policy;
use mvllm_core::prefix::PrefixIndex;
use mvllm_core::prompt::Prompt;
use mvllm_core::snapshot::{Models, ServerKey, ServerSpec, Snapshot};
use mvllm_core::time::Timestamp;

const ROUNDS: u32 = 20;
const PER_ROUND: u32 = 500;
const BLOCKS: u64 = 512;

/// Of one server: a million tokens, which makes a million blocks of 16 tokens on 16 servers.
const KV_TOKENS: u64 = 1_000_000;

fn main() {
    let mut out = std::io::stdout();
    for servers in [4, 64, 256] {
        let snapshot = snapshot(servers);
        let mut index = PrefixIndex::default();
        index.keep(snapshot.servers.iter().map(|server| (server.key, Some(KV_TOKENS))));
        fill(&mut index, servers);
        // All hold some of it, each another part.
        let known = prompt(7, BLOCKS);
        for nth in 0..servers {
            let part = BLOCKS * (nth % 8 + 1) / 8;
            index.enter(ServerKey::nth(nth), &prompt(7, part));
        }
        let mut random = fastrand::Rng::with_seed(1);
        let matched = fastest(|_| index.held(&known).tokens_at(ServerKey::nth(0)));
        let held = index.held(&known);
        let mut decide = |policy| {
            let facts = Facts { prompt: Some(&known), held: Some(&held), ..Facts::default() };
            fastest(|nth| {
                let now = Timestamp::from_nanos(u64::from(nth));
                choose(policy, &facts, &snapshot, &Tried::default(), &mut random, now).is_ok()
            })
        };
        let (adaptive, load) = (decide(Policy::Adaptive), decide(Policy::Load));
        let entered = fastest(|nth| {
            index.enter(
                ServerKey::nth(u64::from(nth) % servers),
                &prompt(1_000_000 + u64::from(nth), BLOCKS),
            );
        });
        let marks = index.len();
        let _ = writeln!(
            out,
            "{servers:>3} servers: match {matched:>8.2?}  adaptive {adaptive:>8.2?}  load \
             {load:>8.2?}  enter a new prompt {entered:>8.2?}  ({marks} hashes kept)",
        );
    }
}

/// The time of one call, in the fastest round.
fn fastest<T>(mut call: impl FnMut(u32) -> T) -> Duration {
    let mut best = Duration::MAX;
    for round in 0..ROUNDS {
        let begun = Instant::now();
        for nth in 0..PER_ROUND {
            std::hint::black_box(call(round * PER_ROUND + nth));
        }
        best = best.min(begun.elapsed() / PER_ROUND);
    }
    best
}

fn prompt(conversation: u64, blocks: u64) -> Prompt {
    let hash = |n: u64| {
        let mixed = (conversation << 20 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let tokens = blocks as u32 * 16;
    Prompt { blocks: (0..blocks).map(hash).collect(), tokens, ..Prompt::default() }
}

/// As many prompts as fit.
fn fill(index: &mut PrefixIndex, servers: u64) {
    let prompts = KV_TOKENS / (BLOCKS * 16) + 1;
    for nth in 0..servers {
        for conversation in 0..prompts {
            index.enter(ServerKey::nth(nth), &prompt(1_000 + nth * prompts + conversation, BLOCKS));
        }
    }
}

fn snapshot(servers: u64) -> Snapshot {
    let rules = HealthRules {
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
    let mut fleet = Fleet::new(rules);
    let spec = |nth| ServerSpec {
        url: format!("http://server-{nth}:8000").into(),
        capacity: Capacity::new(NonZeroU32::MIN),
        declared_models: None,
    };
    let now = Timestamp::ZERO;
    fleet.apply(Event::Configured((0..servers).map(spec).collect(), rules), now);
    for nth in 0..servers {
        let key = ServerKey::nth(nth);
        fleet.apply(Event::ModelsLearnt(key, Models::new(["m".into()])), now);
        let check = Check { took: Duration::from_millis(1), found: Ok(()) };
        fleet.apply(Event::Checked(key, check), now);
    }
    fleet.snapshot()
}
