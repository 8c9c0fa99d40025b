//! Whether this process itself was there all the time.
//!
//! A process that is stopped (SIGSTOP, a frozen container, a machine that swaps) wakes up among
//! deadlines that have all passed, with the answers that would have kept them still unread.

use core::time::Duration;

use crate::time::Timestamp;

/// Ticks come once a second. Five without one are no hiccup of the scheduler.
const ABSENCE: Duration = Duration::from_secs(5);

/// How long after waking silence counts for nothing: long enough for what has piled up to be read,
/// and for every deadline that passed meanwhile to be found out.
const DROWSY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Wakefulness {
    last_tick: Option<Timestamp>,
    drowsy_until: Timestamp,
}

impl Wakefulness {
    /// Looks at the clock at every event: on waking the tick need not be the first. How long the
    /// process was away, if it was.
    pub(super) fn look(&mut self, is_tick: bool, now: Timestamp) -> Option<Duration> {
        let since = self.last_tick.map(|tick| now.since(tick)).filter(|since| *since >= ABSENCE);
        if since.is_some() {
            self.drowsy_until = now + DROWSY;
        }
        if is_tick || since.is_some() {
            self.last_tick = Some(now);
        }
        since
    }

    /// Whether it has woken up just now.
    pub(super) fn is_drowsy(&self, now: Timestamp) -> bool {
        now < self.drowsy_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn an_absence_is_noticed_once_by_whatever_comes_first() {
        let mut wakefulness = Wakefulness::default();
        assert_eq!(wakefulness.look(false, at(100)), None);
        assert_eq!(wakefulness.look(true, at(101)), None);
        assert_eq!(wakefulness.look(false, at(105)), None);
        assert!(!wakefulness.is_drowsy(at(105)));
        assert_eq!(wakefulness.look(false, at(131)), Some(Duration::from_secs(30)));
        assert_eq!(wakefulness.look(true, at(131)), None);
        assert!(wakefulness.is_drowsy(at(135)));
        assert!(!wakefulness.is_drowsy(at(136)));
    }
}
