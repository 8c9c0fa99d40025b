//! The decisions of the core in a simulated world: servers that fall ill, a router that stands
//! still, an operator who reloads, all from a seed.
//!
//! ```text
//! SEED=4711 cargo test -p mvllm-core --test simulation -- --nocapture
//! ```
//! lives one life again and prints every event of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod eyes;
mod faults;
mod invariants;
mod router;
mod servers;
mod world;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use invariants::Tally;
use world::World;

/// As many lives as a debug build on two cores gets through in less than half a minute.
const SEEDS: u64 = 2_000;

/// The seed to live again, if one is asked for.
fn asked_for() -> Option<u64> {
    std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"))
}

/// What happened in the life of a seed. Panics at the first broken rule.
fn live(seed: u64, is_told: bool) -> Tally {
    let mut world = World::new(seed, is_told);
    world.live();
    world.watch.tally
}

#[test]
fn whatever_goes_wrong_the_rules_hold() {
    if let Some(seed) = asked_for() {
        println!("{:?}", live(seed, true));
        return;
    }
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, Into::into);
    let lives: Vec<Result<Tally, u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| live_on(&next))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Tally::default();
    for life in lives {
        match life {
            Ok(tally) => all.add(&tally),
            Err(seed) => panic!(
                "seed {seed} breaks a rule, see above; its life: \
                 SEED={seed} cargo test -p mvllm-core --test simulation -- --nocapture"
            ),
        }
    }
    println!("{all:?}");
    all.has_seen_everything();
}

/// Lives one seed after another. The first that breaks a rule is the last.
fn live_on(next: &AtomicU64) -> Result<Tally, u64> {
    let mut all = Tally::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= SEEDS {
            return Ok(all);
        }
        let Ok(life) = catch_unwind(|| live(seed, false)) else {
            next.store(SEEDS, Ordering::Relaxed);
            return Err(seed);
        };
        all.add(&life);
    }
}

#[test]
fn a_seed_is_a_life() {
    for seed in [1, 2, 3] {
        assert_eq!(live(seed, false), live(seed, false));
    }
}
