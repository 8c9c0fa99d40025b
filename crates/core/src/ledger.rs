//! What this router itself knows of a server's load, exactly and at once: how many requests it has
//! there now and what work they are, when the server was last seen to make progress, and whether it
//! said that it is full.

mod queue;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::pace::{OVERHEAD, Pace, PaceTally};
use crate::ranks::Ranks;
use crate::time::Timestamp;
use queue::{PrefillQueue, Turn};

/// Progress is noted at most this often: the streams of a busy server would otherwise fight for
/// one cache line with every chunk, and no deadline is finer than a second.
const PROGRESS_RESOLUTION: Duration = Duration::from_millis(250);

/// The account of one server, shared by all who send to it. It outlives reloads, and it outlives
/// the server's removal for as long as a stream is open.
#[derive(Debug, Default)]
pub struct Ledger {
    in_flight: AtomicU32,
    progress_nanos: AtomicU64,
    full_until_nanos: AtomicU64,
    on_trial: AtomicBool,
    /// The ranks behind the server's address.
    pub ranks: Ranks,
    queue: PrefillQueue,
    resident_tokens: AtomicU64,
    pub(crate) pace_tally: PaceTally,
}

/// What a request is to the server that it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Those of them that are not in the server's KV cache, as far as known.
    pub uncached: u32,
}

impl Work {
    /// What its prefill costs, in the units of a [`Pace`].
    pub fn prefill(self) -> u32 {
        self.uncached.saturating_add(OVERHEAD)
    }
}

impl Ledger {
    /// Requests that hold a reservation now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Takes a place whatever the count is.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Reservation::of(self)
    }

    /// Takes the one place of a server on probation. `None` while another request has it.
    pub fn reserve_trial(self: &Arc<Self>) -> Option<Reservation> {
        let was_taken = self.on_trial.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| self.reserve().for_trial())
    }

    /// Whether a request has the place of [`Ledger::reserve_trial`].
    pub fn is_on_trial(&self) -> bool {
        self.on_trial.load(Ordering::Acquire)
    }

    /// Takes a place if the count still is what the decision was based on. `None` means that
    /// somebody else decided in between: decide again.
    pub fn reserve_if_still(self: &Arc<Self>, seen: u32) -> Option<Reservation> {
        self.in_flight
            .compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Reservation::of(self))
    }

    /// Requests that were ever sent there.
    pub fn taken(&self) -> u64 {
        self.queue.taken()
    }

    /// Requests that were sent there and have had no first token.
    pub fn prefilling(&self) -> u32 {
        self.queue.requests()
    }

    /// How long the server will be busy with the prompts that it has from this router.
    pub fn seconds_ahead(&self, pace: Pace, now: Timestamp) -> f64 {
        self.queue.seconds_ahead(pace.seconds_per_unit(), now)
    }

    /// Tokens of the prompts of all that is in flight: they are in the KV cache, or will be.
    pub fn resident_tokens(&self) -> u64 {
        self.resident_tokens.load(Ordering::Acquire)
    }

    /// Notes that the server did something that a hung one does not: bytes of a stream, or token
    /// counters that moved.
    pub fn note_progress(&self, now: Timestamp) {
        if now.since(self.progress_at()) >= PROGRESS_RESOLUTION {
            // Not a store: another thread may have noted a later moment since that look.
            self.progress_nanos.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When the server was last seen to make progress; the start of the process if never.
    pub fn progress_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.progress_nanos.load(Ordering::Relaxed))
    }

    /// Notes that the server refused a request because it is full. Until then others come first.
    pub fn note_full(&self, until: Timestamp) {
        self.full_until_nanos.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Whether the server has said that it is full, and that is to be believed still.
    pub fn is_full(&self, now: Timestamp) -> bool {
        now.as_nanos() < self.full_until_nanos.load(Ordering::Relaxed)
    }
}

/// One request's place at a server. Given back when dropped, on whichever path that happens: there
/// is no other way to give one back, so the count can neither leak nor go below zero.
#[derive(Debug)]
#[must_use = "a reservation that is dropped at once reserves nothing"]
pub struct Reservation {
    ledger: Arc<Ledger>,
    is_trial: bool,
    rank: Option<u32>,
    stake: Option<Stake>,
}

/// What a reservation holds besides its place.
#[derive(Debug)]
struct Stake {
    work: Work,
    turn: Option<Turn>,
    expected: Pace,
}

