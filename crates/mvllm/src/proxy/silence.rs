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

use super::stream::Sign;
use crate::clock::Clock;

/// An alarm that rings so much later than it was set to says more of us than of the server: this
/// process was stopped, or starved, and what came meanwhile is still unread.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// Watches over one attempt.
#[derive(Debug)]
pub(crate) struct Silence {
    clock: Clock,
    limit: Duration,
    ledger: Arc<Ledger>,
    begun_at: Timestamp,
    last_byte: Timestamp,
    /// Nobody listens: the client is busy with what it has.
    resting: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Neither a byte nor progress within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server was silent for too long")]
pub(crate) struct TooSilent;

impl Silence {
    /// Silence begins now.
    pub(crate) fn begin(clock: Clock, limit: Duration, ledger: Arc<Ledger>) -> Self {
        let begun_at = clock.now();
        let last_byte = begun_at;
        Self { clock, limit, ledger, begun_at, last_byte, resting: false, alarm: None }
    }

    /// When the attempt began.
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    /// Something came, and when. A sign of the engine breaks the silence for the server's other
    /// requests as well; what only keeps a connection open breaks none.
    pub(crate) fn broken_by(&mut self, sign: Sign) -> Timestamp {
        let now = self.clock.now();
        if sign >= Sign::Server {
            self.last_byte = now;
        }
        if sign >= Sign::Engine {
            self.ledger.note_progress(now);
        }
        now
    }

    /// The client is given something to read. How long it takes over that is its own affair: silence
    /// begins anew when the server is listened to again.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
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
        if std::mem::take(&mut self.resting) {
            self.last_byte = self.clock.now();
        }
        loop {
            let due = self.last_byte.max(self.ledger.progress_at()) + self.limit;
            let clock = self.clock;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(clock.instant(due))));
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = clock.now();
            if now.since(due) >= OVERSLEPT {
                self.last_byte = now;
                continue;
            }
            if due <= now {
                return Poll::Ready(TooSilent);
            }
            alarm.as_mut().reset(clock.instant(due));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const LIMIT: Duration = Duration::from_secs(30);

    fn begin() -> (Silence, Clock, Arc<Ledger>) {
        let (clock, ledger) = (Clock::start(), Arc::new(Ledger::default()));
        (Silence::begin(clock, LIMIT, Arc::clone(&ledger)), clock, ledger)
    }

    /// Whether the silence is exceeded `wait` from now, when listened to all the time.
    async fn is_exceeded_within(silence: &mut Silence, wait: Duration) -> bool {
        timeout(wait, silence.bound(std::future::pending::<()>())).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_its_limit_and_not_before() {
        let (mut silence, ..) = begin();
        assert!(!is_exceeded_within(&mut silence, LIMIT - Duration::from_millis(5)).await);
        assert!(is_exceeded_within(&mut silence, Duration::from_millis(10)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_or_progress_of_the_server_begins_it_anew() {
        let (mut silence, clock, ledger) = begin();
        advance(LIMIT - Duration::from_secs(1)).await;
        silence.broken_by(Sign::Server);
        assert!(!is_exceeded_within(&mut silence, LIMIT - Duration::from_secs(1)).await);
        ledger.note_progress(clock.now());
        assert!(!is_exceeded_within(&mut silence, LIMIT - Duration::from_secs(1)).await);
        assert!(is_exceeded_within(&mut silence, Duration::from_secs(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_engine_counts_for_other_requests_and_a_comment_for_nobody() {
        let (mut silence, clock, ledger) = begin();
        advance(LIMIT - Duration::from_secs(1)).await;
        silence.broken_by(Sign::Life);
        assert!(is_exceeded_within(&mut silence, Duration::from_secs(2)).await);
        silence.broken_by(Sign::Server);
        assert_eq!(ledger.progress_at(), Timestamp::ZERO);
        assert!(!is_exceeded_within(&mut silence, Duration::from_secs(2)).await);
        silence.broken_by(Sign::Engine);
        assert_eq!(ledger.progress_at(), clock.now());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_blamed_for_the_time_in_which_we_did_not_listen() {
        let (mut silence, ..) = begin();
        // Sets the alarm.
        assert!(!is_exceeded_within(&mut silence, Duration::from_millis(1)).await);
        advance(LIMIT + 2 * OVERSLEPT).await;
        assert!(!is_exceeded_within(&mut silence, LIMIT - Duration::from_secs(1)).await);
        assert!(is_exceeded_within(&mut silence, Duration::from_secs(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_does_not_make_the_server_silent() {
        let (mut silence, ..) = begin();
        silence.rest();
        advance(10 * LIMIT).await;
        assert!(!is_exceeded_within(&mut silence, LIMIT - Duration::from_secs(1)).await);
        assert!(is_exceeded_within(&mut silence, Duration::from_secs(2)).await);
    }
}
