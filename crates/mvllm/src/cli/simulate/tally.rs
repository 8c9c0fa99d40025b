//! What came of a trial.

use std::time::Duration;

use serde::Serialize;

/// A request is good if its first token comes within this time, and
const GOOD_TTFT: Duration = Duration::from_secs(2);

/// the others each within this, in the mean.
const GOOD_TPOT: Duration = Duration::from_millis(50);

/// Gaps between tokens are counted in classes that differ by two percent.
const CLASS: f64 = 1.02;

/// The least gap that is told apart, in seconds.
const LEAST_GAP: f64 = 1e-3;

/// Up to about 400 s.
const CLASSES: usize = 650;

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    pub(super) server: usize,
    pub(super) came: Duration,
    pub(super) ttft: Duration,
    /// Mean time of a token after the first.
    pub(super) tpot: Duration,
    pub(super) prompt: u32,
    pub(super) cached: u32,
    /// What a token of the prompt takes that server.
    pub(super) prefill: Duration,
    /// Not one of those that only fill the caches.
    pub(super) counts: bool,
}

#[derive(Debug)]
pub(super) struct Tally {
    served: Vec<Served>,
    gaps: Vec<u64>,
    missed: usize,
    servers: usize,
    pub(super) preemptions: u64,
}

/// The figures of a trial, in seconds and parts of 1.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) ttft_mean: f64,
    pub(super) ttft_p50: f64,
    pub(super) ttft_p99: f64,
    pub(super) itl_p99: f64,
    /// Requests with a first token within 2 s and the others each within 50 ms.
    pub(super) good: f64,
    /// Tokens of prompts that came from a KV cache.
    pub(super) hits: f64,
    /// Prefill at the server that had most of it, against the mean; in time.
    pub(super) imbalance: f64,
    pub(super) preemptions: u64,
}

impl Tally {
    pub(super) fn new(servers: usize) -> Self {
        let gaps = vec![0; CLASSES];
        Self { served: Vec::new(), gaps, missed: 0, servers, preemptions: 0 }
    }

    /// Two tokens of an answer came so far apart.
    pub(super) fn gap(&mut self, gap: Duration) {
        let class = (gap.as_secs_f64() / LEAST_GAP).max(1.0).ln() / CLASS.ln();
        self.gaps[(class as usize).min(CLASSES - 1)] += 1;
    }

    pub(super) fn served(&mut self, served: Served) {
        self.served.push(served);
    }

    /// A request got no answer.
    pub(super) fn missed(&mut self) {
        self.missed += 1;
    }

    /// The time to the first token of the requests that came after this moment, in the median.
    pub(super) fn median_since(&self, moment: Duration) -> f64 {
        let late = self.served.iter().filter(|served| served.came >= moment);
        let mut ttfts: Vec<_> = late.map(|served| served.ttft.as_secs_f64()).collect();
        ttfts.sort_by(f64::total_cmp);
        quantile(&ttfts, 0.5)
    }

    /// Requests that had their first token in a second, within this time.
    pub(super) fn rate_between(&self, from: Duration, to: Duration) -> f64 {
        let begun = self.served.iter().filter(|s| (from..to).contains(&(s.came + s.ttft)));
        begun.count() as f64 / (to - from).as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(super) fn figures(&self) -> Figures {
        let counted = || self.served.iter().filter(|served| served.counts);
        let mut ttfts: Vec<_> = counted().map(|served| served.ttft.as_secs_f64()).collect();
        ttfts.sort_by(f64::total_cmp);
        let all = (ttfts.len() + self.missed).max(1) as f64;
        let good = counted().filter(|s| s.ttft <= GOOD_TTFT && s.tpot <= GOOD_TPOT).count();
        let prompts: u64 = counted().map(|served| u64::from(served.prompt)).sum();
        let cached: u64 = counted().map(|served| u64::from(served.cached)).sum();
        let mut prefill = vec![0.0; self.servers];
        for served in counted() {
            let computed = f64::from(served.prompt - served.cached);
            prefill[served.server] += served.prefill.as_secs_f64() * computed;
        }
        let mean_prefill = prefill.iter().sum::<f64>() / self.servers as f64;
        Figures {
            ttft_mean: ttfts.iter().sum::<f64>() / ttfts.len().max(1) as f64,
            ttft_p50: quantile(&ttfts, 0.5),
            ttft_p99: quantile(&ttfts, 0.99),
            itl_p99: self.gap_quantile(0.99),
            good: good as f64 / all,
            hits: cached as f64 / prompts.max(1) as f64,
            imbalance: prefill.into_iter().fold(0.0, f64::max) / mean_prefill,
            preemptions: self.preemptions,
        }
    }

    fn gap_quantile(&self, part: f64) -> f64 {
        let all: u64 = self.gaps.iter().sum();
        let wanted = (all as f64 * part) as u64;
        let mut below = 0;
        let class = self.gaps.iter().position(|count| {
            below += count;
            below > wanted
        });
        LEAST_GAP * CLASS.powi(class.unwrap_or(0) as i32 + 1)
    }
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(ttft: u64, tpot: u64, counts: bool) -> Served {
        Served {
            server: 0,
            came: Duration::ZERO,
            ttft: Duration::from_millis(ttft),
            tpot: Duration::from_millis(tpot),
            prompt: 100,
            cached: 40,
            prefill: Duration::from_millis(1),
            counts,
        }
    }

    #[test]
    fn a_request_without_an_answer_is_not_good_and_the_first_ones_do_not_count() {
        let mut tally = Tally::new(2);
        tally.served(served(60_000, 1, false));
        tally.served(served(1_000, 10, true));
        tally.served(served(3_000, 10, true));
        tally.served(served(1_000, 60, true));
        tally.missed();
        let figures = tally.figures();
        assert!((figures.good - 0.25).abs() < 1e-9, "{figures:?}");
        assert!((figures.ttft_mean - 5.0 / 3.0).abs() < 1e-9);
        assert!((figures.hits - 0.4).abs() < 1e-9);
        assert!((figures.imbalance - 2.0).abs() < 1e-9, "one of two servers did it all");
    }

    #[test]
    fn gaps_are_known_to_two_percent() {
        let mut tally = Tally::new(1);
        (0..98).for_each(|_| tally.gap(Duration::from_millis(10)));
        (0..4).for_each(|_| tally.gap(Duration::from_millis(300)));
        assert!((0.3..0.307).contains(&tally.gap_quantile(0.99)));
        assert!((0.01..0.0103).contains(&tally.gap_quantile(0.5)));
    }
}
