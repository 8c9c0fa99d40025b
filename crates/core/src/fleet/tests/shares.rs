//! Who gets how much, in simulated time: requests arrive evenly, take their time, and end.

use super::*;
use crate::choice::{Candidate, Facts, Tried, choose};
use crate::policy::Policy;
use alloc::collections::VecDeque;

/// Requests arrive so often.
const EVERY: Duration = Duration::from_millis(10);

/// And take so long where they succeed.
const TAKES: Duration = Duration::from_secs(1);

/// Of servers that are in, whatever fails there.
const LENIENT: HealthRules = HealthRules { failure_threshold: u32::MAX, ..RULES };

struct World {
    fleet: Fleet,
    keys: Vec<ServerKey>,
    now: Timestamp,
    under_way: VecDeque<(Timestamp, Candidate)>,
    random: fastrand::Rng,
}

impl World {
    /// Servers of equal size that are all in.
    fn of(count: usize, rules: HealthRules) -> Self {
        let mut fleet = Fleet::new(rules);
        let spec = |nth| {
            let capacity = Capacity::new(NonZeroU32::new(64).unwrap());
            ServerSpec { capacity, ..spec(&alloc::format!("http://{nth}")) }
        };
        let specs = (0..count).map(spec).collect();
        fleet.apply(Event::Configured(specs, rules), at(0));
        let keys: Vec<_> = (0..count).map(|nth| key(&fleet, nth)).collect();
        for key in &keys {
            fleet.apply(Event::Checked(*key, check(Ok(()))), at(0));
        }
        let random = fastrand::Rng::with_seed(9);
        Self { fleet, keys, now: at(1), under_way: VecDeque::new(), random }
    }

    /// One request after the other for so long; how many went to the server `bad`, where they fail
    /// at once if `failing`.
    fn run(&mut self, time: Duration, bad: usize, failing: bool) -> (usize, usize) {
        let (mut all, mut there) = (0, 0);
        let end = self.now + time;
        while self.now < end {
            while self.under_way.front().is_some_and(|(ends, _)| *ends <= self.now) {
                self.under_way.pop_front();
            }
            let (facts, tried) = (Facts::default(), Tried::default());
            let snapshot = self.fleet.snapshot();
            let chosen =
                choose(Policy::Load, &facts, &snapshot, &tried, &mut self.random, self.now)
                    .unwrap();
            all += 1;
            let is_bad = chosen.server.key == self.keys[bad];
            there += usize::from(is_bad);
            if is_bad && failing {
                let event = Event::RequestFailed(chosen.server.key, Fault::Status(500));
                self.fleet.apply(event, self.now);
            } else {
                self.under_way.push_back((self.now + TAKES, chosen));
            }
            self.now = self.now + EVERY;
        }
        (all, there)
    }
}

#[test]
fn a_server_that_fails_at_once_attracts_no_traffic() {
    let mut world = World::of(2, LENIENT);
    world.run(20 * EVERY, 0, true);
    let (all, there) = world.run(Duration::from_secs(120), 0, true);
    assert!(there * 50 < all, "{there} of {all}");
}

#[test]
fn a_server_that_has_failed_gets_its_share_again() {
    let mut world = World::of(2, LENIENT);
    world.run(Duration::from_secs(20), 0, true);
    world.run(Duration::from_secs(200), 0, false);
    let (all, there) = world.run(Duration::from_secs(20), 0, false);
    assert!((all * 45 / 100..all * 55 / 100).contains(&there), "{there} of {all}");
}

#[test]
fn a_server_that_returns_gets_more_from_second_to_second_and_no_herd() {
    let mut world = World::of(3, RULES);
    let key = world.keys[0];
    world.run(Duration::from_secs(5), 0, false);
    world.fleet.apply(Event::RequestFailed(key, Fault::EngineDead), world.now);
    assert_eq!(world.run(Duration::from_secs(5), 0, false).1, 0);
    world.fleet.apply(Event::Probed(key, world.now, Probe::Answered), world.now);
    let shares: Vec<_> = (0..12).map(|_| world.run(Duration::from_secs(1), 0, false).1).collect();
    assert!(shares[0] <= 10, "a herd: {shares:?}");
    assert!(shares[10] >= 30, "an equal share is 33: {shares:?}");
    let (early, late): (usize, usize) = (shares[..4].iter().sum(), shares[6..10].iter().sum());
    assert!(early < late, "{shares:?}");
}

#[test]
fn a_server_that_returns_gets_all_if_there_is_no_other() {
    let mut world = World::of(1, RULES);
    let key = world.keys[0];
    world.fleet.apply(Event::RequestFailed(key, Fault::EngineDead), world.now);
    world.fleet.apply(Event::Probed(key, world.now, Probe::Answered), world.now);
    let (all, there) = world.run(Duration::from_secs(1), 0, false);
    assert_eq!(there, all);
}
