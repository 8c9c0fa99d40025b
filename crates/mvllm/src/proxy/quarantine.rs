//! Requests under which servers went down twice. The very same bytes are not sent again for a while:
//! clients repeat what failed, and a prompt that crashes engines would take the fleet with it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mvllm_core::time::Timestamp;

/// More than this many at once is not one bad prompt but an outage, and then the oldest are let go.
const HELD_MAX: usize = 256;

/// What identifies a request: its path and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(path: &str, body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        body.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The requests held, shared by all data threads. As good as always there are none, and then
/// nothing is hashed and nothing locked.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    count: AtomicUsize,
    held: Mutex<VecDeque<(Fingerprint, Timestamp)>>,
}

impl Quarantine {
    /// Holds a request until then.
    pub(super) fn hold(&self, request: Fingerprint, until: Timestamp) {
        self.change(|held| {
            held.retain(|(other, _)| *other != request);
            if held.len() == HELD_MAX {
                held.pop_front();
            }
            held.push_back((request, until));
        });
    }

    /// Lets a request go: somebody has answered it.
    pub(super) fn release(&self, request: Fingerprint) {
        self.change(|held| held.retain(|(other, _)| *other != request));
    }

    /// For how much longer a request is held.
    pub(super) fn remaining(&self, request: Fingerprint, now: Timestamp) -> Option<Duration> {
        self.change(|held| held.retain(|(_, until)| *until > now));
        let held = self.held();
        held.iter().find(|(other, _)| *other == request).map(|(_, until)| until.since(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn change(&self, change: impl FnOnce(&mut VecDeque<(Fingerprint, Timestamp)>)) {
        let mut held = self.held();
        change(&mut held);
        self.count.store(held.len(), Ordering::Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<(Fingerprint, Timestamp)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_very_same_request_is_held_until_its_time_is_over() {
        let quarantine = Quarantine::default();
        let request = Fingerprint::of("/v1/completions", b"{}");
        assert!(quarantine.is_empty());
        quarantine.hold(request, at(10));
        assert_eq!(quarantine.remaining(request, at(4)), Some(Duration::from_secs(6)));
        let another = Fingerprint::of("/v1/chat/completions", b"{}");
        assert_eq!(quarantine.remaining(another, at(4)), None);
        assert_eq!(quarantine.remaining(request, at(10)), None);
        assert!(quarantine.is_empty());
    }

    #[test]
    fn an_answer_lets_it_go() {
        let quarantine = Quarantine::default();
        let request = Fingerprint::of("/v1/completions", b"{}");
        quarantine.hold(request, at(10));
        quarantine.hold(request, at(12));
        quarantine.release(request);
        assert!(quarantine.is_empty());
    }

    #[test]
    fn no_more_are_held_than_fit_and_the_oldest_goes_first() {
        let quarantine = Quarantine::default();
        let nth = |nth: usize| Fingerprint::of("/", &nth.to_le_bytes());
        for request in 0..=HELD_MAX {
            quarantine.hold(nth(request), at(10));
        }
        assert_eq!(quarantine.remaining(nth(0), at(1)), None);
        assert!(quarantine.remaining(nth(1), at(1)).is_some());
        assert_eq!(quarantine.held().len(), HELD_MAX);
    }
}
