//! `load`: the least loaded server by mvllm's score, ties broken at random.
//!
//! 0.1.0 chose blindly among all servers under one half, which ignored the headroom that they had
//! and herded between two polls. The least score keeps its promise (see
//! [`crate::load::PREFERRED_BELOW`]) and does neither.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Term;
use crate::snapshot::ServerView;
use crate::time::Timestamp;

pub(super) fn pick<'s>(
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    let (first, rest) = eligible.split_first().expect("a policy is asked about someone");
    let (mut best, mut best_score, mut best_seen) = score(first, now);
    let mut equals = 1;
    for server in rest {
        let (server, score, seen) = score(server, now);
        if score > best_score {
            continue;
        }
        // Of k equal servers each is kept with probability 1/k (reservoir sampling).
        equals = if score < best_score { 1 } else { equals + 1 };
        if equals == 1 || random.u32(..equals) == 0 {
            (best, best_score, best_seen) = (server, score, seen);
        }
    }
    (best, best_seen)
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

fn score(server: &Arc<ServerView>, now: Timestamp) -> (&Arc<ServerView>, f64, u32) {
    let (score, seen) = server.score(now);
    (server, score, seen)
}
