//! What a simulated server pretends to be.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::engine::EngineConfig;
use crate::profile::Profile;

/// The options of a simulated server, named after those of `vllm serve`.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// `--served-model-name`: the first is the one in answers.
    pub models: Vec<String>,
    /// Names of LoRA adapters of the first model.
    pub loras: Vec<String>,
    /// `--max-model-len`.
    pub max_model_len: usize,
    /// The speed and size of each engine.
    pub engine: EngineConfig,
    /// `--data-parallel-size`: engines behind this one address.
    pub data_parallel_size: NonZeroUsize,
    /// `--max-num-queued-reqs`: beyond so many requests in flight, 503.
    pub max_num_queued_reqs: Option<usize>,
    /// Which model this is: servers of the same seed give the same answers.
    pub seed: u64,
    /// Simulated seconds in a second.
    pub speed: f64,
    /// `VLLM_HTTP_TIMEOUT_KEEP_ALIVE`: idle connections are closed after this time.
    pub keep_alive: Duration,
    /// Whose names `/metrics` uses.
    pub metric_names: MetricNames,
    /// `VLLM_ENABLE_RESPONSES_API_STORE`: remember responses, in this server alone.
    pub responses_store: bool,
}

/// The names of the metrics changed between vLLM's generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricNames {
    /// vLLM 0.32: `vllm:kv_cache_usage_perc`, one series for each engine.
    #[default]
    V1,
    /// Before vLLM 0.9: `vllm:gpu_cache_usage_perc`, no `engine` label.
    V0,
}

impl Default for SimConfig {
    /// A server to watch: see [`Profile::demo`].
    fn default() -> Self {
        Self {
            models: vec!["sim".to_owned()],
            loras: Vec::new(),
            max_model_len: 32_768,
            engine: EngineConfig {
                profile: Profile::demo(),
                max_num_seqs: 64,
                block_size: 16,
                num_blocks: 8192,
            },
            data_parallel_size: NonZeroUsize::MIN,
            max_num_queued_reqs: None,
            seed: 0,
            speed: 1.0,
            keep_alive: Duration::from_secs(5),
            metric_names: MetricNames::V1,
            responses_store: false,
        }
    }
}

impl SimConfig {
    /// A server for tests: a token a millisecond, few sequences, see [`Profile::fast`].
    pub fn fast() -> Self {
        let mut config = Self::default();
        config.engine.profile = Profile::fast();
        config.engine.max_num_seqs = 16;
        config.max_model_len = 8192;
        config
    }
}
