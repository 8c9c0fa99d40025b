//! The one place that reads a clock for decisions.

use std::time::Instant;

use mvllm_core::time::Timestamp;

/// Counts from the start of the process; monotonic, whatever happens to the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    /// What the wall clock said then: read once, so that one moment is shown alike in all reports.
    wall_at_start: jiff::Timestamp,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        let start = tokio::time::Instant::now().into_std();
        Self { start, wall_at_start: jiff::Timestamp::now() }
    }

    /// The present moment. Follows tokio's clock, so that tests can pause it.
    pub(crate) fn now(self) -> Timestamp {
        let now = tokio::time::Instant::now().into_std();
        Timestamp::after_start(now.duration_since(self.start))
    }

    /// The moment `at` as people date it.
    pub(crate) fn wall(self, at: Timestamp) -> jiff::Timestamp {
        let since_start = at.since(Timestamp::ZERO);
        jiff::SignedDuration::try_from(since_start)
            .ok()
            .and_then(|elapsed| self.wall_at_start.checked_add(elapsed).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }

    /// The moment `at` as tokio's timers want it.
    pub(crate) fn instant(self, at: Timestamp) -> tokio::time::Instant {
        (self.start + at.since(Timestamp::ZERO)).into()
    }
}
