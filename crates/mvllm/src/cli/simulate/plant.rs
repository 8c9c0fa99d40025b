//! The simulated servers: which, how fast, and what becomes of each request there.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use mvllm_core::exposition::{CacheConfig, EngineLoad, Scrape};
use mvllm_sim::engine::{Engine, EngineConfig, Event, Outlook, Output, RequestId, Submission};
use mvllm_sim::kv_cache::{BlockChain, BlockHash};
use mvllm_sim::profile::Profile;

/// Tokens of a block of the engines' KV cache: vLLM's default on GPUs.
pub(super) const BLOCK_SIZE: u32 = 16;

/// Llama-3-8B in 80 GB: (0.92 * 80 - 16 - 4) GB / 128 KiB a token / 16.
const NUM_BLOCKS: u32 = 25_700;

/// vLLM's default on an A100.
const MAX_NUM_SEQS: usize = 256;

/// A list of servers, as in `2xa100,2xa100@0.5`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FleetSpec {
    pub(super) text: String,
    pub(super) profiles: Vec<Profile>,
}

#[derive(Debug, thiserror::Error)]
#[error("expected a number, or a list such as 2xa100,h100,2xa100@0.5 (profiles: a100, h100)")]
pub(super) struct BadFleet;

impl FromStr for FleetSpec {
    type Err = BadFleet;

    fn from_str(text: &str) -> Result<Self, BadFleet> {
        let mut profiles = Vec::new();
        for part in text.split(',') {
            let (count, kind) = match part.split_once('x') {
                Some((count, kind)) => (count, kind),
                None if part.starts_with(|c: char| c.is_ascii_digit()) => (part, "a100"),
                None => ("1", part),
            };
            let (name, speed) = kind.split_once('@').unwrap_or((kind, "1"));
            let speed: f64 = speed.parse().map_err(|_| BadFleet)?;
            let profile = match name {
                "a100" => Profile::a100(),
                "h100" => Profile::h100(),
                _ => return Err(BadFleet),
            };
            if !(0.01..=100.0).contains(&speed) {
                return Err(BadFleet);
            }
            let count: usize = count.parse().map_err(|_| BadFleet)?;
            profiles.extend((0..count).map(|_| at_speed(&profile, speed)));
        }
        match profiles.len() {
            1..=1024 => Ok(Self { text: text.to_owned(), profiles }),
            _ => Err(BadFleet),
        }
    }
}

fn at_speed(profile: &Profile, speed: f64) -> Profile {
    let slower = |time: Duration| time.div_f64(speed);
    Profile {
        base: slower(profile.base),
        weights: slower(profile.weights),
        compute_per_token: slower(profile.compute_per_token),
        kv_read_per_1k_tokens: slower(profile.kv_read_per_1k_tokens),
        max_num_batched_tokens: profile.max_num_batched_tokens,
    }
}

/// All engines, moved on together.
#[derive(Debug)]
pub(super) struct Plant {
    engines: Vec<Engine>,
    deadlines: Vec<Option<Duration>>,
    /// Which request of the workload an engine means.
    meant: Vec<HashMap<RequestId, usize>>,
}

impl Plant {
    pub(super) fn new(fleet: &FleetSpec) -> Self {
        let engine = |profile: &Profile| {
            Engine::new(EngineConfig {
                profile: profile.clone(),
                max_num_seqs: MAX_NUM_SEQS,
                block_size: BLOCK_SIZE as usize,
                num_blocks: NUM_BLOCKS,
            })
        };
        let engines: Vec<_> = fleet.profiles.iter().map(engine).collect();
        let deadlines = vec![None; engines.len()];
        let meant = engines.iter().map(|_| HashMap::new()).collect();
        Self { engines, deadlines, meant }
    }

    pub(super) fn len(&self) -> usize {
        self.engines.len()
    }

    /// When something happens next by itself, and where.
    pub(super) fn next(&self) -> Option<(Duration, usize)> {
        let due = self.deadlines.iter().enumerate();
        due.filter_map(|(at, deadline)| deadline.map(|deadline| (deadline, at))).min()
    }

    /// Lets the server do what is due, and answers with what happened to which request.
    pub(super) fn advance(&mut self, server: usize, now: Duration) -> Vec<(usize, Event)> {
        let events = self.engines[server].advance(now);
        self.deadlines[server] = self.engines[server].next_deadline();
        let meant = &self.meant[server];
        events.into_iter().map(|event| (meant[&event.request], event)).collect()
    }

    /// Sends request `nth` of the workload there. Whether it can ever fit.
    pub(super) fn submit(
        &mut self,
        server: usize,
        nth: usize,
        (prompt, output): (u32, u32),
        blocks: Vec<BlockHash>,
        now: Duration,
    ) -> bool {
        let submission = Submission {
            prompt_tokens: prompt as usize,
            chain: BlockChain::of_hashes(blocks),
            output: Output::Length(output as usize),
            max_tokens: output as usize,
        };
        let Ok(id) = self.engines[server].submit(submission, now) else { return false };
        self.meant[server].insert(id, nth);
        true
    }

    /// What a request would find there.
    pub(super) fn outlook(
        &self,
        server: usize,
        blocks: &[BlockHash],
        prompt: u32,
        now: Duration,
    ) -> Outlook {
        self.engines[server].outlook(blocks, prompt as usize, now)
    }

    pub(super) fn profile(&self, server: usize) -> &Profile {
        &self.engines[server].config().profile
    }

    pub(super) fn preemptions(&self, server: usize) -> u64 {
        self.engines[server].stats().preemptions
    }

    /// What the server would tell at `/metrics`.
    pub(super) fn scrape(&self, server: usize) -> Scrape {
        let stats = self.engines[server].stats();
        let (running, waiting) = (stats.load.running as u64, stats.load.waiting as u64);
        let engine = EngineLoad { engine: 0, running: Some(running), waiting: Some(waiting) };
        Scrape {
            running: engine.running,
            waiting: engine.waiting,
            engines: vec![engine],
            kv_cache_usage: Some(stats.kv_cache_usage),
            prompt_tokens: Some(stats.prompt_tokens),
            generation_tokens: Some(stats.generation_tokens),
            prefix_cache_queries: Some(stats.prefix_queries),
            prefix_cache_hits: Some(stats.prefix_hits),
            preemptions: Some(stats.preemptions),
            cache: CacheConfig {
                block_size: Some(u64::from(BLOCK_SIZE)),
                num_gpu_blocks: Some(u64::from(NUM_BLOCKS)),
                kv_cache_size_tokens: None,
            },
            ..Scrape::default()
        }
    }
}
