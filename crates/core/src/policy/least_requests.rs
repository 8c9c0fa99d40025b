//! `least_requests`: the server with the fewest of this router's requests for its capacity. It needs
//! nothing from the servers; what others send there it does not see.

use alloc::sync::Arc;

use super::least;
use crate::snapshot::ServerView;
use crate::time::Timestamp;

pub(super) fn pick<'s>(
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    least(eligible, random, |server| {
        let seen = server.ledger.in_flight();
        let requests = f64::from(seen) + 1.0;
        (requests * server.handicap.factor(now) / f64::from(server.spec.capacity.get()), seen)
    })
}
