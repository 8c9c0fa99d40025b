//! The data-parallel ranks behind one address: engines with a queue and a KV cache each. vLLM takes
//! a request for a certain one if it is asked to (`X-data-parallel-rank`), and else chooses itself,
//! by counts that every one of its HTTP processes has for itself.
//!
//! Ranks are chosen by what each was last seen to do, corrected by this router's own requests, as
//! servers are.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::exposition::{ENGINES_MAX, EngineLoad};
use crate::load::{Load, Sample};
use crate::time::Timestamp;

/// What is known of a server's ranks. Shared by all who send to it; the figures of one rank may be
/// of two scrapes for an instant, which costs one choice some accuracy.
#[derive(Debug)]
pub struct Ranks {
    ranks: [Rank; ENGINES_MAX],
    /// How many there are; 0 or 1 if there is nothing to choose.
    count: AtomicU32,
    refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Rank {
    own: AtomicU32,
    running: AtomicU32,
    waiting: AtomicU32,
    own_when_scraped: AtomicU32,
}

/// Own requests at each rank at one moment.
#[derive(Debug, Clone, Copy)]
pub struct OwnAtRanks([u32; ENGINES_MAX]);

impl Default for Ranks {
    fn default() -> Self {
        Self {
            ranks: core::array::from_fn(|_| Rank::default()),
            count: AtomicU32::new(0),
            refused: AtomicBool::new(false),
        }
    }
}

impl Ranks {
    /// Own requests now: for [`Self::note`], to be taken when the scrape is sent off.
    pub fn own(&self) -> OwnAtRanks {
        OwnAtRanks(core::array::from_fn(|at| self.ranks[at].own.load(Ordering::Relaxed)))
    }

    /// Takes in what a scrape said of each rank.
    ///
    /// The header counts ranks from 0, and so does the label if one process has them all. Where
    /// several machines share the ranks of one deployment, the label counts through and the header
    /// does not (vllm/v1/engine/input_processor.py, `local_engines_only`): hands off these.
    pub fn note(&self, engines: &[EngineLoad], own: &OwnAtRanks) {
        let labels_are_ranks = (0..).zip(engines).all(|(nth, engine)| engine.engine == nth);
        let count = if labels_are_ranks { engines.len() } else { 0 };
        for ((rank, engine), own) in self.ranks.iter().zip(engines).zip(own.0) {
            let whole = |count: Option<u64>| count.unwrap_or(0).try_into().unwrap_or(u32::MAX);
            rank.running.store(whole(engine.running), Ordering::Relaxed);
            rank.waiting.store(whole(engine.waiting), Ordering::Relaxed);
            rank.own_when_scraped.store(own, Ordering::Relaxed);
        }
        self.count.store(count as u32, Ordering::Release);
    }

    /// Notes that the server takes no such wishes: it is not asked again.
    pub fn note_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Takes a place at the least loaded rank, if there are several to choose from.
    pub(crate) fn take(&self, random: &mut fastrand::Rng) -> Option<u32> {
        let count = self.count.load(Ordering::Acquire) as usize;
        if count < 2 || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        // From a random rank on, so that equal ones are taken equally often.
        let first = random.usize(..count);
        let around = (first..count).chain(0..first);
        let least =
            around.min_by(|&a, &b| self.ranks[a].score().total_cmp(&self.ranks[b].score()))?;
        self.ranks[least].own.fetch_add(1, Ordering::Relaxed);
        Some(least as u32)
    }

    /// Gives the place of [`Self::take`] back.
    pub(crate) fn give_back(&self, rank: u32) {
        self.ranks[rank as usize].own.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Rank {
    /// As mvllm's score of a server, but that all ranks have one capacity. A scrape that is too old
    /// to say anything of a server is as old for all of its ranks.
    fn score(&self) -> f64 {
        let read = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let sample = Sample {
            sent_at: Timestamp::ZERO,
            own_in_flight: read(&self.own_when_scraped),
            running: read(&self.running).into(),
            waiting: read(&self.waiting).into(),
            kv_cache_usage: 0.0,
        };
        let load = Load::estimate(Some(&sample), read(&self.own), Timestamp::ZERO);
        load.running + load.waiting * 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn engines(loads: &[(u64, u64)]) -> Vec<EngineLoad> {
        let engine = |(engine, &(running, waiting))| EngineLoad {
            engine,
            running: Some(running),
            waiting: Some(waiting),
        };
        (0..).zip(loads).map(engine).collect()
    }

    fn ranks(loads: &[(u64, u64)]) -> Ranks {
        let ranks = Ranks::default();
        ranks.note(&engines(loads), &ranks.own());
        ranks
    }

    fn taken(ranks: &Ranks, times: usize) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut taken: Vec<_> = (0..times).filter_map(|_| ranks.take(&mut random)).collect();
        taken.sort_unstable();
        taken
    }

    #[test]
    fn one_rank_is_no_choice() {
        assert!(taken(&Ranks::default(), 1).is_empty());
        assert!(taken(&ranks(&[(0, 0)]), 1).is_empty());
    }

    #[test]
    fn the_least_loaded_rank_is_chosen_and_own_requests_count_at_once() {
        assert_eq!(taken(&ranks(&[(3, 0), (1, 0), (4, 9)]), 4), [0, 1, 1, 1]);
        assert_eq!(taken(&ranks(&[(0, 0), (0, 0), (0, 0)]), 6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(taken(&ranks(&[(2, 3), (3, 0)]), 1), [1], "waiting counts half");
    }

    #[test]
    fn a_scrape_that_has_seen_our_requests_does_not_count_them_twice() {
        let ranks = ranks(&[(0, 0), (0, 0)]);
        let mut random = fastrand::Rng::with_seed(1);
        let first = ranks.take(&mut random).unwrap();
        ranks.note(&engines(&[(1, 0), (1, 0)]), &ranks.own());
        ranks.give_back(first);
        assert_eq!(taken(&ranks, 1), [first], "the other one is that of somebody else");
    }

    #[test]
    fn ranks_that_the_header_cannot_name_are_left_alone() {
        let ranks = Ranks::default();
        let mut engines = engines(&[(0, 0), (0, 0)]);
        engines.iter_mut().for_each(|engine| engine.engine += 2);
        ranks.note(&engines, &ranks.own());
        assert!(taken(&ranks, 1).is_empty());
    }

    #[test]
    fn a_server_that_refused_once_is_not_asked_again() {
        let ranks = ranks(&[(0, 0), (0, 0)]);
        ranks.note_refused();
        assert!(taken(&ranks, 1).is_empty());
    }
}
