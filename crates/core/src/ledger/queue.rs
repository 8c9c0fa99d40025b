//! The prompts that were sent to a server and have not led to a first token yet: how much work they
//! are, and how long it takes the server.
//!
//! vLLM admits requests in the order of their arrival (`v1/core/sched/scheduler.py`). So the first
//! token of one tells that all sent before it are through as well, and the time between two such
//! moments is what the work between them has cost.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::time::Timestamp;

/// Requests before their first token that are told apart. Of a longer queue the oldest count as
/// done; vLLM's batch is at most 1,024 requests, and who queues so many more has no choice to make.
const PLACES: usize = 512;

/// A request is not taken to be through before its first token, however long that takes.
const NEARLY: f64 = 0.95;

/// Waiting prompts of one server. Whoever changes it does so without waiting for another; each
/// place is given back exactly once, by whoever takes the work out of it.
#[derive(Debug)]
pub(super) struct PrefillQueue {
    /// In turns: the low half of the turn, and below it the work, 0 once the place is empty.
    places: [AtomicU64; PLACES],
    next: AtomicU64,
    /// The earliest turn that has not had a first token.
    front: AtomicU64,
    work: AtomicU64,
    requests: AtomicU32,
    /// Since when the server can have been at work on the first of the queue.
    begun_nanos: AtomicU64,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(u64);

/// What a first token tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefilled {
    /// The work of all that are through since the last one.
    pub(super) work: u64,
    /// What it took.
    pub(super) took: Duration,
}

impl Default for PrefillQueue {
    fn default() -> Self {
        Self {
            places: [const { AtomicU64::new(0) }; PLACES],
            next: AtomicU64::new(0),
            front: AtomicU64::new(0),
            work: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            begun_nanos: AtomicU64::new(0),
        }
    }
}

impl PrefillQueue {
    pub(super) fn enter(&self, work: u32, now: Timestamp) -> Turn {
        let work = work.max(1);
        let turn = self.next.fetch_add(1, Ordering::AcqRel);
        if self.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.begun_nanos.store(now.as_nanos(), Ordering::Relaxed);
        }
        self.work.fetch_add(u64::from(work), Ordering::AcqRel);
        let crowded_out = self.place(turn).swap(occupied(turn, work), Ordering::AcqRel);
        self.release(crowded_out);
        Turn(turn)
    }

    /// `None` if a later request's first token came before.
    pub(super) fn first_token(&self, Turn(turn): Turn, now: Timestamp) -> Option<Prefilled> {
        let front = self.front.fetch_max(turn + 1, Ordering::AcqRel);
        if front > turn {
            self.leave(Turn(turn));
            return None;
        }
        let earliest = front.max((turn + 1).saturating_sub(PLACES as u64));
        let work = (earliest..=turn).map(|turn| self.leave(Turn(turn))).sum();
        let begun = self.begun_nanos.swap(now.as_nanos(), Ordering::AcqRel);
        Some(Prefilled { work, took: now.since(Timestamp::from_nanos(begun)) })
    }

    /// Gives the place back, if that has not happened yet; answers the work that was in it.
    pub(super) fn leave(&self, Turn(turn): Turn) -> u64 {
        let place = self.place(turn);
        let found = place.load(Ordering::Acquire);
        if found == 0 || (found >> 32) as u32 != turn as u32 {
            return 0;
        }
        match place.compare_exchange(found, 0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(found) => self.release(found),
            Err(_) => 0,
        }
    }

    /// Requests that ever joined.
    pub(super) fn taken(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Requests without a first token.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Acquire)
    }

    /// Work ahead of a request that would join now, at so many seconds for a unit of work.
    pub(super) fn seconds_ahead(&self, pace: f64, now: Timestamp) -> f64 {
        let all = self.work.load(Ordering::Acquire) as f64 * pace;
        if all == 0.0 {
            return 0.0;
        }
        let begun = Timestamp::from_nanos(self.begun_nanos.load(Ordering::Acquire));
        let first = f64::from(self.first_work()) * pace;
        (all - now.since(begun).as_secs_f64().min(first * NEARLY)).max(0.0)
    }

    /// The work of the first that waits.
    fn first_work(&self) -> u32 {
        let turns = self.front.load(Ordering::Acquire)..self.next.load(Ordering::Acquire);
        let mut places = turns.take(PLACES).map(|turn| self.place(turn).load(Ordering::Acquire));
        places.find(|place| *place != 0).map_or(0, |place| place as u32)
    }

    fn place(&self, turn: u64) -> &AtomicU64 {
        &self.places[turn as usize % PLACES]
    }

    fn release(&self, place: u64) -> u64 {
        let work = u64::from(place as u32);
        if work > 0 {
            self.work.fetch_sub(work, Ordering::AcqRel);
            self.requests.fetch_sub(1, Ordering::AcqRel);
        }
        work
    }
}

