//! What a vLLM server says of itself at `/metrics`, in the Prometheus text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! A scrape of vLLM 0.32 has 660 lines and 54 KB, of which some twenty series matter. So this is a
//! scan: a line whose name is not wanted costs the search for its end and little more. Names are
//! compared whole, since one may begin with another (`vllm:num_requests_waiting` and
//! `vllm:num_requests_waiting_by_reason`).
//!
//! The names are those of `vllm/v1/metrics/loggers.py`, and their predecessors. Some versions serve
//! an old and a new name side by side; then the new one counts, not their sum. Lines that make no
//! sense are passed over one by one: half a scrape is better than none.

use alloc::vec::Vec;
use core::str::FromStr;

use memchr::{memchr, memchr3};

use crate::quoted::Quoted;

/// How many data-parallel ranks are told apart. The totals have no such limit.
pub const ENGINES_MAX: usize = 64;

/// The metrics that matter of one server, summed over its data-parallel ranks if not said
/// otherwise. None: the server did not say, which is not the same as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    /// Requests in a batch: `vllm:num_requests_running`.
    pub running: Option<u64>,
    /// Requests in a queue: `vllm:num_requests_waiting`.
    pub waiting: Option<u64>,
    /// The same of each data-parallel rank, as they appear; empty if ranks are not told apart (V0).
    /// The one allocation of a scrape, at most [`ENGINES_MAX`] long.
    pub engines: Vec<EngineLoad>,
    /// Part of the KV cache that requests hold, 0 to 1, mean of the ranks:
    /// `vllm:kv_cache_usage_perc`.
    pub kv_cache_usage: Option<f64>,
    /// Whether all ranks are awake: `vllm:engine_sleep_state{sleep_state="awake"}`.
    pub awake: Option<bool>,
    /// Prompt tokens since start: `vllm:prompt_tokens_total`.
    pub prompt_tokens: Option<u64>,
    /// Generated tokens since start: `vllm:generation_tokens_total`.
    pub generation_tokens: Option<u64>,
    /// Prompt tokens looked up in the prefix cache: `vllm:prefix_cache_queries_total`.
    pub prefix_cache_queries: Option<u64>,
    /// Prompt tokens found in the prefix cache: `vllm:prefix_cache_hits_total`.
    pub prefix_cache_hits: Option<u64>,
    /// Requests thrown out of a batch, to be computed again: `vllm:num_preemptions_total`.
    pub preemptions: Option<u64>,
    /// Steps that the engines have made: the count of `vllm:iteration_tokens_total`.
    pub iterations: Option<u64>,
    /// `vllm:cache_config_info`.
    pub cache: CacheConfig,
    /// Open files that the process may have: `process_max_fds`.
    pub process_max_fds: Option<u64>,
    /// Unix time of the start of the process; another value is another process:
    /// `process_start_time_seconds`.
    pub process_start_time_seconds: Option<f64>,
}

impl Scrape {
    /// Whether this came from a vLLM server at all: any of its gauges of load was there.
    pub fn has_load(&self) -> bool {
        self.running.is_some() || self.waiting.is_some() || self.kv_cache_usage.is_some()
    }
}

/// Load of one data-parallel rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Value of the label `engine`: the rank.
    pub engine: u32,
    /// Requests in the batch.
    pub running: Option<u64>,
    /// Requests in the queue.
    pub waiting: Option<u64>,
}

/// Dimensions of the KV cache of one rank; of the smallest, should they differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheConfig {
    /// Tokens per block.
    pub block_size: Option<u64>,
    /// Blocks in the memory of the accelerator.
    pub num_gpu_blocks: Option<u64>,
    /// Tokens that fit in, as vLLM reckons it; newer versions only.
    pub kv_cache_size_tokens: Option<u64>,
}

impl CacheConfig {
    /// Tokens that fit in.
    pub fn tokens(&self) -> Option<u64> {
        let of_blocks = self.block_size.zip(self.num_gpu_blocks);
        self.kv_cache_size_tokens.or(of_blocks.map(|(size, blocks)| size.saturating_mul(blocks)))
    }
}

