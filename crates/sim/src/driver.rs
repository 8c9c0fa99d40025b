//! Runs the engines against the clock, and carries their events to whoever waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::clock::Clock;
use crate::config::SimConfig;
use crate::engine::{Engine, Event, EventKind, FinishReason, Load, Refused, RequestId, Submission};
use crate::stats::EngineStats;
use crate::tokenizer::Token;

/// The engines of a server, one for each data-parallel rank.
#[derive(Debug)]
pub(crate) struct Engines {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    engines: Vec<Engine>,
    listeners: HashMap<Place, Listener>,
    next_rank: usize,
    /// What was last told while the engines stand still: vLLM's HTTP process knows what its engine
    /// tells it at the end of a step, and a hung one ends none.
    last_told: Option<Vec<EngineStats>>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    rank: usize,
    request: RequestId,
}

#[derive(Debug)]
struct Listener {
    choice: usize,
    news: mpsc::UnboundedSender<News>,
}

/// Something that happened to one choice of a generation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Scheduled { choice: usize, cached_tokens: usize },
    Token { choice: usize, token: Option<Token>, finish: Option<FinishReason> },
}

impl Engines {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let rank = || Engine::new(config.engine.clone());
        let engines = std::iter::repeat_with(rank).take(config.data_parallel_size.get()).collect();
        let clock = Clock::start(config.speed);
        let state =
            State { clock, engines, listeners: HashMap::new(), next_rank: 0, last_told: None };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Steps the engines for ever.
    pub(crate) async fn run(&self) {
        loop {
            let changed = self.changed.notified();
            let pause = self.state().advance();
            match pause {
                Some(pause) => {
                    let _ = tokio::time::timeout(pause, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Starts the choices of one answer on one engine: that of `rank`, or the least loaded.
    pub(crate) fn submit(
        self: &Arc<Self>,
        rank: Option<usize>,
        choices: Vec<Submission>,
    ) -> Result<Generation, Refused> {
        let (news, heard) = mpsc::unbounded_channel();
        let mut generation = Generation { engines: Arc::clone(self), heard, open: Vec::new() };
        let mut state = self.state();
        state.advance();
        let now = state.clock.now();
        let rank = rank.unwrap_or_else(|| state.least_loaded());
        for (choice, submission) in choices.into_iter().enumerate() {
            let submitted = state.engines[rank].submit(submission, now);
            let request = match submitted {
                Ok(request) => request,
                Err(refused) => {
                    // `generation` takes the lock to abort the choices before this one.
                    drop(state);
                    return Err(refused);
                }
            };
            let place = Place { rank, request };
            state.listeners.insert(place, Listener { choice, news: news.clone() });
            generation.open.push((choice, place));
        }
        drop(state);
        self.changed.notify_one();
        Ok(generation)
    }

    /// Stops or restarts all engines where they are.
    pub(crate) fn stand_still(&self, still: bool) {
        let mut state = self.state();
        match still {
            true => {
                state.clock.stop();
                let stats = state.stats();
                state.last_told.get_or_insert(stats);
            }
            false => {
                state.clock.go_on();
                state.last_told = None;
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The requests in all engines as of now.
    pub(crate) fn load(&self) -> Load {
        self.state().engines.iter().map(Engine::load).fold(Load::default(), |sum, load| Load {
            running: sum.running + load.running,
            waiting: sum.waiting + load.waiting,
        })
    }

    /// The statistics of each engine.
    pub(crate) fn stats(&self) -> Vec<EngineStats> {
        let state = self.state();
        state.last_told.clone().unwrap_or_else(|| state.stats())
    }

    /// A panic in one request must not end the simulation of the others.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Does what is due; answers the time until something will be.
    fn advance(&mut self) -> Option<Duration> {
        let now = self.clock.now();
        for rank in 0..self.engines.len() {
            let events = self.engines[rank].advance(now);
            self.tell(rank, &events);
        }
        let deadline = self.engines.iter().filter_map(Engine::next_deadline).min()?;
        self.clock.until(deadline)
    }

    fn stats(&self) -> Vec<EngineStats> {
        self.engines.iter().map(|engine| engine.stats().clone()).collect()
    }

    fn tell(&mut self, rank: usize, events: &[Event]) {
        let mut events = events.iter().peekable();
        while let Some(&Event { request, kind, .. }) = events.next() {
            let place = Place { rank, request };
            let Some(Listener { choice, news }) = self.listeners.get(&place) else { continue };
            let choice = *choice;
            let told = match kind {
                EventKind::Scheduled { cached_tokens } => News::Scheduled { choice, cached_tokens },
                EventKind::Token(token) => {
                    let next = events.peek().filter(|next| next.request == request);
                    let finish = match next.map(|next| next.kind) {
                        Some(EventKind::Finished(reason)) => Some(reason),
                        _ => None,
                    };
                    News::Token { choice, token, finish }
                }
                EventKind::Finished(_) => {
                    self.listeners.remove(&place);
                    continue;
                }
            };
            // Nobody listens any more: its `Generation` is being dropped and will abort it.
            let _ = news.send(told);
        }
    }

    /// The rank with the fewest requests; equal ones take turns.
    fn least_loaded(&mut self) -> usize {
        let count = self.engines.len();
        let load = |rank: usize| {
            let Load { running, waiting } = self.engines[rank % count].load();
            running + waiting
        };
        let first = self.next_rank;
        let rank = (first..first + count).min_by_key(|rank| load(*rank)).unwrap_or(0) % count;
        self.next_rank = rank + 1;
        rank
    }
}

/// The choices of one answer in the making. Dropping it aborts what is not finished.
#[derive(Debug)]
pub(crate) struct Generation {
    engines: Arc<Engines>,
    heard: mpsc::UnboundedReceiver<News>,
    open: Vec<(usize, Place)>,
}

impl Generation {
    /// The next piece of news; `None` when all choices are finished.
    pub(crate) async fn next(&mut self) -> Option<News> {
        if self.open.is_empty() {
            return None;
        }
        let news = self.heard.recv().await?;
        if let News::Token { choice, finish: Some(_), .. } = news {
            self.close(choice);
        }
        Some(news)
    }

    /// Ends a choice that turned out to be complete.
    pub(crate) fn finish(&mut self, choice: usize) {
        if let Some(place) = self.close(choice) {
            let mut state = self.engines.state();
            state.listeners.remove(&place);
            state.engines[place.rank].finish(place.request);
        }
    }

    fn close(&mut self, choice: usize) -> Option<Place> {
        let index = self.open.iter().position(|(open, _)| *open == choice)?;
        Some(self.open.swap_remove(index).1)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let mut state = self.engines.state();
        for (_, place) in self.open.drain(..) {
            state.listeners.remove(&place);
            state.engines[place.rank].abort(place.request);
        }
    }
}
