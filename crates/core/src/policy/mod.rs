//! Policies: how eligible servers are ranked.

mod load;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::snapshot::ServerView;
use crate::time::Timestamp;

/// The policies to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The least `(running + waiting * 0.5) / capacity`, as in mvllm 0.1.0.
    #[default]
    Load,
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
    /// As the configuration and the documents call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
        }
    }

    /// What it reckons with of a server; the last is what decides, and the least of that is best.
    pub(crate) fn terms(self, server: &ServerView, now: Timestamp) -> Vec<Term> {
        match self {
            Self::Load => load::terms(server, now),
        }
    }

    /// The best of `eligible` (never empty), and the count of own requests there on which the
    /// choice is based.
    pub(crate) fn pick<'s>(
        self,
        eligible: &[&'s Arc<ServerView>],
        random: &mut fastrand::Rng,
        now: Timestamp,
    ) -> (&'s Arc<ServerView>, u32) {
        match self {
            Self::Load => load::pick(eligible, random, now),
        }
    }
}