/// Reads a scrape.
pub fn parse(text: &[u8]) -> Scrape {
    let mut tally = Tally::default();
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        tally.line(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    tally.scrape()
}

/// A wanted series.
#[derive(Clone, Copy)]
enum Series {
    Running,
    Waiting,
    KvCacheUsage(Spelling),
    Awake,
    Count(Counter, Spelling),
    CacheConfig,
    MaxFds,
    StartTime,
}

/// Indices into [`Tally::counters`].
#[derive(Clone, Copy)]
enum Counter {
    PromptTokens,
    GenerationTokens,
    PrefixQueries,
    PrefixHits,
    Preemptions,
    Iterations,
}

/// How recent a name is; where several are served, the first of these counts.
#[derive(Clone, Copy)]
enum Spelling {
    Current,
    /// Without `_total`, which OpenMetrics gives to a counter and some exporters take away.
    Bare,
    /// With `gpu_`, as in V0 and in early V1; with or without `_total`.
    Old,
}

fn wanted(name: &[u8]) -> Option<Series> {
    use Counter::*;
    use Spelling::*;

    let Some(name) = name.strip_prefix(b"vllm:") else {
        return match name {
            b"process_max_fds" => Some(Series::MaxFds),
            b"process_start_time_seconds" => Some(Series::StartTime),
            _ => None,
        };
    };
    Some(match name {
        b"num_requests_running" => Series::Running,
        b"num_requests_waiting" => Series::Waiting,
        b"kv_cache_usage_perc" => Series::KvCacheUsage(Current),
        b"gpu_cache_usage_perc" => Series::KvCacheUsage(Old),
        b"engine_sleep_state" => Series::Awake,
        b"cache_config_info" => Series::CacheConfig,
        b"prompt_tokens_total" => Series::Count(PromptTokens, Current),
        b"prompt_tokens" => Series::Count(PromptTokens, Bare),
        b"generation_tokens_total" => Series::Count(GenerationTokens, Current),
        b"generation_tokens" => Series::Count(GenerationTokens, Bare),
        b"prefix_cache_queries_total" => Series::Count(PrefixQueries, Current),
        b"prefix_cache_queries" => Series::Count(PrefixQueries, Bare),
        b"gpu_prefix_cache_queries_total" | b"gpu_prefix_cache_queries" => {
            Series::Count(PrefixQueries, Old)
        }
        b"prefix_cache_hits_total" => Series::Count(PrefixHits, Current),
        b"prefix_cache_hits" => Series::Count(PrefixHits, Bare),
        b"gpu_prefix_cache_hits_total" | b"gpu_prefix_cache_hits" => Series::Count(PrefixHits, Old),
        b"num_preemptions_total" => Series::Count(Preemptions, Current),
        b"num_preemptions" => Series::Count(Preemptions, Bare),
        b"iteration_tokens_total_count" => Series::Count(Iterations, Current),
        _ => return None,
    })
}

#[derive(Default)]
struct Tally {
    scrape: Scrape,
    /// By [`Spelling`]: sum and number of values.
    kv_cache_usage: [(f64, u32); 3],
    /// By [`Counter`] and [`Spelling`].
    counters: [[Option<u64>; 3]; 6],
}

impl Tally {
    /// Takes one line, if it is a sample of a wanted series and makes sense.
    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        let name_end = memchr3(b'{', b' ', b'\t', line).unwrap_or(line.len());
        let (name, rest) = line.split_at(name_end);
        let Some(series) = wanted(name) else { return };
        let Some((labels, rest)) = Labels::read(rest.trim_ascii_start()) else { return };
        if let Some(value) = sample_value(rest) {
            self.add(series, &labels, value);
        }
    }

    fn add(&mut self, series: Series, labels: &Labels, value: f64) {
        match series {
            Series::Running => {
                add(&mut self.scrape.running, value);
                if let Some(engine) = self.engine(labels) {
                    add(&mut engine.running, value);
                }
            }
            Series::Waiting => {
                add(&mut self.scrape.waiting, value);
                if let Some(engine) = self.engine(labels) {
                    add(&mut engine.waiting, value);
                }
            }
            Series::KvCacheUsage(spelling) => {
                let (sum, values) = &mut self.kv_cache_usage[spelling as usize];
                *sum += value.min(1.0);
                *values += 1;
            }
            Series::Awake if labels.awake => {
                self.scrape.awake = Some(self.scrape.awake.unwrap_or(true) && value > 0.0);
            }
            Series::Awake => {}
            Series::Count(counter, spelling) => {
                add(&mut self.counters[counter as usize][spelling as usize], value);
            }
            Series::CacheConfig => self.scrape.cache.narrow(&labels.cache),
            Series::MaxFds => self.scrape.process_max_fds = whole(value),
            Series::StartTime => self.scrape.process_start_time_seconds = Some(value),
        }
    }

    fn engine(&mut self, labels: &Labels) -> Option<&mut EngineLoad> {
        let engine = labels.engine?;
        let engines = &mut self.scrape.engines;
        let at = match engines.iter().position(|known| known.engine == engine) {
            Some(at) => at,
            None if engines.len() == ENGINES_MAX => return None,
            None => {
                engines.push(EngineLoad { engine, ..EngineLoad::default() });
                engines.len() - 1
            }
        };
        engines.get_mut(at)
    }

    fn scrape(self) -> Scrape {
        let count = |counter: Counter| self.counters[counter as usize].into_iter().flatten().next();
        let usage = self.kv_cache_usage.into_iter().find(|&(_, values)| values > 0);
        Scrape {
            kv_cache_usage: usage.map(|(sum, values)| sum / f64::from(values)),
            prompt_tokens: count(Counter::PromptTokens),
            generation_tokens: count(Counter::GenerationTokens),
            prefix_cache_queries: count(Counter::PrefixQueries),
            prefix_cache_hits: count(Counter::PrefixHits),
            preemptions: count(Counter::Preemptions),
            iterations: count(Counter::Iterations),
            ..self.scrape
        }
    }
}

