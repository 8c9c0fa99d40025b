//! `prefix`: the server that holds most of the prompt in its KV cache, unless it has far more to do
//! than the least loaded; among equals, and for prompts that nobody knows, the least loaded.
//!
//! For fleets where hits are all that counts. It knows nothing of what a hit is worth in time: that
//! is `adaptive`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Term, least, load};
use crate::choice::Facts;
use crate::snapshot::ServerView;
use crate::time::Timestamp;

/// A server is passed over for its cache while it has so many times the requests of the least
/// loaded, for its capacity, and [`SPARE`] more.
const IMBALANCE: f64 = 1.5;

/// See above: among few requests, one more is no imbalance.
const SPARE: f64 = 4.0;

/// A hit on less of the prompt than this part is no reason: most prompts share some beginning.
const LEAST_PART: f64 = 0.3;

pub(super) fn pick<'s>(
    facts: &Facts<'_>,
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    let crowd = |server: &ServerView| {
        let (load, _) = server.load(now);
        (load.running + load.waiting) * server.handicap.factor(now)
    };
    let capacity = |server: &ServerView| f64::from(server.spec.capacity.get());
    let emptiest = eligible.iter().map(|server| crowd(server) / capacity(server));
    let emptiest = emptiest.fold(f64::INFINITY, f64::min);
    least(eligible, random, |server| {
        let seen = server.ledger.in_flight();
        let crowded = crowd(server) > emptiest * capacity(server) * IMBALANCE + SPARE;
        let work = facts.work_at(server);
        let held = f64::from(work.prompt - work.uncached) / f64::from(work.prompt.max(1));
        let hit = if crowded || held < LEAST_PART { 0.0 } else { held };
        // A load of a million servers' capacity is worth less than the smallest hit.
        (crowd(server) / capacity(server) * 1e-6 - hit, seen)
    })
}

/// The tokens that the server holds, and the load.
pub(super) fn terms(facts: &Facts<'_>, server: &ServerView, now: Timestamp) -> Vec<Term> {
    let work = facts.work_at(server);
    let held = Term { name: "held", value: f64::from(work.prompt - work.uncached) };
    core::iter::once(held).chain(load::terms(server, now)).collect()
}
