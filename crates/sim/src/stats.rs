//! What an engine counts: the numbers behind `/metrics`.

use std::time::Duration;

use crate::engine::{FinishReason, Load, Request};

/// Counters, gauges and histograms of one engine.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Requests at the end of the last step. vLLM's gauges move once a step, and so do these.
    pub load: Load,
    /// The share of KV blocks that a request holds, at the same moment.
    pub kv_cache_usage: f64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Requests that lost their KV cache to older ones.
    pub preemptions: u64,
    /// Prompt tokens of requests that have their first token.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub generation_tokens: u64,
    /// Requests that ended by themselves.
    pub finished_stop: u64,
    /// Requests that ended at their greatest length.
    pub finished_length: u64,
    /// Tokens computed in each step.
    pub iteration_tokens: Histogram<ITERATION_BOUNDS>,
    /// From arrival to the first token.
    pub time_to_first_token: Histogram<TTFT_BOUNDS>,
    /// From one token to the next.
    pub inter_token_latency: Histogram<ITL_BOUNDS>,
    /// From arrival to the end.
    pub e2e_latency: Histogram<REQUEST_BOUNDS>,
    /// From arrival to the first step.
    pub queue_time: Histogram<REQUEST_BOUNDS>,
    /// From the first step to the first token.
    pub prefill_time: Histogram<REQUEST_BOUNDS>,
    /// From the first token to the last.
    pub decode_time: Histogram<REQUEST_BOUNDS>,
    /// From the first step to the last token.
    pub inference_time: Histogram<REQUEST_BOUNDS>,
    /// Prompt tokens computed, those found in the cache left out.
    pub prefill_computed: Histogram<TOKEN_BOUNDS>,
    /// Prompt tokens of each request.
    pub request_prompt_tokens: Histogram<TOKEN_BOUNDS>,
    /// Generated tokens of each request.
    pub request_generation_tokens: Histogram<TOKEN_BOUNDS>,
}

// The bounds of vLLM 0.32 (v1/metrics/loggers.py), by index into `bounds`.
const ITERATION_BOUNDS: usize = 0;
const TTFT_BOUNDS: usize = 1;
const ITL_BOUNDS: usize = 2;
const REQUEST_BOUNDS: usize = 3;
const TOKEN_BOUNDS: usize = 4;

const fn bounds(kind: usize) -> &'static [f64] {
    match kind {
        ITERATION_BOUNDS => &[
            1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
            16384.0,
        ],
        TTFT_BOUNDS => &[
            0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
            10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
        ],
        ITL_BOUNDS => &[
            0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
            10.0, 20.0, 40.0, 80.0,
        ],
        REQUEST_BOUNDS => &[
            0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
            120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
        ],
        _ => &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0],
    }
}

impl EngineStats {
    pub(crate) fn reported(&mut self, load: Load, kv_cache_usage: f64) {
        self.load = load;
        self.kv_cache_usage = kv_cache_usage;
    }

    pub(crate) fn preempted(&mut self) {
        self.preemptions += 1;
    }

    pub(crate) fn queried_prefix(&mut self, request: &Request) {
        self.prefix_queries += request.prompt_tokens as u64;
        self.prefix_hits += request.cached_tokens as u64;
    }

    pub(crate) fn stepped(&mut self, tokens: usize) {
        self.iteration_tokens.observe(tokens as f64);
    }

    /// A request got a token: notes the time on the request too.
    pub(crate) fn generated(&mut self, request: &mut Request, now: Duration) {
        self.generation_tokens += 1;
        match request.last_token_at.replace(now) {
            Some(last) => self.inter_token_latency.observe_time(now - last),
            None => {
                request.first_token_at = Some(now);
                self.prompt_tokens += request.prompt_tokens as u64;
                self.time_to_first_token.observe_time(now - request.arrived_at);
            }
        }
    }

    pub(crate) fn finished(&mut self, request: &Request, reason: FinishReason, now: Duration) {
        match reason {
            FinishReason::Stop => self.finished_stop += 1,
            FinishReason::Length => self.finished_length += 1,
        }
        self.e2e_latency.observe_time(now - request.arrived_at);
        self.request_prompt_tokens.observe(request.prompt_tokens as f64);
        self.request_generation_tokens.observe(request.generated as f64);
        self.prefill_computed.observe((request.prompt_tokens - request.cached_tokens) as f64);
        let times = (request.scheduled_at, request.first_token_at, request.last_token_at);
        if let (Some(scheduled), Some(first), Some(last)) = times {
            self.queue_time.observe_time(scheduled - request.arrived_at);
            self.prefill_time.observe_time(first - scheduled);
            self.decode_time.observe_time(last - first);
            self.inference_time.observe_time(last - scheduled);
        }
    }
}

/// A Prometheus histogram over one of vLLM's lists of bounds.
#[derive(Clone, Debug)]
pub struct Histogram<const BOUNDS: usize> {
    /// Observations up to each bound and above the one before it; the last count is above all.
    counts: Vec<u64>,
    sum: f64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        Self { counts: vec![0; bounds(BOUNDS).len() + 1], sum: 0.0 }
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    fn observe(&mut self, value: f64) {
        self.counts[bounds(BOUNDS).partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    fn observe_time(&mut self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Each upper bound with the number of observations up to it, infinity last.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = bounds(BOUNDS).iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}