impl CacheConfig {
    fn narrow(&mut self, other: &Self) {
        // `min` of two Options would prefer None.
        let narrow = |kept: &mut Option<u64>, new: Option<u64>| {
            *kept = (*kept).into_iter().chain(new).min();
        };
        narrow(&mut self.block_size, other.block_size);
        narrow(&mut self.num_gpu_blocks, other.num_gpu_blocks);
        narrow(&mut self.kv_cache_size_tokens, other.kv_cache_size_tokens);
    }
}

/// The wanted labels of one sample.
#[derive(Default)]
struct Labels {
    engine: Option<u32>,
    /// Of the states of `engine_sleep_state`, this is the series of "awake".
    awake: bool,
    cache: CacheConfig,
}

impl Labels {
    /// Reads `{name="value",…}` if it is there; gives what follows as well.
    fn read(text: &[u8]) -> Option<(Self, &[u8])> {
        let mut labels = Self::default();
        let Some(mut rest) = text.strip_prefix(b"{") else { return Some((labels, text)) };
        loop {
            rest = rest.trim_ascii_start();
            if let Some(behind) = rest.strip_prefix(b"}") {
                return Some((labels, behind));
            }
            let equals = memchr(b'=', rest)?;
            let name = rest[..equals].trim_ascii_end();
            let value = rest[equals + 1..].trim_ascii_start().strip_prefix(b"\"")?;
            let (value, behind) = Quoted::read(value)?;
            labels.set(name, value.raw);
            rest = behind.trim_ascii_start();
            match rest.strip_prefix(b",") {
                Some(behind) => rest = behind,
                None if rest.starts_with(b"}") => {}
                None => return None,
            }
        }
    }

    /// Values are compared as they are written: none of the wanted ones needs an escape.
    fn set(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"engine" => self.engine = number(value),
            b"sleep_state" => self.awake = value == b"awake",
            b"block_size" => self.cache.block_size = number(value),
            b"num_gpu_blocks" => self.cache.num_gpu_blocks = number(value),
            b"kv_cache_size_tokens" => self.cache.kv_cache_size_tokens = number(value),
            _ => {}
        }
    }
}

/// The value of a sample: finite and not negative, as all that is wanted here must be. A timestamp
/// may follow, and in OpenMetrics an exemplar behind a `#`.
fn sample_value(text: &[u8]) -> Option<f64> {
    let mut tokens = text.split(u8::is_ascii_whitespace).filter(|token| !token.is_empty());
    let value: f64 = number(tokens.next()?)?;
    let mut next = tokens.next();
    if next.is_some_and(|token| number::<f64>(token).is_some()) {
        next = tokens.next();
    }
    let sound = next.is_none_or(|token| token.starts_with(b"#"));
    (sound && value.is_finite() && value >= 0.0).then_some(value)
}

fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn add(sum: &mut Option<u64>, value: f64) {
    if let Some(value) = whole(value) {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

/// A count, of which 2^53 is the last that a Prometheus sample can hold exactly: none of ours gets
/// near it, so a larger one is garbage.
fn whole(value: f64) -> Option<u64> {
    (value <= 9_007_199_254_740_992.0).then_some(value as u64)
}

#[cfg(test)]
mod tests;
