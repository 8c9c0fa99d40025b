//! `load`: the least loaded server by mvllm's score, ties broken at random.
//!
//! 0.1.0 chose blindly among all servers under one half, which ignored the headroom that they had
//! and herded between two polls. The least score keeps its promise (see
//! [`crate::load::PREFERRED_BELOW`]) and does neither.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Term, least};
use crate::snapshot::ServerView;
use crate::time::Timestamp;

pub(super) fn pick<'s>(
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    least(eligible, random, |server| server.score(now))
}

pub(super) fn terms(server: &ServerView, now: Timestamp) -> Vec<Term> {
    let (load, _) = server.load(now);
    let term = |name, value| Term { name, value };
    alloc::vec![
        term("running", load.running),
        term("waiting", load.waiting),
        term("max_concurrent_requests", server.spec.capacity.get().into()),
        term("handicap", server.handicap.factor(now)),
        term("score", server.score(now).0),
    ]
}
