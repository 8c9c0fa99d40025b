//! Policies: how eligible servers are ranked.

pub mod adaptive;
mod least_requests;
mod load;
mod prefix;
mod round_robin;
mod session;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::str::FromStr;

use crate::choice::Facts;
use crate::snapshot::ServerView;
use crate::time::Timestamp;

/// The policies to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The least delay to this request and to all others, as far as that can be known.
    Adaptive,
    /// The least `(running + waiting * 0.5) / capacity`, as in mvllm 0.1.0.
    #[default]
    Load,
    /// One after the other.
    RoundRobin,
    /// The fewest requests for its capacity.
    LeastRequests,
    /// Where most of the prompt is in the KV cache, unless that server has far more to do.
    Prefix,
    /// Always the same server for a session, as long as it is there.
    Session,
}

/// One figure that a policy reckoned with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub value: f64,
}

impl Policy {
    /// All of them, the best known first.
    pub const ALL: [Self; 6] = [
        Self::Adaptive,
        Self::Load,
        Self::RoundRobin,
        Self::LeastRequests,
        Self::Prefix,
        Self::Session,
    ];

    /// As the configuration and the documents call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Load => "load",
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
            Self::Prefix => "prefix",
            Self::Session => "session",
        }
    }

    /// Whether it asks what the servers hold of a prompt.
    pub const fn looks_at_prefixes(self) -> bool {
        matches!(self, Self::Adaptive | Self::Prefix)
    }

    /// What it reckons with of a server; the last is what decides, and the least of that is best.
    pub(crate) fn terms(self, facts: &Facts<'_>, server: &ServerView, now: Timestamp) -> Vec<Term> {
        match self {
            Self::Adaptive => adaptive::terms(facts, server, now),
            Self::Prefix => prefix::terms(facts, server, now),
            Self::Load | Self::RoundRobin | Self::LeastRequests | Self::Session => {
                load::terms(server, now)
            }
        }
    }

    /// The best of `eligible` (never empty), and the count of own requests there on which the
    /// choice is based.
    pub(crate) fn pick<'s>(
        self,
        facts: &Facts<'_>,
        eligible: &[&'s Arc<ServerView>],
        random: &mut fastrand::Rng,
        now: Timestamp,
    ) -> (&'s Arc<ServerView>, u32) {
        match self {
            Self::Adaptive => adaptive::pick(facts, eligible, random, now),
            Self::Load => load::pick(eligible, random, now),
            Self::RoundRobin => round_robin::pick(eligible),
            Self::LeastRequests => least_requests::pick(eligible, random, now),
            Self::Prefix => prefix::pick(facts, eligible, random, now),
            Self::Session => session::pick(facts, eligible, random, now),
        }
    }
}

/// There is no policy of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or(UnknownPolicy)
    }
}

/// The server of the least score; of equals, each with the same probability. `score` answers with
/// the count of own requests on which it is based.
fn least<'s>(
    eligible: &[&'s Arc<ServerView>],
    random: &mut fastrand::Rng,
    mut score: impl FnMut(&ServerView) -> (f64, u32),
) -> (&'s Arc<ServerView>, u32) {
    let (first, rest) = eligible.split_first().expect("a policy is asked about someone");
    let (mut best, (mut best_score, mut best_seen)) = (first, score(first));
    let mut equals = 1;
    for server in rest {
        let (score, seen) = score(server);
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
