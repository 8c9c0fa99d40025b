//! `request_timeout`: a bound on silence, never on the length of a healthy answer.
//!
//! A request may have nothing to say for minutes: it waits in the server's queue, or it is not
//! streamed and says all at its end. So silence counts only as far as the *server* is silent, too:
//! as long as tokens move there, on any stream or in its own counters, it is given more time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mvllm_core::ledger::Ledger;
use mvllm_core::time::Timestamp;
use tokio::time::{Sleep, sleep_until};

use crate::clock::Clock;

/// Watches over one attempt.
#[derive(Debug)]
pub(crate) struct Silence {
    clock: Clock,
    limit: Duration,
    ledger: Arc<Ledger>,
    last_byte: Timestamp,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Neither a byte nor progress within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server was silent for too long")]
pub(crate) struct TooSilent;

impl Silence {
    /// Silence begins now.
    pub(crate) fn begin(clock: Clock, limit: Duration, ledger: Arc<Ledger>) -> Self {
        Self { clock, limit, ledger, last_byte: clock.now(), alarm: None }
    }

    /// A byte came: the silence is broken, for the server's other requests as well.
    pub(crate) fn broken(&mut self) -> Timestamp {
        let now = self.clock.now();
        self.last_byte = now;
        self.ledger.note_progress(now);
        now
    }

    /// Waits for `future`, but not longer than the silence may last.
    pub(crate) async fn bound<F: Future>(&mut self, future: F) -> Result<F::Output, TooSilent> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_exceeded(cx).map(Err),
        })
        .await
    }

    /// Ready once the silence has lasted too long. The alarm is set once and, when it rings, looks
    /// at how long ago the latest sign of life was: a chunk costs no timer.
    pub(crate) fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<TooSilent> {
        loop {
            let due = self.last_byte.max(self.ledger.progress_at()) + self.limit;
            let clock = self.clock;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(clock.instant(due))));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= clock.now() {
                return Poll::Ready(TooSilent);
            }
            alarm.as_mut().reset(clock.instant(due));
        }
    }
}
