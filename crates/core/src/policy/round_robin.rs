//! `round_robin`: one server after the other, whatever they have to do.
//!
//! Whose turn it is follows from how many requests all of them have had: there is no pointer that
//! threads would have to share.

use alloc::sync::Arc;

use crate::snapshot::ServerView;

pub(super) fn pick<'s>(eligible: &[&'s Arc<ServerView>]) -> (&'s Arc<ServerView>, u32) {
    let taken = eligible.iter().fold(0u64, |sum, server| sum.wrapping_add(server.ledger.taken()));
    let server = eligible[(taken % eligible.len() as u64) as usize];
    (server, server.ledger.in_flight())
}
