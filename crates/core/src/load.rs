//! How loaded a server is: what its last scrape said, corrected by what this router has sent there
//! and seen end since.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::time::Timestamp;

/// A sample older than this says nothing about the load of other routers any more. Five seconds is
/// ten scrapes: as long as mvllm 0.1.0 waited for one.
pub const SAMPLE_LIFETIME: Duration = Duration::from_secs(5);

/// How many requests a server is meant to work on at once (`max_concurrent_requests`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity(NonZeroU32);

impl Capacity {
    /// A capacity of `requests`.
    pub const fn new(requests: NonZeroU32) -> Self {
        Self(requests)
    }

    /// The number of requests.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// One scrape of a server's load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When the scrape was sent off.
    pub sent_at: Timestamp,
    /// How many requests this router had at the server when the scrape was sent off.
    pub own_in_flight: u32,
    /// Requests in decode or prefill, over all data-parallel ranks.
    pub running: f64,
    /// Requests in the server's queue, over all data-parallel ranks.
    pub waiting: f64,
    /// Share of the KV cache that running requests hold, 0 to 1.
    pub kv_cache_usage: f64,
}

/// All that one scrape brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The load.
    pub sample: Sample,
    /// Counters that only grow, until the server is started again.
    pub counters: Counters,
    /// Tokens that fit into the KV cache, over all data-parallel ranks.
    pub kv_tokens: Option<u64>,
    /// `process_max_fds`, as 0.1.0's dashboards expect it.
    pub process_max_fds: Option<u64>,
    /// `process_start_time_seconds`: Unix time, to the hundredth of a second.
    pub started: Option<f64>,
}

impl Reading {
    /// Whether this comes from a process that was started after the one that gave `earlier`.
    ///
    /// Several processes behind one address (`--api-server-count`) may answer in turn, each with
    /// its own start; only a later start than any known is news. Where none is told, counters that
    /// went back tell.
    pub fn is_of_a_successor(&self, earlier: &Self) -> bool {
        match (self.started, earlier.started) {
            (Some(started), Some(known)) => started > known,
            _ => self.counters.went_back(&earlier.counters),
        }
    }

    /// This, after `earlier`: the latest start of a process is kept.
    pub(crate) fn after(self, earlier: &Self) -> Self {
        let latest = |a: f64, b: f64| if a > b { a } else { b };
        let started = self.started.zip(earlier.started).map(|(a, b)| latest(a, b));
        Self { started: started.or(self.started), ..self }
    }
}

/// A server's own counters; `None` where its version has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Tokens of prompts, cached or not.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub generation_tokens: Option<u64>,
    /// Tokens looked up in the prefix cache.
    pub prefix_cache_queries: Option<u64>,
    /// Tokens found there.
    pub prefix_cache_hits: Option<u64>,
    /// Requests thrown out of the batch to make room, and computed again.
    pub preemptions: Option<u64>,
}

impl Counters {
    fn went_back(&self, earlier: &Self) -> bool {
        let back = |now: Option<u64>, then: Option<u64>| now.zip(then).is_some_and(|(n, t)| n < t);
        back(self.prompt_tokens, earlier.prompt_tokens)
            || back(self.generation_tokens, earlier.generation_tokens)
    }
}

/// What a server is believed to be doing now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Requests being worked on.
    pub running: f64,
    /// Requests that wait in the server's own queue.
    pub waiting: f64,
}

impl Load {
    /// The present load. This router's own requests are counted exactly; of the sample only the
    /// rest is taken, which other clients of the server have there. So a burst between two scrapes
    /// is seen while it happens, and a request is not counted twice once a scrape has seen it.
    pub fn estimate(sample: Option<&Sample>, own_in_flight: u32, now: Timestamp) -> Self {
        let own = f64::from(own_in_flight);
        let Some(sample) = sample.filter(|s| now.since(s.sent_at) <= SAMPLE_LIFETIME) else {
            return Self { running: own, waiting: 0.0 };
        };
        let others = (sample.running + sample.waiting - f64::from(sample.own_in_flight)).max(0.0);
        let total = others + own;
        let change = total - (sample.running + sample.waiting);
        // vLLM admits first come, first served: what comes while others wait, waits; what ends
        // makes room for one that waited.
        let queue = sample.waiting > 0.0;
        let waiting = if queue { (sample.waiting + change).clamp(0.0, total) } else { 0.0 };
        Self { running: total - waiting, waiting }
    }

