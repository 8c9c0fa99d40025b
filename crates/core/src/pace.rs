//! How fast a server prefills, learnt from what its first tokens took.
//!
//! There is one figure for each server: seconds for a unit of work. What a request takes besides
//! its tokens is counted in tokens too ([`OVERHEAD`]), so that a server of twice the speed is taken
//! to do everything in half the time. A sum of times over a sum of work needs no model of the
//! queue, no tuning, and long prompts weigh in it as they do in the queue.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// A unit of work is the prefill of a token; a request is so many units in any case. Up to about
/// that many tokens a step takes the same time: that of reading the weights (an A100: 110 tokens,
/// an H100: 210).
pub const OVERHEAD: u32 = 128;

/// An unknown server, if there is no other to compare with: an 8B model on an A100. As long as all
/// are unknown, only its being the same for all matters.
const UNKNOWN: f64 = 100e-6;

/// What a server is taken for before it has shown anything weighs as much as so many units of work:
/// a short prompt.
const PRIOR_WORK: f64 = 500.0;

/// After so many first tokens, old ones count 1/e. Few enough to follow a change within tens of
/// requests, and enough to smooth over the steps of the engine.
const MEMORY: f64 = 32.0;

/// One observation counts for at most so many times what was expected: a server that stood still
/// once is not slow for ever, and one that is slow by more is found out by a few more.
const SURPRISE_MAX: f64 = 8.0;

/// How long a server takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    per_unit: f64,
    /// Units of work of a usual request.
    usual: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_unit: UNKNOWN, usual: PRIOR_WORK }
    }
}

impl Pace {
    /// Seconds for `work`.
    pub fn seconds(self, work: f64) -> f64 {
        self.per_unit * work
    }

    /// Seconds for one unit.
    pub fn seconds_per_unit(self) -> f64 {
        self.per_unit
    }

    /// Seconds for so many requests of which nothing is known.
    pub fn seconds_for_requests(self, requests: f64) -> f64 {
        self.seconds(self.usual * requests)
    }

    /// A pace at which everything takes so many times as long.
    pub(crate) fn slower_by(self, factor: f64) -> Self {
        Self { per_unit: self.per_unit * factor, ..self }
    }

    /// The faster of the two.
    pub(crate) fn or_faster(self, other: Self) -> Self {
        if other.per_unit < self.per_unit { other } else { self }
    }
}

/// Work done and the time that it took, added up by all threads until the fleet collects it.
#[derive(Debug, Default)]
pub(crate) struct PaceTally {
    work: AtomicU64,
    nanos: AtomicU64,
    first_tokens: AtomicU64,
}

impl PaceTally {
    /// Adds that `work` took so long, where `expected` was the server's pace.
    pub(crate) fn add(&self, work: u64, took: Duration, expected: Pace) {
        let most = expected.seconds(work as f64) * SURPRISE_MAX;
        let nanos = (took.as_secs_f64().min(most) * 1e9) as u64;
        self.work.fetch_add(work, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.first_tokens.fetch_add(1, Ordering::Relaxed);
    }
}

/// What has been learnt of one server's pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PaceRecord {
    work: f64,
    seconds: f64,
    requests: f64,
    /// How much of the guess is left; it is forgotten as all else is.
    guess: f64,
}

impl Default for PaceRecord {
    fn default() -> Self {
        Self { work: 0.0, seconds: 0.0, requests: 0.0, guess: PRIOR_WORK }
    }
}

impl PaceRecord {
    /// Takes in what has been added up since the last time. Whether there was anything.
    pub(crate) fn collect(&mut self, tally: &PaceTally) -> bool {
        let first_tokens = tally.first_tokens.swap(0, Ordering::Relaxed);
        if first_tokens == 0 {
            return false;
        }
        let kept = MEMORY / (MEMORY + first_tokens as f64);
        let work = tally.work.swap(0, Ordering::Relaxed) as f64;
        let seconds = tally.nanos.swap(0, Ordering::Relaxed) as f64 * 1e-9;
        self.work = self.work * kept + work;
        self.seconds = self.seconds * kept + seconds;
        self.requests = self.requests * kept + first_tokens as f64;
        self.guess *= kept;
        true
    }

    /// Another process serves at this address: what was learnt is a guess from now on.
    pub(crate) fn begin_anew(&mut self) {
        let scale = (PRIOR_WORK / self.work.max(PRIOR_WORK)).min(1.0);
        self.work *= scale;
        self.seconds *= scale;
        self.requests *= scale;
    }

    /// Whether it rests on more than a guess.
    pub(crate) fn is_known(&self) -> bool {
        self.work >= self.guess
    }

    /// The pace, where one knows nothing better than `prior`.
    pub(crate) fn pace(&self, prior: Pace) -> Pace {
        let per_unit = (self.seconds + prior.seconds(self.guess)) / (self.work + self.guess);
        Pace { per_unit, usual: (self.work + self.guess) / (self.requests + 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learns `requests` prompts of `work` at a true pace.
    fn learn(record: &mut PaceRecord, requests: usize, work: u64, pace: f64) -> f64 {
        for _ in 0..requests {
            let tally = PaceTally::default();
            let took = Duration::from_secs_f64(work as f64 * pace);
            tally.add(work, took, record.pace(Pace::default()));
            record.collect(&tally);
        }
        record.pace(Pace::default()).per_unit
    }

    #[test]
    fn a_pace_is_learnt_within_tens_of_requests_however_far_off_the_guess_was() {
        for truth in [3e-6, 30e-6, 100e-6, 1e-3, 20e-3] {
            let learnt = learn(&mut PaceRecord::default(), 40, 1_000, truth);
            assert!((0.8..1.25).contains(&(learnt / truth)), "{learnt} for {truth}");
        }
    }

    #[test]
    fn a_change_of_pace_is_followed_within_a_hundred_requests() {
        let mut record = PaceRecord::default();
        learn(&mut record, 500, 3_000, 30e-6);
        let learnt = learn(&mut record, 100, 3_000, 90e-6);
        assert!((80e-6..95e-6).contains(&learnt), "{learnt}");
    }

    #[test]
    fn one_stall_does_not_make_a_server_slow() {
        let mut record = PaceRecord::default();
        learn(&mut record, 100, 1_000, 100e-6);
        let tally = PaceTally::default();
        tally.add(1_000, Duration::from_secs(600), record.pace(Pace::default()));
        record.collect(&tally);
        assert!(record.pace(Pace::default()).per_unit < 130e-6);
    }

    #[test]
    fn a_successor_is_taken_for_what_its_predecessor_was_until_it_shows_otherwise() {
        let mut record = PaceRecord::default();
        learn(&mut record, 100, 3_000, 30e-6);
        record.begin_anew();
        let prior = Pace { per_unit: 30e-6, ..Pace::default() };
        assert!((record.pace(prior).per_unit - 30e-6).abs() < 2e-6);
        let learnt = learn(&mut record, 10, 3_000, 90e-6);
        assert!(learnt > 75e-6, "{learnt}");
    }
}
