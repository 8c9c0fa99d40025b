//! By how much a server counts as more loaded than it is: because it has just come back, or because
//! requests failed there lately.
//!
//! A server that fails at once is always the least loaded, and a server that has just come back has
//! nothing to do and a cold cache. Both would attract all traffic.

use core::time::Duration;

use crate::time::Timestamp;

/// From its return on, a server's share rises evenly to a full one over this time. As long as a
/// server with CUDA graphs takes to warm up, and short against the life of a server.
pub const RAMP: Duration = Duration::from_secs(10);

/// The share at the very return. Less would leave nothing to see of a server whose fleet has little
/// to do.
const LEAST_SHARE: f64 = 0.1;

/// A failure counts half after this time.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// What is left of failures below this counts as nothing, so that servers can be equal again. Of
/// one failure that is after 40 s.
const FORGOTTEN: f64 = 1.0 / 16.0;

/// More failures than this weigh no more: 2^16 times the load is out of the race.
const FAILURES_MAX: f64 = 16.0;

/// What a server has against it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Handicap {
    returned_at: Option<Timestamp>,
    failures: f64,
    failed_at: Timestamp,
}

impl Handicap {
    /// The server is back.
    pub(super) fn returned(&mut self, now: Timestamp) {
        *self = Self { returned_at: Some(now), ..Self::default() };
    }

    /// A request failed there.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.failures = (self.failures_left(now) + 1.0).min(FAILURES_MAX);
        self.failed_at = now;
    }

    /// By what the load is to be multiplied; 1 of a server that has nothing against it. Each recent
    /// failure doubles it: then it takes few failures to keep a server out of the race, however
    /// much the others have to do.
    pub fn factor(&self, now: Timestamp) -> f64 {
        doubled(self.failures_left(now)) / self.share(now)
    }

    /// Whether the server has come back so lately that it is not to get its full share yet.
    pub fn is_ramping(&self, now: Timestamp) -> bool {
        self.share(now) < 1.0
    }

    fn share(&self, now: Timestamp) -> f64 {
        let Some(returned_at) = self.returned_at else { return 1.0 };
        let risen = now.since(returned_at).as_secs_f64() / RAMP.as_secs_f64();
        (LEAST_SHARE + (1.0 - LEAST_SHARE) * risen).min(1.0)
    }

    /// Decays by halves, on a straight line between them: there is no `powf` without std, and
    /// nothing here needs one.
    fn failures_left(&self, now: Timestamp) -> f64 {
        let age = now.since(self.failed_at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let halvings = age as u32;
        let within = age - f64::from(halvings);
        let left = self.failures / doubled(f64::from(halvings.min(60))) * (1.0 - within / 2.0);
        if left < FORGOTTEN { 0.0 } else { left }
    }
}

/// 2 to the power of `exponent` (0 to 63), on a straight line between whole powers.
fn doubled(exponent: f64) -> f64 {
    let whole = exponent as u32;
    (1u64 << whole.min(63)) as f64 * (1.0 + exponent - f64::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_millis(millis))
    }

    #[test]
    fn a_server_without_a_past_has_none() {
        assert_eq!(Handicap::default().factor(at(0)), 1.0);
    }

    #[test]
    fn a_server_that_returns_gets_its_full_share_after_the_ramp() {
        let mut handicap = Handicap::default();
        handicap.failed(at(0));
        handicap.returned(at(1_000));
        assert_eq!(handicap.factor(at(1_000)), 10.0);
        assert!(handicap.is_ramping(at(10_999)));
        assert_eq!(handicap.factor(at(11_000)), 1.0);
    }

    #[test]
    fn failures_double_the_load_and_are_forgotten() {
        let mut handicap = Handicap::default();
        handicap.failed(at(1_000));
        assert_eq!(handicap.factor(at(1_000)), 2.0);
        handicap.failed(at(1_000));
        handicap.failed(at(1_000));
        assert_eq!(handicap.factor(at(1_000)), 8.0);
        assert_eq!(handicap.factor(at(100_000)), 1.0);
    }

    proptest! {
        #[test]
        fn the_factor_never_rises_by_itself_and_ends_at_1(
            failures in proptest::collection::vec(0u64..5_000, 0..40),
            looks in proptest::collection::vec(0u64..5_000, 1..40),
        ) {
            let (mut handicap, mut now) = (Handicap::default(), 0);
            handicap.returned(at(now));
            for wait in failures {
                now += wait;
                handicap.failed(at(now));
            }
            let mut before = handicap.factor(at(now));
            for wait in looks {
                now += wait;
                let factor = handicap.factor(at(now));
                prop_assert!((1.0..=before).contains(&factor), "{factor} after {before}");
                before = factor;
            }
            prop_assert_eq!(handicap.factor(at(now + 200_000)), 1.0);
        }
    }
}
