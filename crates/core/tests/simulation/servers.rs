//! Simulated vLLM servers, as simple as they can be: a queue, a batch of limited size, and steps in
//! which everybody in the batch gets one token. Nothing here knows the router.

use std::collections::VecDeque;
use std::time::Duration;

use mvllm_core::attempt::Failure;
use mvllm_core::health::Fault;
use mvllm_core::time::Timestamp;

/// A step of a server in good order.
const STEP: Duration = Duration::from_millis(250);

/// How many more than its capacity fit into a batch: one server alone can serve all clients.
const SPARE: u32 = 8;

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// Nobody listens: the process is not there.
    Gone,
    /// The whole process stands still (SIGSTOP): connections open, and nothing comes.
    Stopped,
    /// The engine stands still. The HTTP process is well, and says so.
    Hung,
    /// Every step, and every answer to a check, takes so many times as long.
    Slow(u32),
    /// Computes well and answers checks with an error.
    SaysIll,
    /// Computes well, and does not find the time to answer checks.
    TooBusyForChecks,
    /// Computes well, and its metrics do not arrive.
    NoMetrics,
    /// Every request fails like this, at once.
    Fails(Failure),
    /// The engine has died; the HTTP process is still there to say so.
    EngineDead,
}

/// Whose work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The so-manieth attempt of a request.
    Request(u32, u32),
    /// A probe.
    Probe(u64),
}

/// What comes out of a server for one piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Token,
    End,
    Fails(Failure),
}

#[derive(Debug)]
struct Work {
    owner: Owner,
    prefill_left: u32,
    tokens_left: u32,
}

/// What `/metrics` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Metrics {
    pub(crate) tokens: u64,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) started: f64,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: &'static str,
    pub(crate) models: &'static [&'static str],
    pub(crate) capacity: u32,
    /// Whether it knows the requests that probes are made of.
    pub(crate) can_be_probed: bool,
    pub(crate) ailment: Option<Ailment>,
    /// Since when it has been as it is now.
    pub(crate) so_since: Timestamp,
    started: f64,
    queue: VecDeque<Work>,
    batch: Vec<Work>,
    tokens: u64,
    /// Batch and queue as the engine last told them: one that stands still tells nothing.
    shown: (usize, usize),
    pub(crate) is_stepping: bool,
    pub(crate) random: fastrand::Rng,
}

impl Server {
    pub(crate) fn new(
        url: &'static str,
        models: &'static [&'static str],
        mut random: fastrand::Rng,
    ) -> Self {
        Self {
            url,
            models,
            capacity: random.u32(2..8),
            can_be_probed: random.u32(..8) != 0,
            ailment: None,
            so_since: Timestamp::ZERO,
            started: 1.0,
            queue: VecDeque::new(),
            batch: Vec::new(),
            tokens: 0,
            shown: (0, 0),
            is_stepping: false,
            random,
        }
    }

    /// Falls ill or gets well. What it was working on may fail by that.
    pub(crate) fn fall(&mut self, ailment: Option<Ailment>, now: Timestamp) -> Vec<(Owner, Sign)> {
        if self.ailment == ailment {
            return Vec::new();
        }
        let failure = match (self.ailment, ailment) {
            // Only a new process gets over either.
            (Some(Ailment::Gone | Ailment::EngineDead), None) => {
                self.started += 1.0;
                (self.tokens, self.shown) = (0, (0, 0));
                Some(Failure::Lost)
            }
            (_, Some(Ailment::Gone)) => Some(Failure::Lost),
            (_, Some(Ailment::EngineDead)) => Some(Failure::EngineDead),
            _ => None,
        };
        (self.ailment, self.so_since) = (ailment, now);
        self.show();
        let Some(failure) = failure else { return Vec::new() };
        let lost = self.batch.drain(..).chain(self.queue.drain(..));
        lost.map(|work| (work.owner, Sign::Fails(failure))).collect()
    }

    /// Takes a piece of work in, or says at once why not.
    pub(crate) fn submit(&mut self, owner: Owner) -> Result<(), Failure> {
        match self.ailment {
            Some(Ailment::Gone) => return Err(Failure::Unreachable),
            Some(Ailment::EngineDead) => return Err(Failure::EngineDead),
            Some(Ailment::Fails(failure)) => return Err(failure),
            _ => {}
        }
        let (prefill_left, tokens_left) = match owner {
            Owner::Request(..) => (self.random.u32(..3), self.random.u32(1..8)),
            Owner::Probe(_) => (0, 1),
        };
        self.queue.push_back(Work { owner, prefill_left, tokens_left });
        Ok(())
    }

    /// Whoever asked has left.
    pub(crate) fn abort(&mut self, owner: Owner) {
        self.queue.retain(|work| work.owner != owner);
        self.batch.retain(|work| work.owner != owner);
        self.show();
    }

    fn stands_still(&self) -> bool {
        matches!(self.ailment, Some(Ailment::Stopped | Ailment::Hung))
    }

    fn show(&mut self) {
        if !self.stands_still() {
            self.shown = (self.batch.len(), self.queue.len());
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.batch.is_empty()
    }

    pub(crate) fn step_time(&self) -> Duration {
        if let Some(Ailment::Slow(times)) = self.ailment { STEP * times } else { STEP }
    }

    /// One step of the engine: what it brings to whom.
    pub(crate) fn step(&mut self) -> Vec<(Owner, Sign)> {
        if self.stands_still() {
            return Vec::new();
        }
        while self.batch.len() < (self.capacity + SPARE) as usize {
            let Some(work) = self.queue.pop_front() else { break };
            self.batch.push(work);
        }
        let mut signs = Vec::new();
        for work in &mut self.batch {
            self.tokens += 1;
            if work.prefill_left > 0 {
                work.prefill_left -= 1;
                continue;
            }
            work.tokens_left -= 1;
            signs.push((work.owner, if work.tokens_left == 0 { Sign::End } else { Sign::Token }));
        }
        self.batch.retain(|work| work.tokens_left > 0);
        self.show();
        signs
    }

    /// `/health`, with how long the answer takes; `None`: there is none.
    pub(crate) fn health(&mut self) -> Option<(Duration, Result<(), Fault>)> {
        let took = Duration::from_millis(self.random.u64(1..10));
        match self.ailment {
            Some(Ailment::Stopped | Ailment::TooBusyForChecks) => None,
            Some(Ailment::Gone) => Some((took, Err(Fault::Unreachable))),
            Some(Ailment::EngineDead) => Some((took, Err(Fault::EngineDead))),
            Some(Ailment::SaysIll) => Some((took, Err(Fault::Status(500)))),
            Some(Ailment::Slow(times)) => Some((took * times * 25, Ok(()))),
            _ => Some((took, Ok(()))),
        }
    }

    /// `None`: no answer. Whether there is somebody to ask is told by `Gone`.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        let is_mute = matches!(self.ailment, Some(Ailment::Stopped | Ailment::NoMetrics));
        let (running, waiting) = self.shown;
        let metrics = Metrics { tokens: self.tokens, running, waiting, started: self.started };
        (!is_mute).then_some(metrics)
    }

    /// Whether it would compute what it is asked to, now.
    pub(crate) fn is_well(&self) -> bool {
        self.ailment.is_none()
    }
}
