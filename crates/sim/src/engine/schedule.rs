//! Which requests compute how many tokens in a step, and what a step leaves behind.

use std::time::Duration;

use super::request::{Request, Written};
use super::{Engine, EventKind, FinishReason};

/// The step under way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) ends_at: Duration,
    tokens: usize,
}

/// A step in the making.
#[derive(Default)]
struct Plan {
    tokens: usize,
    kv_tokens: usize,
}

impl Engine {
    /// Running requests first, in order of arrival (a decode takes one token, a prefill what is
    /// left of the budget), then the queue. Nobody is admitted in a step that had to preempt.
    pub(super) fn begin_step(&mut self) {
        let mut plan = Plan::default();
        let preempted = self.schedule_running(&mut plan);
        if !preempted {
            self.admit_waiting(&mut plan);
        }
        self.report_load();
        if plan.tokens > 0 {
            let time = self.config.profile.step_time(plan.tokens, plan.kv_tokens);
            self.step = Some(Batch { ends_at: self.now + time, tokens: plan.tokens });
        }
    }

    fn budget(&self, plan: &Plan) -> usize {
        self.config.profile.max_num_batched_tokens - plan.tokens
    }

    /// Answers whether a request had to be preempted.
    fn schedule_running(&mut self, plan: &mut Plan) -> bool {
        let mut preempted = false;
        let mut index = 0;
        while index < self.running.len() {
            let request = &self.running[index];
            let count = (request.tokens() - request.computed).min(self.budget(plan));
            if count == 0 {
                break;
            }
            if self.grow(index, count) {
                plan.add(&mut self.running[index], count);
                index += 1;
            } else {
                preempted = true;
                self.preempt_youngest();
            }
        }
        preempted
    }

    /// Gives a running request the blocks for `count` more tokens, if there are any.
    fn grow(&mut self, index: usize, count: usize) -> bool {
        let request = &mut self.running[index];
        let blocks = (request.computed + count).div_ceil(self.config.block_size);
        let missing = blocks.saturating_sub(request.held.len());
        if !self.cache.hold_new(missing, &mut request.held) {
            return false;
        }
        request.computed += count;
        // Blocks become matchable when they are scheduled, not when they are computed: vLLM's
        // `allocate_slots` caches them, and a second request of the same step already hits.
        let full = request.chain().blocks().len().min(request.computed / self.config.block_size);
        for block in request.published..full {
            self.cache.publish(request.held[block], request.chain().blocks()[block]);
        }
        request.published = request.published.max(full);
        true
    }

    /// Back to the head of the queue with what came last, to be computed anew ("recompute").
    fn preempt_youngest(&mut self) {
        let Some(mut request) = self.running.pop() else { return };
        self.cache.release(&mut request.held);
        request.computed = 0;
        request.published = 0;
        request.preemptions += 1;
        self.stats.preempted();
        self.waiting.push_front(request);
    }

    /// First come, first served: a request that does not fit keeps all others waiting.
    fn admit_waiting(&mut self, plan: &mut Plan) {
        while self.running.len() < self.config.max_num_seqs && self.budget(plan) > 0 {
            let Some(mut request) = self.waiting.pop_front() else { return };
            if !self.reserve(&mut request) {
                self.waiting.push_front(request);
                return;
            }
            self.note_admission(&mut request);
            let count = (request.tokens() - request.computed).min(self.budget(plan));
            self.running.push(request);
            let index = self.running.len() - 1;
            let grown = self.grow(index, count);
            debug_assert!(grown, "the whole sequence fitted");
            plan.add(&mut self.running[index], count);
        }
    }

    /// Takes the cached prefix, provided that the whole sequence would fit
    /// (`scheduler_reserve_full_isl`): checked, not held, so decodes may still eat into it.
    fn reserve(&mut self, request: &mut Request) -> bool {
        let block_size = self.config.block_size;
        // The last token is always computed: its output is what is sampled from.
        let usable = ((request.tokens() - 1) / block_size).min(request.chain().blocks().len());
        let hits = self.cache.matching(&request.chain().blocks()[..usable]);
        let missing = request.tokens().div_ceil(block_size) - hits;
        let hashes = &request.chain().blocks()[..hits];
        if !self.cache.fits(hashes, missing) {
            return false;
        }
        request.held = self.cache.hold_cached(hashes);
        request.published = hits;
        request.computed = hits * block_size;
        true
    }

    fn note_admission(&mut self, request: &mut Request) {
        if request.scheduled_at.is_some() {
            return;
        }
        request.scheduled_at = Some(self.now);
        request.cached_tokens = request.computed;
        self.stats.queried_prefix(request);
        self.emit(request.id, EventKind::Scheduled { cached_tokens: request.cached_tokens });
    }

    /// Hands out the tokens of a step. A request that was aborted meanwhile is not there any more.
    pub(super) fn end_step(&mut self, batch: &Batch) {
        self.stats.stepped(batch.tokens);
        let mut running = std::mem::take(&mut self.running);
        running.retain_mut(|request| {
            let sampled = std::mem::take(&mut request.sampled_next);
            let Some(reason) = sampled.then(|| self.generate(request)).flatten() else {
                return true;
            };
            self.cache.release(&mut request.held);
            self.stats.finished(request, reason, self.now);
            self.emit(request.id, EventKind::Finished(reason));
            false
        });
        self.running = running;
    }

    /// Writes a request's next token; answers why it was the last one, if it was.
    fn generate(&mut self, request: &mut Request) -> Option<FinishReason> {
        let Written { token, ends } = request.write();
        self.stats.generated(request, self.now);
        self.emit(request.id, EventKind::Token(token));
        match ends {
            true => Some(FinishReason::Stop),
            false => (request.generated >= request.max_tokens).then_some(FinishReason::Length),
        }
    }
}

impl Plan {
    fn add(&mut self, request: &mut Request, count: usize) {
        self.tokens += count;
        self.kv_tokens += request.computed;
        request.sampled_next = request.computed == request.tokens();
    }
}
