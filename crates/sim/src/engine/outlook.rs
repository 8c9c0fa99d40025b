//! What a request would find in an engine: known to nobody outside a real server, and so the
//! yardstick of those who have to guess it.

use std::time::Duration;

use super::Engine;
use crate::kv_cache::BlockHash;

/// What a request would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Tokens of its prompt that would come from the KV cache.
    pub cached_tokens: usize,
    /// Tokens of the prompts before it that are still to be computed.
    pub prefill_ahead: usize,
    /// Requests before it that have not had their first token.
    pub requests_ahead: usize,
    /// Requests that are past it.
    pub decoding: usize,
    /// Tokens in the KV cache whose requests are under way.
    pub kv_held: usize,
    /// Tokens for which the KV cache has no room yet: of the queue and of this request.
    pub kv_lacking: usize,
    /// Until the present step ends.
    pub step_left: Duration,
}

impl Engine {
    /// The lot of a prompt of so many tokens with these full blocks, if it came `now`.
    pub fn outlook(&self, blocks: &[BlockHash], prompt_tokens: usize, now: Duration) -> Outlook {
        let block_size = self.config.block_size;
        let cached = |blocks: &[BlockHash], tokens: usize| {
            let usable = (tokens.saturating_sub(1) / block_size).min(blocks.len());
            self.cache.matching(&blocks[..usable]) * block_size
        };
        let prefilling = self.running.iter().filter(|request| request.generated == 0);
        let (begun, left) = prefilling.fold((0, 0), |(requests, tokens), request| {
            (requests + 1, tokens + request.tokens() - request.computed)
        });
        let mut held = cached(blocks, prompt_tokens);
        let (mut waiting_tokens, mut waiting_whole) = (0, 0);
        for request in &self.waiting {
            let theirs = request.chain().blocks();
            waiting_tokens += request.tokens() - cached(theirs, request.tokens());
            waiting_whole += request.tokens();
            // What waits before it will be in the cache when its turn comes.
            let common = theirs.iter().zip(blocks).take_while(|(a, b)| a == b).count();
            held = held.max((common * block_size).min(prompt_tokens - 1));
        }
        let capacity = self.cache.capacity() * block_size;
        let kv_held = capacity - self.cache.free_blocks() * block_size;
        Outlook {
            cached_tokens: held,
            prefill_ahead: left + waiting_tokens,
            requests_ahead: begun + self.waiting.len(),
            decoding: self.running.len() - begun,
            kv_held,
            kv_lacking: (kv_held + waiting_whole + prompt_tokens).saturating_sub(capacity),
            step_left: self
                .step
                .as_ref()
                .map_or(Duration::ZERO, |step| step.ends_at.saturating_sub(now)),
        }
    }
}
