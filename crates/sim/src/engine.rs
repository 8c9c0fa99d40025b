//! One engine: continuous batching with chunked prefill over a KV cache, as vLLM's scheduler does it
//! (`v1/core/sched/scheduler.py`), with a speed taken from a [`Profile`].
//!
//! It has no clock: time is told as the [`Duration`] since its start, and the same calls at the same
//! times give the same events. Nothing here knows of HTTP.

mod outlook;
mod request;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub use outlook::Outlook;
pub(crate) use request::Request;
pub use request::{Model, Output, Submission};
use schedule::Batch;

use crate::kv_cache::KvCache;
use crate::profile::Profile;
use crate::stats::EngineStats;
use crate::tokenizer::Token;

/// The size and speed of an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Its speed.
    pub profile: Profile,
    /// vLLM's `--max-num-seqs`: requests in one step.
    pub max_num_seqs: usize,
    /// Tokens in a block of the KV cache.
    pub block_size: usize,
    /// Blocks in the KV cache.
    pub num_blocks: u32,
}

/// Names a request within its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What happened to a request, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The request.
    pub request: RequestId,
    /// The time since the engine's start.
    pub at: Duration,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It left the queue for the first time.
    Scheduled {
        /// Prompt tokens found in the KV cache.
        cached_tokens: usize,
    },
    /// A token was generated; `None` if the request came without a text ([`Output::Length`]).
    Token(Option<Token>),
    /// It is over; the last event of a request.
    Finished(FinishReason),
}

/// Why a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer was complete.
    Stop,
    /// It had as many tokens as asked for.
    Length,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Alone in the KV cache it would not fit. A real server refuses to start with such a cache.
    #[error("{needed} blocks are needed where the KV cache has {capacity}")]
    NeverFits {
        /// Blocks for prompt and answer.
        needed: usize,
        /// Blocks that there are.
        capacity: usize,
    },
    /// There is nothing to compute.
    #[error("a request needs a prompt and at least one token to generate")]
    Empty,
}

/// How many requests an engine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// In the batch.
    pub running: usize,
    /// In the queue.
    pub waiting: usize,
}

/// A continuously batching engine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    cache: KvCache,
    waiting: VecDeque<Request>,
    running: Vec<Request>,
    step: Option<Batch>,
    now: Duration,
    next_id: u64,
    events: Vec<Event>,
    stats: EngineStats,
}

impl Engine {
    /// An idle engine with an empty cache, at time zero.
    pub fn new(config: EngineConfig) -> Self {
        Self {
            cache: KvCache::new(config.num_blocks),
            config,
            waiting: VecDeque::new(),
            running: Vec::new(),
            step: None,
            now: Duration::ZERO,
            next_id: 0,
            events: Vec::new(),
            stats: EngineStats::default(),
        }
    }

    /// Queues a request. It is looked at when the step under way ends, or at once on an idle engine
    /// (by the next [`Engine::advance`]).
    pub fn submit(&mut self, submission: Submission, now: Duration) -> Result<RequestId, Refused> {
        if submission.prompt_tokens == 0 || submission.max_tokens == 0 {
            return Err(Refused::Empty);
        }
        let needed = submission.tokens_at_most().div_ceil(self.config.block_size);
        if needed > self.cache.capacity() {
            return Err(Refused::NeverFits { needed, capacity: self.cache.capacity() });
        }
        self.catch_up(now);
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Request::new(id, submission, now));
        Ok(id)
    }

    /// Forgets a request at once, wherever it is. Answers false if it is over already.
    pub fn abort(&mut self, id: RequestId) -> bool {
        let known = self.take(id).is_some();
        if known {
            self.report_load();
        }
        known
    }

    /// Ends a request that is complete for a reason which the engine does not see, as a stop
    /// string: counted as a success, where an abort is not.
    pub fn finish(&mut self, id: RequestId) -> bool {
        let request = self.take(id);
        if let Some(request) = &request {
            self.stats.finished(request, FinishReason::Stop, self.now);
            self.report_load();
        }
        request.is_some()
    }

    fn take(&mut self, id: RequestId) -> Option<Request> {
        if let Some(index) = self.running.iter().position(|request| request.id == id) {
            let mut request = self.running.remove(index);
            self.cache.release(&mut request.held);
            return Some(request);
        }
        let index = self.waiting.iter().position(|request| request.id == id)?;
        self.waiting.remove(index)
    }

    /// When [`Engine::advance`] has something to do next; `None` while there are no requests.
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.step {
            Some(batch) => Some(batch.ends_at),
            None => self.has_requests().then_some(self.now),
        }
    }

    /// Does everything that is due by `now`, and begins a step if there is work.
    pub fn advance(&mut self, now: Duration) -> Vec<Event> {
        self.catch_up(now);
        if self.step.is_none() {
            self.begin_step();
        }
        std::mem::take(&mut self.events)
    }

    /// Ends the steps that are due. What follows a step begins when it ended, not when somebody
    /// looked.
    fn catch_up(&mut self, now: Duration) {
        while let Some(batch) = self.step.take_if(|batch| batch.ends_at <= now) {
            self.now = batch.ends_at;
            self.end_step(&batch);
            self.begin_step();
        }
        self.now = self.now.max(now);
    }

    fn has_requests(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    /// The requests in the engine as of now. The gauges of `/metrics` lag behind, as vLLM's do: see
    /// [`EngineStats::reported`].
    pub fn load(&self) -> Load {
        Load { running: self.running.len(), waiting: self.waiting.len() }
    }

    /// Counters and histograms since the start.
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// The engine's size and speed.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    fn emit(&mut self, request: RequestId, kind: EventKind) {
        self.events.push(Event { request, at: self.now, kind });
    }

    fn report_load(&mut self) {
        let capacity = self.cache.capacity().max(1);
        let used = capacity - self.cache.free_blocks();
        self.stats.reported(self.load(), used as f64 / capacity as f64);
    }
}