fn occupied(turn: u64, work: u32) -> u64 {
    u64::from(turn as u32) << 32 | u64::from(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_millis(millis))
    }

    /// A millisecond for a unit of work.
    const PACE: f64 = 1e-3;

    fn ahead(queue: &PrefillQueue, millis: u64) -> f64 {
        (queue.seconds_ahead(PACE, at(millis)) * 1e3).round()
    }

    #[test]
    fn the_first_of_the_queue_is_worked_on_and_the_others_wait() {
        let queue = PrefillQueue::default();
        queue.enter(1_000, at(0));
        queue.enter(500, at(100));
        assert_eq!(ahead(&queue, 100), 1_400.0);
        assert_eq!(ahead(&queue, 600), 900.0);
        assert_eq!(ahead(&queue, 60_000), 550.0, "what hangs does not count as done");
    }

    #[test]
    fn a_first_token_tells_that_all_before_it_are_through_and_what_they_took() {
        let queue = PrefillQueue::default();
        let first = queue.enter(1_000, at(0));
        let second = queue.enter(500, at(0));
        queue.enter(300, at(0));
        let prefilled = queue.first_token(second, at(2_000)).unwrap();
        assert_eq!(prefilled, Prefilled { work: 1_500, took: Duration::from_secs(2) });
        assert_eq!(queue.requests(), 1);
        assert_eq!(ahead(&queue, 2_100), 200.0);
        assert_eq!(queue.first_token(first, at(2_200)), None, "it brings no news");
        assert_eq!(ahead(&queue, 2_200), 100.0);
    }

    #[test]
    fn an_idle_server_begins_when_something_comes() {
        let queue = PrefillQueue::default();
        let first = queue.enter(10, at(0));
        queue.first_token(first, at(20)).unwrap();
        let second = queue.enter(10, at(9_000));
        let prefilled = queue.first_token(second, at(9_015)).unwrap();
        assert_eq!(prefilled, Prefilled { work: 10, took: Duration::from_millis(15) });
    }

    #[test]
    fn a_request_that_is_given_up_takes_its_work_with_it() {
        let queue = PrefillQueue::default();
        let (first, second) = (queue.enter(1_000, at(0)), queue.enter(500, at(0)));
        assert_eq!(queue.leave(first), 1_000);
        assert_eq!(queue.leave(first), 0, "once only");
        assert_eq!(ahead(&queue, 0), 500.0);
        queue.leave(second);
        assert_eq!((queue.requests(), ahead(&queue, 0)), (0, 0.0));
    }

    #[test]
    fn of_an_endless_queue_the_oldest_count_as_done() {
        let queue = PrefillQueue::default();
        let turns: Vec<_> = (0..PLACES + 3).map(|_| queue.enter(1, at(0))).collect();
        assert_eq!(queue.requests(), PLACES as u32);
        assert_eq!(queue.leave(turns[0]), 0, "its place belongs to another");
        assert_eq!(queue.first_token(turns[PLACES + 2], at(1)).unwrap().work, PLACES as u64);
        assert_eq!((queue.requests(), ahead(&queue, 1)), (0, 0.0));
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_requests_their_work_is_given_back_exactly_once(
            steps in proptest::collection::vec((0u8..3, 1u32..9_000, any::<prop::sample::Index>()), 1..200),
        ) {
            let queue = PrefillQueue::default();
            let mut waiting: Vec<(Turn, u32)> = Vec::new();
            for (nth, (kind, work, which)) in steps.into_iter().enumerate() {
                let now = at(nth as u64);
                if kind == 0 || waiting.is_empty() {
                    waiting.push((queue.enter(work, now), work));
                } else {
                    let nth = which.index(waiting.len());
                    let (turn, work) = waiting[nth];
                    if kind == 1 {
                        prop_assert_eq!(queue.leave(turn), u64::from(work));
                        waiting.remove(nth);
                    } else {
                        let through: u32 = waiting.drain(..=nth).map(|(_, work)| work).sum();
                        let prefilled = queue.first_token(turn, now).expect("it is news");
                        prop_assert_eq!(prefilled.work, u64::from(through));
                    }
                }
                prop_assert_eq!(queue.requests() as usize, waiting.len());
                let left: u32 = waiting.iter().map(|(_, work)| work).sum();
                prop_assert_eq!(queue.work.load(Ordering::Relaxed), u64::from(left));
                prop_assert!(queue.seconds_ahead(PACE, now) <= f64::from(left) * PACE + 1e-9);
            }
        }

        #[test]
        fn threads_that_enter_and_leave_at_once_lose_nothing(works in proptest::collection::vec(1u32..100, 8..60)) {
            let queue = PrefillQueue::default();
            std::thread::scope(|scope| {
                for share in works.chunks(works.len().div_ceil(3)) {
                    let queue = &queue;
                    scope.spawn(move || {
                        for (nth, work) in share.iter().enumerate() {
                            let turn = queue.enter(*work, at(nth as u64));
                            if nth % 2 == 0 {
                                queue.first_token(turn, at(nth as u64));
                            } else {
                                queue.leave(turn);
                            }
                        }
                    });
                }
            });
            prop_assert_eq!(queue.requests(), 0);
            prop_assert_eq!(queue.work.load(Ordering::Relaxed), 0);
        }
    }
}