impl Reservation {
    fn of(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger), is_trial: false, rank: None, stake: None }
    }

    /// Says what work comes with the request, to a server that is believed to have this pace.
    pub(crate) fn with_work(mut self, work: Work, expected: Pace, now: Timestamp) -> Self {
        self.ledger.resident_tokens.fetch_add(u64::from(work.prompt), Ordering::AcqRel);
        let turn = Some(self.ledger.queue.enter(work.prefill(), now));
        self.stake = Some(Stake { work, turn, expected });
        self
    }

    /// Notes that the first token has come: the prompt is no longer ahead of others.
    pub fn first_token(&mut self, now: Timestamp) {
        let Some(stake) = &mut self.stake else { return };
        let Some(turn) = stake.turn.take() else { return };
        if let Some(prefilled) = self.ledger.queue.first_token(turn, now) {
            self.ledger.pace_tally.add(prefilled.work, prefilled.took, stake.expected);
        }
    }

    /// The account in which this place is held.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Takes a place at one of the server's ranks as well, if there are several.
    pub(crate) fn at_some_rank(mut self, random: &mut fastrand::Rng) -> Self {
        if self.rank.is_none() {
            self.rank = self.ledger.ranks.take(random);
        }
        self
    }

    /// The rank at which the place is held, if that was for us to say.
    pub fn rank(&self) -> Option<u32> {
        self.rank
    }

    fn for_trial(mut self) -> Self {
        self.is_trial = true;
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_trial {
            self.ledger.on_trial.store(false, Ordering::Release);
        }
        if let Some(rank) = self.rank {
            self.ledger.ranks.give_back(rank);
        }
        if let Some(stake) = &self.stake {
            if let Some(turn) = stake.turn {
                self.ledger.queue.leave(turn);
            }
            let tokens = u64::from(stake.work.prompt);
            self.ledger.resident_tokens.fetch_sub(tokens, Ordering::AcqRel);
        }
        self.ledger.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::EngineLoad;
    use alloc::vec::Vec;

    #[test]
    fn every_place_comes_back() {
        let ledger = Arc::new(Ledger::default());
        let held: Vec<_> = (0..5).map(|_| ledger.reserve()).collect();
        assert_eq!(ledger.in_flight(), 5);
        drop(held);
        assert_eq!(ledger.in_flight(), 0);
    }

    #[test]
    fn a_decision_on_an_old_count_gets_no_place() {
        let ledger = Arc::new(Ledger::default());
        let first = ledger.reserve_if_still(0);
        assert!(first.is_some());
        assert!(ledger.reserve_if_still(0).is_none());
        assert!(ledger.reserve_if_still(1).is_some());
    }

    #[test]
    fn threads_that_race_for_one_place_share_it_out_exactly() {
        let ledger = Arc::new(Ledger::default());
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| usize::from(ledger.reserve_if_still(0).is_some_and(keep))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
    }

    fn keep(reservation: Reservation) -> bool {
        core::mem::forget(reservation);
        true
    }

    #[test]
    fn a_trial_has_one_place_which_comes_back_whatever_becomes_of_its_request() {
        let ledger = Arc::new(Ledger::default());
        for _ in 0..3 {
            let trial = ledger.reserve_trial().expect("the place is free");
            assert!(ledger.is_on_trial());
            assert!(ledger.reserve_trial().is_none());
            drop(ledger.reserve());
            assert!(ledger.is_on_trial(), "it is the trial's place, and nobody else's");
            assert_eq!(ledger.in_flight(), 1);
            drop(trial);
            assert!(!ledger.is_on_trial());
            assert_eq!(ledger.in_flight(), 0);
        }
    }

    #[test]
    fn a_place_at_a_rank_comes_back_with_the_reservation() {
        let ledger = Arc::new(Ledger::default());
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(ledger.reserve().at_some_rank(&mut random).rank(), None);
        let engine = |engine| EngineLoad { engine, ..EngineLoad::default() };
        ledger.ranks.note(&[engine(0), engine(1)], &ledger.ranks.own());
        let mut both = || {
            let mut held =
                [ledger.reserve(), ledger.reserve()].map(|r| r.at_some_rank(&mut random));
            held.sort_unstable_by_key(Reservation::rank);
            held.each_ref().map(Reservation::rank)
        };
        assert_eq!(both(), [Some(0), Some(1)]);
        assert_eq!(both(), [Some(0), Some(1)], "none was still taken");
    }

    #[test]
    fn progress_is_noted_coarsely_and_never_goes_back() {
        let ledger = Ledger::default();
        let at = |millis| Timestamp::after_start(Duration::from_millis(millis));
        ledger.note_progress(at(1_000));
        ledger.note_progress(at(1_100));
        assert_eq!(ledger.progress_at(), at(1_000));
        ledger.note_progress(at(1_300));
        ledger.note_progress(at(900));
        assert_eq!(ledger.progress_at(), at(1_300));
    }
}
