//! A request as its engine sees it.

use std::time::Duration;

use super::RequestId;
use crate::kv_cache::{BlockChain, BlockId};
use crate::tokenizer::{END, Token};
use crate::writer::{Ending, Writer};

/// What a client asks of an engine.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The length of the prompt.
    pub prompt_tokens: usize,
    /// The hashes of the prompt's full blocks.
    pub chain: BlockChain,
    /// What is generated.
    pub output: Output,
    /// The answer's greatest length.
    pub max_tokens: usize,
}

/// What a request generates.
#[derive(Clone, Debug)]
pub enum Output {
    /// The text that follows the prompt, which the writer has read.
    Text(Writer, Ending),
    /// A number of tokens nobody looks at, as in a replayed trace.
    Length(usize),
}

impl Submission {
    /// A request for the text that follows `prompt`. Prompts of different `salt` (LoRA adapter,
    /// `cache_salt`) share no cache.
    pub fn text(prompt: &[Token], max_tokens: usize, block_size: usize, model: Model) -> Self {
        let mut chain = BlockChain::new(block_size, model.cache_salt);
        let mut writer = Writer::new(model.seed);
        for token in prompt {
            chain.push(*token);
            writer.read(*token);
        }
        let output = Output::Text(writer, model.ending);
        Self { prompt_tokens: prompt.len(), chain, output, max_tokens }
    }

    /// The most tokens whose KV cache the request can need.
    pub(super) fn tokens_at_most(&self) -> usize {
        let answer = match self.output {
            Output::Text(..) => self.max_tokens,
            Output::Length(length) => length.min(self.max_tokens),
        };
        self.prompt_tokens + answer
    }
}

/// Which model writes the text of a request, and whose cache it shares.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Models of different seeds write different texts.
    pub seed: u64,
    /// Requests of different salt share no blocks.
    pub cache_salt: u64,
    /// May the answer end by itself?
    pub ending: Ending,
}

/// A request and how far it has come.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) id: RequestId,
    chain: BlockChain,
    output: Output,
    pub(crate) max_tokens: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) generated: usize,
    /// Tokens whose KV cache is computed, those of the step under way included.
    pub(super) computed: usize,
    pub(super) held: Vec<BlockId>,
    pub(super) published: usize,
    /// The step under way computes its last token, so that a new one follows.
    pub(super) sampled_next: bool,
    pub(crate) preemptions: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) arrived_at: Duration,
    pub(crate) scheduled_at: Option<Duration>,
    pub(crate) first_token_at: Option<Duration>,
    pub(crate) last_token_at: Option<Duration>,
}

/// The next token of an answer.
pub(super) struct Written {
    pub(super) token: Option<Token>,
    pub(super) ends: bool,
}

impl Request {
    pub(super) fn new(id: RequestId, submission: Submission, now: Duration) -> Self {
        let Submission { prompt_tokens, chain, output, max_tokens } = submission;
        Self {
            id,
            chain,
            output,
            max_tokens,
            prompt_tokens,
            generated: 0,
            computed: 0,
            held: Vec::new(),
            published: 0,
            sampled_next: false,
            preemptions: 0,
            cached_tokens: 0,
            arrived_at: now,
            scheduled_at: None,
            first_token_at: None,
            last_token_at: None,
        }
    }

    /// Prompt and answer so far.
    pub(super) fn tokens(&self) -> usize {
        self.prompt_tokens + self.generated
    }

    pub(super) fn chain(&self) -> &BlockChain {
        &self.chain
    }

    /// Generates one token.
    pub(super) fn write(&mut self) -> Written {
        self.generated += 1;
        match &mut self.output {
            Output::Text(writer, ending) => {
                let token = writer.next(*ending);
                writer.read(token);
                self.chain.push(token);
                Written { token: Some(token), ends: token == END }
            }
            Output::Length(length) => Written { token: None, ends: self.generated >= *length },
        }
    }
}
