//! The prompt of a request, as far as choosing a server asks for it: how long it is, and what it
//! begins with.
//!
//! What it begins with is a chain of hashes, one for each block of its *canonical content*: roles,
//! texts, tools and the like, in the order in which chat templates put them and free of all that
//! does not reach the model (white space and escapes of the JSON, the order of members, sampling
//! parameters). Two prompts share their first `n` hashes if and, but for chance, only if they share
//! the content of the first `n` blocks; so hashes stand for prefixes, and no prompt is kept.
//!
//! The hashes have no secret seed: routers side by side must agree on them, and recorded ones must
//! mean the same tomorrow. Who makes up a prompt that collides with another deceives the router
//! about a cache, and gets a slower answer for it.

mod chain;
mod content;
mod material;

use alloc::boxed::Box;

use crate::dialect::Dialect;
use crate::json_fields::Fields;

use chain::Chain;
use content::Writer;

pub use chain::{BLOCK_BYTES, BLOCK_TOKENS, BLOCKS_MAX};
pub(crate) use material::Material;

/// About how long a token is, in most languages and in code.
const BYTES_PER_TOKEN: u64 = BLOCK_BYTES as u64 / BLOCK_TOKENS as u64;

/// No tokenizer in use gives fewer tokens for texts that people send: about 4 bytes a token are
/// usual in English and in code, 6 in Thai or Hindi, where a letter has three bytes. Only runs of
/// one character, as in rulers and indentation, go beyond 8.
const BYTES_PER_TOKEN_MOST: u64 = 8;

/// A prompt without its text, and what is asked for besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// One hash for each whole block from the beginning, each including all before it. A block is
    /// [`BLOCK_BYTES`] of text, or [`BLOCK_TOKENS`] token ids; at most [`BLOCKS_MAX`].
    pub blocks: Box<[u64]>,
    /// About how many tokens it has. Of token ids that is exact.
    pub tokens: u32,
    /// Fewest tokens that it can have, for all that is known: 0 if it is a batch, or is to be cut.
    pub least_tokens: u32,
    /// How many tokens an answer may have at most, if the client says so.
    pub max_tokens: Option<u32>,
    /// How many answers are asked for.
    pub answers: u32,
}

impl Prompt {
    /// The prompt of a request with these members; `None` if they hold none. The dialect is that
    /// in which the answer will be given.
    pub fn of(fields: &Fields<'_>, dialect: Dialect) -> Option<Self> {
        let chain = Chain::seeded(fields.model.as_deref(), fields.cache_salt.as_deref());
        let mut writer = Writer::new(chain, dialect);
        fields.material.write(&mut writer);
        let (chain, prompts) = writer.finish();
        let (blocks, tally) = chain.finish();
        if tally.text_bytes == 0 && tally.token_ids == 0 {
            return None;
        }
        let tokens = tally.token_ids + tally.text_bytes / BYTES_PER_TOKEN;
        let certain_text = tally.text_bytes - tally.media_bytes;
        let least_tokens = tally.token_ids + certain_text / BYTES_PER_TOKEN_MOST;
        let is_known = prompts == 1 && !fields.truncates_prompt;
        Some(Self {
            blocks,
            tokens: tokens.try_into().unwrap_or(u32::MAX),
            least_tokens: if is_known { least_tokens.try_into().unwrap_or(u32::MAX) } else { 0 },
            max_tokens: fields.answer_tokens(),
            answers: fields.n.unwrap_or(1),
        })
    }

    /// Whether it may fit where prompt and answer together have at most `max_model_len` tokens.
    /// vLLM shortens an answer for which the prompt leaves no room, but refuses a `max_tokens` that
    /// no prompt would leave room for (vllm/renderers/params.py, `TokenizeParams`).
    pub fn may_fit(&self, max_model_len: u32) -> bool {
        self.least_tokens <= max_model_len
            && self.max_tokens.is_none_or(|wanted| wanted <= max_model_len)
    }
}

/// The hash of a name that is to stand for itself wherever it comes up, like that of a session.
pub fn hash(name: &[u8]) -> u64 {
    let mut chain = Chain::digesting();
    chain.text(name);
    chain.digest()
}

#[cfg(test)]
mod tests;
