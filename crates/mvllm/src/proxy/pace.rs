//! How slowly a request's body may arrive. A bound on its whole time would cut large uploads over
//! slow lines; a bound on silence alone lets a client hold a place for ever with a byte a minute.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// What must arrive in each span of `client_body_timeout`; the knob says why.
pub(super) const LEAST: usize = 16 * 1024;

/// Watches over the arrival of one body.
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    end: Instant,
    arrived: usize,
}

/// Less arrived than [`LEAST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow;

impl Pace {
    /// The first span begins now.
    pub(super) fn begin(span: Duration) -> Self {
        Self { span, end: Instant::now() + span, arrived: 0 }
    }

    /// So much more is here.
    pub(super) fn note(&mut self, bytes: usize) {
        self.arrived += bytes;
        if self.arrived >= LEAST {
            *self = Self::begin(self.span);
        }
    }

    /// Waits for `next`, but not beyond the present span.
    pub(super) async fn bound<F: Future>(&self, next: F) -> Result<F::Output, TooSlow> {
        timeout_at(self.end, next).await.map_err(|_| TooSlow)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use tokio::time::advance;

    const SPAN: Duration = Duration::from_secs(60);

    async fn is_too_slow_within(pace: &Pace, wait: Duration) -> bool {
        tokio::time::timeout(wait, pace.bound(pending::<()>())).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_too_slow() {
        let mut pace = Pace::begin(SPAN);
        for _ in 0..59 {
            advance(Duration::from_secs(1)).await;
            pace.note(1);
        }
        assert!(is_too_slow_within(&pace, Duration::from_secs(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_the_least_pace_may_take_for_ever() {
        let mut pace = Pace::begin(SPAN);
        for _ in 0..1000 {
            advance(SPAN - Duration::from_secs(1)).await;
            pace.note(LEAST);
        }
        assert!(!is_too_slow_within(&pace, SPAN - Duration::from_secs(1)).await);
        assert!(is_too_slow_within(&pace, Duration::from_secs(2)).await);
    }
}
