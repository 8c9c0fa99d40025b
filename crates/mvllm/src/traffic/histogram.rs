//! Durations, counted in buckets without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds. From a chunk's gap to an answer of ten minutes, each
/// about 1.6 times the one before: a quantile read from them is off by a quarter at most.
pub(crate) const BOUNDS_SECONDS: [f64; 28] = [
    0.001, 0.0016, 0.0025, 0.004, 0.006, 0.01, 0.016, 0.025, 0.04, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6,
    1.0, 1.6, 2.5, 4.0, 6.0, 10.0, 16.0, 25.0, 40.0, 60.0, 120.0, 300.0, 600.0,
];

const BUCKETS: usize = BOUNDS_SECONDS.len() + 1;

/// A histogram that many threads add to.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

/// What a histogram held at one moment. Not cumulative over buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistogramCounts {
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) sum_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: AtomicU64::new(0) }
    }
}

impl Default for HistogramCounts {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> HistogramCounts {
        HistogramCounts {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum_nanos: self.sum_nanos.load(Ordering::Relaxed),
        }
    }
}

impl HistogramCounts {
    /// How many durations were counted.
    pub(crate) fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            sum_nanos: self.sum_nanos.saturating_sub(earlier.sum_nanos),
        }
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at] + other.buckets[at]),
            sum_nanos: self.sum_nanos.saturating_add(other.sum_nanos),
        }
    }

    /// The duration, in seconds, under which the share `quantile` of all lies; read off between the
    /// bounds of its bucket. `None` if nothing was counted.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        for (at, &count) in self.buckets.iter().enumerate() {
            let reached = below + count as f64;
            if count > 0 && reached >= rank {
                let low = if at == 0 { 0.0 } else { BOUNDS_SECONDS[at - 1] };
                let high = BOUNDS_SECONDS.get(at).copied().unwrap_or(low);
                return Some(low + (high - low) * ((rank - below) / count as f64));
            }
            below = reached;
        }
        BOUNDS_SECONDS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_on_a_bound_belongs_to_the_bucket_below() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_micros(1_001));
        histogram.observe(Duration::from_secs(6_000));
        let counts = histogram.counts();
        assert_eq!((counts.buckets[0], counts.buckets[1], counts.buckets[28]), (1, 1, 1));
        assert_eq!(counts.total(), 3);
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(HistogramCounts::default().quantile(0.5), None);
    }

    #[test]
    fn what_was_counted_before_a_moment_does_not_count_after_it() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_secs(5));
        let before = histogram.counts();
        histogram.observe(Duration::from_millis(5));
        let since = histogram.counts().since(&before);
        assert_eq!(since.total(), 1);
        assert!(since.quantile(1.0).unwrap() <= 0.006);
        assert_eq!(before.plus(&since), histogram.counts());
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_true_one(
            mut millis in proptest::collection::vec(1u64..500_000, 1..200), share in 0.01f64..1.0,
        ) {
            let histogram = Histogram::default();
            for &milli in &millis {
                histogram.observe(Duration::from_millis(milli));
            }
            millis.sort_unstable();
            let rank = ((share * millis.len() as f64).ceil() as usize).clamp(1, millis.len());
            let truth = millis[rank - 1] as f64 / 1e3;
            let read = histogram.counts().quantile(share).unwrap();
            let bucket = |seconds: f64| BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
            prop_assert!(bucket(read).abs_diff(bucket(truth)) <= 1, "{read} for {truth}");
        }
    }
}
