//! A choice, laid open: what it looked at, in the order of the file, and what came of that.
//!
//! Nothing is decided here: the standings are those that [`choose`](super::choose) goes by, the
//! terms are the policy's own, and no place is taken.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Facts, LeftOut, Refusal, Tier, Tried, eligible, holder, standings};
use crate::policy::{Policy, Term};
use crate::snapshot::{ServerView, Snapshot};
use crate::time::Timestamp;

/// What a choice looked at, and what came of it.
#[derive(Debug)]
pub struct Explanation<'s> {
    /// All servers, in the order of the file.
    pub servers: Vec<Considered<'s>>,
    /// Who would get the request at this moment. Between equal ones it falls as it falls.
    pub choice: Result<&'s Arc<ServerView>, Refusal>,
}

/// One server, as a choice saw it.
#[derive(Debug)]
pub struct Considered<'s> {
    /// The server.
    pub server: &'s Arc<ServerView>,
    /// Whether it was among those to be ranked.
    pub standing: Standing,
    /// What the policy reckoned with; the last term is what decides, the least of all.
    pub terms: Vec<Term>,
}

/// How a server stands for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be chosen if there is nobody of a better tier.
    In(Tier),
    /// It may not be chosen.
    Out(LeftOut),
    /// It alone holds what the request is about.
    Holder,
}

impl Standing {
    /// In a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Holder => "the only one that holds what the request is about",
            Self::In(Tier::Fit) => "fit",
            Self::In(Tier::Full) => "has just said that it is full",
            Self::In(Tier::Doubtful) => "well by its record, but shows no progress",
            Self::In(Tier::ModelsUnknown) => "has not said what it serves",
            Self::In(Tier::Cramped) => "the prompt is longer than it takes",
            Self::In(Tier::LastResort) => "out; asked if nobody else is left",
            Self::Out(LeftOut::OtherModels) => "serves other models",
            Self::Out(LeftOut::NotAdmitted) => "gets no new requests by the operator's order",
            Self::Out(LeftOut::Tried) => "was tried",
            Self::Out(LeftOut::TooShort) => "another one that takes as much found it too long",
            Self::Out(LeftOut::Unproven) => "has not been checked yet",
            Self::Out(LeftOut::Ejected) => "out, and somebody else has answered",
        }
    }
}

/// Explains the choice that would be made now.
pub fn explain<'s>(
    policy: Policy,
    facts: &Facts<'_>,
    snapshot: &'s Snapshot,
    tried: &Tried,
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> Explanation<'s> {
    let choice = eligible(facts, snapshot, tried, now)
        .map(|eligible| policy.pick(facts, &eligible, random, now).0);
    let holder = holder(facts, snapshot, tried).map(|holder| holder.key);
    let considered = standings(facts, snapshot, tried, now).map(|(server, _, standing)| {
        let standing = match standing {
            _ if holder == Some(server.key) => Standing::Holder,
            Ok(tier) => Standing::In(tier),
            Err(left_out) => Standing::Out(left_out),
        };
        Considered { server, standing, terms: policy.terms(facts, server, now) }
    });
    Explanation { servers: considered.collect(), choice }
}