    /// mvllm's score since 0.1.0: `(running + waiting * 0.5) / capacity`. Lower is better; under
    /// [`PREFERRED_BELOW`] a server counts as lightly loaded.
    pub fn score(self, capacity: Capacity) -> f64 {
        (self.running + self.waiting * 0.5) / f64::from(capacity.get())
    }
}

/// Requests that a server has from others than this router: other routers, other clients.
///
/// Of each scrape that is what it shows above the own requests of that moment. A request that has
/// just ended is in it as well, so single scrapes are noise: what counts is the mean of some.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Others {
    /// Being worked on.
    pub running: f64,
    /// In the queue.
    pub waiting: f64,
}

impl Others {
    /// The part of the latest scrape in the mean: three seconds of scrapes count as much as all
    /// before. Less would follow slowly, more would take noise for load.
    const SHARE: f64 = 0.15;

    /// The mean after one more scrape.
    #[must_use]
    pub fn after(self, sample: &Sample) -> Self {
        let all = sample.running + sample.waiting;
        let theirs = (all - f64::from(sample.own_in_flight)).max(0.0) / all.max(1.0);
        let blend = |mean: f64, latest: f64| mean + (latest - mean) * Self::SHARE;
        Self {
            running: blend(self.running, sample.running * theirs),
            waiting: blend(self.waiting, sample.waiting * theirs),
        }
    }
}

/// Servers with a score under one half are preferred to those above. The least score always is
/// under one half when any is, so ranking by the score alone keeps the promise.
pub const PREFERRED_BELOW: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(own_in_flight: u32, running: f64, waiting: f64) -> Sample {
        let sent_at = Timestamp::ZERO;
        Sample { sent_at, own_in_flight, running, waiting, kv_cache_usage: 0.0 }
    }

    fn check(sample: Sample, own_now: u32, running: f64, waiting: f64) {
        let load = Load::estimate(Some(&sample), own_now, Timestamp::ZERO);
        assert_eq!(load, Load { running, waiting });
    }

    #[test]
    fn what_was_sent_since_the_scrape_counts_at_once() {
        check(sample(2, 2.0, 0.0), 7, 7.0, 0.0);
    }

    #[test]
    fn what_ended_since_the_scrape_no_longer_counts() {
        check(sample(5, 5.0, 0.0), 1, 1.0, 0.0);
    }

    #[test]
    fn requests_of_other_routers_stay_on_top_of_our_own() {
        check(sample(2, 6.0, 0.0), 3, 7.0, 0.0);
    }

    #[test]
    fn new_requests_join_an_existing_queue_and_ended_ones_shorten_it() {
        check(sample(6, 4.0, 2.0), 9, 4.0, 5.0);
        check(sample(6, 4.0, 2.0), 5, 4.0, 1.0);
        check(sample(6, 4.0, 2.0), 3, 3.0, 0.0);
    }

    #[test]
    fn a_scrape_that_has_not_seen_our_requests_yet_does_not_hide_them() {
        check(sample(4, 0.0, 0.0), 4, 4.0, 0.0);
    }

    #[test]
    fn an_old_sample_leaves_only_what_we_know_ourselves() {
        let late = Timestamp::ZERO + SAMPLE_LIFETIME + Duration::from_nanos(1);
        let load = Load::estimate(Some(&sample(0, 9.0, 9.0)), 2, late);
        assert_eq!(load, Load { running: 2.0, waiting: 0.0 });
    }

    #[test]
    fn the_score_is_that_of_mvllm_0_1() {
        let capacity = Capacity::new(NonZeroU32::new(4).unwrap());
        assert_eq!(Load { running: 3.0, waiting: 2.0 }.score(capacity), 1.0);
    }

    proptest! {
        #[test]
        fn load_is_never_negative_and_never_below_our_own(
            seen in 0u32..200, running in 0u32..200, waiting in 0u32..200, now in 0u32..200,
        ) {
            let sample = sample(seen, running.into(), waiting.into());
            let load = Load::estimate(Some(&sample), now, Timestamp::ZERO);
            prop_assert!(load.running >= 0.0 && load.waiting >= 0.0);
            prop_assert!(load.running + load.waiting >= f64::from(now));
        }

        #[test]
        fn one_more_request_never_lowers_the_score(
            seen in 0u32..200, running in 0u32..200, waiting in 0u32..200, now in 0u32..200,
        ) {
            let sample = sample(seen, running.into(), waiting.into());
            let capacity = Capacity::new(NonZeroU32::MIN);
            let score = |own| Load::estimate(Some(&sample), own, Timestamp::ZERO).score(capacity);
            prop_assert!(score(now + 1) > score(now));
        }
    }
}
