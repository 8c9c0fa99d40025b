//! Policies: how eligible servers are ranked.

mod load;

use alloc::sync::Arc;

use crate::snapshot::ServerView;
use crate::time::Timestamp;

/// The policies to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The least `(running + waiting * 0.5) / capacity`, as in mvllm 0.1.0.
    #[default]
    Load,
}

impl Policy {
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
