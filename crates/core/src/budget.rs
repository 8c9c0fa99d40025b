//! How many attempts may be repeated: what keeps a fleet in trouble from being buried in retries.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::time::Timestamp;

/// How far back the budget looks.
const WINDOW: Duration = Duration::from_secs(SLOTS as u64);

/// One slot a second.
const SLOTS: usize = 10;

/// Retries in any window that need no requests to earn them: three a second, so that a router with
/// little traffic can retry at all, and one with 100 requests a second stays near the 10 %.
const FLOOR: f64 = 30.0;

/// Retries over all requests and servers: at most a share of the requests of the last ten seconds,
/// plus [`FLOOR`]. Shared by all threads; counts exactly but for the race of two threads for the
/// last retry, which both get.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Meter,
    retries: Meter,
}

impl RetryBudget {
    /// A request came in.
    pub fn note_request(&self, now: Timestamp) {
        self.requests.add(now);
    }

    /// Takes one retry out of the budget, which is `share` of the requests; false if it is spent.
    pub fn take(&self, share: f64, now: Timestamp) -> bool {
        let allowed = self.requests.sum(now) as f64 * share + FLOOR;
        let left = (self.retries.sum(now) as f64) < allowed;
        if left {
            self.retries.add(now);
        }
        left
    }
}

/// Counts events of the last [`WINDOW`], in one slot a second.
#[derive(Debug, Default)]
struct Meter {
    /// The second in the upper half, the count in the lower.
    slots: [AtomicU64; SLOTS],
}

impl Meter {
    fn add(&self, now: Timestamp) {
        let second = second(now);
        let slot = &self.slots[second as usize % SLOTS];
        let fresh = u64::from(second) << 32;
        // Whoever comes first in a second empties the slot; everybody adds.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some(if old >> 32 == u64::from(second) { old + 1 } else { fresh + 1 })
        });
    }

    fn sum(&self, now: Timestamp) -> u64 {
        let second = u64::from(second(now));
        let oldest = (second + 1).saturating_sub(WINDOW.as_secs());
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        slots
            .filter(|slot| (oldest..=second).contains(&(slot >> 32)))
            .map(|slot| slot & u64::from(u32::MAX))
            .sum()
    }
}

/// Seconds since the start; a process that runs for 136 years starts over.
fn second(now: Timestamp) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    fn taken(budget: &RetryBudget, tries: u32, now: Timestamp) -> usize {
        (0..tries).filter(|_| budget.take(0.1, now)).count()
    }

    #[test]
    fn without_traffic_there_are_thirty_retries_in_ten_seconds() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget, 100, at(500)), 30);
        assert_eq!(taken(&budget, 100, at(9_999)), 0);
        assert_eq!(taken(&budget, 100, at(10_000)), 30, "after ten seconds they are forgotten");
    }

    #[test]
    fn a_tenth_of_the_requests_may_be_retried_on_top() {
        let budget = RetryBudget::default();
        for request in 0..1000 {
            budget.note_request(at(request));
        }
        assert_eq!(taken(&budget, 1000, at(1_000)), 130);
        assert_eq!(taken(&budget, 1000, at(11_000)), 30, "old requests earn nothing");
    }

    proptest! {
        #[test]
        fn no_window_holds_more_retries_than_its_requests_and_the_floor_allow(
            steps in proptest::collection::vec((0u64..400, any::<bool>()), 1..600),
        ) {
            let budget = RetryBudget::default();
            let (mut now, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (pause, is_request) in steps {
                now += pause;
                if is_request {
                    budget.note_request(at(now));
                    requests.push(now / 1000);
                } else if budget.take(0.1, at(now)) {
                    retries.push(now / 1000);
                    // Whole seconds, as the slots are.
                    let within = |all: &[u64]| all.iter().filter(|&&s| s + 10 > now / 1000).count();
                    let allowed = within(&requests) as f64 * 0.1 + FLOOR;
                    prop_assert!(within(&retries) as f64 <= allowed.ceil());
                }
            }
        }
    }
}
