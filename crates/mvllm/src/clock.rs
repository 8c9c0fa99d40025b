//! The one place that reads a clock for decisions.

use std::time::Instant;

use mvllm_core::time::Timestamp;

/// Counts from the start of the process; monotonic, whatever happens to the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { start: tokio::time::Instant::now().into_std() }
    }

    /// The present moment. Follows tokio's clock, so that tests can pause it.
    pub(crate) fn now(self) -> Timestamp {
        let now = tokio::time::Instant::now().into_std();
        Timestamp::after_start(now.duration_since(self.start))
    }

    /// The moment `at` as tokio's timers want it.
    pub(crate) fn instant(self, at: Timestamp) -> tokio::time::Instant {
        (self.start + at.since(Timestamp::ZERO)).into()
    }
}
