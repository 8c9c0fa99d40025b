//! What is to be served: requests with their moments, lengths and shared beginnings.

use std::time::Duration;

/// Requests in the order of their arrival.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) name: String,
    pub(super) requests: Vec<Traced>,
    /// Tokens that one entry of [`Traced::prefix`] stands for.
    pub(super) unit: u32,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traced {
    /// When it comes, in the trace's own time.
    pub(super) at: Duration,
    /// Tokens of the prompt.
    pub(super) prompt: u32,
    /// Tokens of the answer.
    pub(super) output: u32,
    /// Names the prompt's beginning unit by unit: where two prompts have the same name, they are the
    /// same up to there.
    pub(super) prefix: Box<[u64]>,
}

impl Workload {
    /// Hashes of the full blocks of `tokens` tokens, chained by construction: the same blocks have
    /// the same hashes, and no others. Whoever hashes has a `salt` of his own.
    pub(super) fn blocks(&self, request: &Traced, tokens: u32, salt: u64) -> Vec<u64> {
        let blocks_per_unit = self.unit / tokens;
        let hash = |block: u32| {
            let name = request.prefix[(block / blocks_per_unit) as usize];
            mix(mix(salt, name), u64::from(block % blocks_per_unit))
        };
        (0..request.prompt / tokens).map(hash).collect()
    }

    /// Requests in a second, over the whole.
    pub(super) fn rate(&self) -> f64 {
        let last = self.requests.last().map_or(Duration::ZERO, |request| request.at);
        self.requests.len() as f64 / last.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// A round of SplitMix64's finaliser.
pub(super) fn mix(state: u64, value: u64) -> u64 {
    let mut z = (state ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(state << 17);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
