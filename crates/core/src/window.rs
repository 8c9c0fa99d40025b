//! The latest active checks of one server.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::health::Check;

/// A sliding window over checks, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    checks: VecDeque<Check>,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a check; only the latest `size` stay.
    pub(crate) fn push(&mut self, check: Check, size: usize) {
        self.checks.push_back(check);
        while self.checks.len() > size.max(1) {
            self.checks.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.checks.clear();
    }

    /// Share of successes; 1 when empty.
    pub(crate) fn success_rate(&self) -> f64 {
        self.assumed_success_rate(self.checks.len())
    }

    /// Share of successes where the checks that a window of `size` still lacks count as good ones.
    /// Else the very first failure of a fresh window would be a rate of one half, or of zero.
    pub(crate) fn assumed_success_rate(&self, size: usize) -> f64 {
        let failures = self.checks.iter().filter(|check| check.found.is_err()).count();
        let of = self.checks.len().max(size);
        if of == 0 { 1.0 } else { 1.0 - failures as f64 / of as f64 }
    }

    /// Mean duration of the checks; zero when empty.
    pub(crate) fn mean_time(&self) -> Duration {
        let total: Duration = self.checks.iter().map(|check| check.took).sum();
        u32::try_from(self.checks.len()).ok().and_then(|n| total.checked_div(n)).unwrap_or_default()
    }
}
