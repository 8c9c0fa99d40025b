//! `session`: a session stays with its server, as long as that is there; a request without one goes
//! to the least loaded.
//!
//! The server is the one with the highest of the hashes of session and server ("rendezvous"): so no
//! table of sessions is needed, all routers agree, and when a server leaves, only its own sessions
//! move.

use alloc::sync::Arc;

use super::load;
use crate::choice::Facts;
use crate::snapshot::ServerView;
use crate::time::Timestamp;

pub(super) fn pick<'s>(
    facts: &Facts<'_>,
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> (&'s Arc<ServerView>, u32) {
    let Some(session) = facts.session else { return load::pick(eligible, random, now) };
    let highest = eligible.iter().max_by_key(|server| weight(session, &server.spec.url));
    let server = highest.expect("a policy is asked about someone");
    (server, server.ledger.in_flight())
}

/// FNV-1a over the address, mixed with the session.
pub(super) fn weight(session: u64, url: &str) -> u64 {
    let of_url = url.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (of_url ^ session).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}
