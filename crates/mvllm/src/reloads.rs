//! How the configuration's changes fared.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts, for `/metrics`.
#[derive(Debug)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    rejected: AtomicU64,
    last_was_good: AtomicBool,
}

impl Default for Reloads {
    /// The configuration of the start was good, else there would be no start.
    fn default() -> Self {
        Self {
            applied: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            last_was_good: AtomicBool::new(true),
        }
    }
}

impl Reloads {
    pub(crate) fn note_applied(&self) {
        self.applied.fetch_add(1, Ordering::Relaxed);
        self.last_was_good.store(true, Ordering::Relaxed);
    }

    pub(crate) fn note_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.last_was_good.store(false, Ordering::Relaxed);
    }

    /// The file says again what is in force.
    pub(crate) fn note_restored(&self) {
        self.last_was_good.store(true, Ordering::Relaxed);
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    pub(crate) fn last_was_good(&self) -> bool {
        self.last_was_good.load(Ordering::Relaxed)
    }
}
