//! The counters, by server and model.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mvllm_core::attempt::GiveUp;

use super::buffered::Buffered;
use super::crowd::Crowd;
use super::histogram::Histogram;
use super::under_way::UnderWayList;

/// Series are kept for ever, as Prometheus wants it, and servers and models come and go: a fleet on
/// ephemeral addresses, an adapter for each user. What comes when there are so many is counted under
/// no name. A series takes about 1 KiB, and some 100 lines of `/metrics`.
const SERIES_MAX: usize = 2_000;

/// What a series is about. Both names come from the fleet, never from a client: whoever asks for a
/// thousand models that do not exist adds one series, not a thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeriesKey {
    /// The address of the server; empty where none was reached.
    pub(crate) server: Arc<str>,
    /// The model; empty where the request names none, or none that exists.
    pub(crate) model: Arc<str>,
}

/// All the words for why a request was not sent again.
pub(crate) const GIVEN_UP: [&str; 4] = ["budget_spent", "deadly", "exhausted", "not_repeatable"];

fn given_up_word(why: GiveUp) -> &'static str {
    match why {
        GiveUp::BudgetSpent => "budget_spent",
        GiveUp::Poison => "deadly",
        GiveUp::Exhausted => "exhausted",
        GiveUp::NotRepeatable => "not_repeatable",
    }
}

/// Why mvllm ended a client's connection, where no answer could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The head of a request is longer than `max_head_bytes`, or has too many fields.
    HeadTooLarge,
    /// No request was under way, or its head did not come to an end.
    Idle,
    /// What came is not HTTP.
    Malformed,
    /// The client took nothing of what waited for it.
    Stalled,
}

/// All the words for it.
pub(crate) const CUTS: [&str; 4] = ["head_too_large", "idle", "malformed", "stalled"];

impl Cut {
    fn word(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "head_too_large",
            Self::Idle => "idle",
            Self::Malformed => "malformed",
            Self::Stalled => "stalled",
        }
    }
}

/// What came of a streamed answer whose server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// Another server went on with it.
    Resumed,
    /// All of its text was there; mvllm added what was missing of the end.
    Ended,
    /// No other server could go on with it.
    Failed,
    /// It was none that can be carried on.
    Impossible,
}

impl Continuation {
    pub(crate) const ALL: [Self; 4] = [Self::Ended, Self::Failed, Self::Impossible, Self::Resumed];

    /// For the label.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Impossible => "impossible",
        }
    }
}

/// Counters of one server and model.
#[derive(Debug, Default)]
pub(crate) struct Series {
    statuses: Mutex<BTreeMap<u16, u64>>,
    pub(crate) time_to_first_token: Histogram,
    pub(crate) inter_chunk: Histogram,
    pub(crate) duration: Histogram,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

/// All that was counted since the start, and all that is under way.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    series: RwLock<HashMap<SeriesKey, Arc<Series>>>,
    failed_attempts: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    given_up: Mutex<BTreeMap<&'static str, u64>>,
    cuts: Mutex<BTreeMap<&'static str, u64>>,
    /// The connections of clients.
    pub(crate) crowd: Arc<Crowd>,
    /// What request bodies hold of the memory.
    pub(crate) bodies: Arc<Buffered>,
    continuations: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) under_way: UnderWayList,
}

impl Series {
    pub(super) fn count_status(&self, status: u16) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        *statuses.entry(status).or_default() += 1;
    }

    /// Requests by the status that the client saw.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, u64> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Traffic {
    /// The series of `key`, which is there from its first mention on.
    pub(crate) fn series(&self, key: &SeriesKey) -> Arc<Series> {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(key) {
            return Arc::clone(series);
        }
        let is_full = known.len() >= SERIES_MAX;
        drop(known);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let key = if is_full { SeriesKey::default() } else { key.clone() };
        Arc::clone(series.entry(key).or_default())
    }

    /// All series, in the order of their names.
    pub(crate) fn all(&self) -> BTreeMap<SeriesKey, Arc<Series>> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|(key, series)| (key.clone(), Arc::clone(series))).collect()
    }

    /// An attempt failed at `server`.
    pub(crate) fn count_failed_attempt(&self, server: &Arc<str>, cause: &'static str) {
        let mut failed = self.failed_attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let server = if failed.len() < SERIES_MAX { Arc::clone(server) } else { Arc::default() };
        *failed.entry((server, cause)).or_default() += 1;
    }

    /// Failed attempts by server and cause.
    pub(crate) fn failed_attempts(&self) -> BTreeMap<(Arc<str>, &'static str), u64> {
        self.failed_attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// mvllm itself said no.
    pub(crate) fn count_refusal(&self, reason: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(reason).or_default() += 1;
    }

    /// Refusals by reason.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request whose attempt failed is not sent again.
    pub(crate) fn count_given_up(&self, why: GiveUp) {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        *given_up.entry(given_up_word(why)).or_default() += 1;
    }

    /// Requests that were not sent again after a failed attempt, by reason.
    pub(crate) fn given_up(&self) -> BTreeMap<&'static str, u64> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client's connection is ended.
    pub(crate) fn count_cut(&self, why: Cut) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        *cuts.entry(why.word()).or_default() += 1;
    }

    /// Connections that were ended, by reason.
    pub(crate) fn cuts(&self) -> BTreeMap<&'static str, u64> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server of a streamed answer died, and this came of it.
    pub(crate) fn count_continuation(&self, outcome: Continuation) {
        let mut counts = self.continuations.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(outcome.word()).or_default() += 1;
    }

    /// Streamed answers whose server died, by what came of it.
    pub(crate) fn continuations(&self) -> BTreeMap<&'static str, u64> {
        self.continuations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count_hedge(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_models_that_come_and_go_do_not_grow_the_account_for_ever() {
        let traffic = Traffic::default();
        for nth in 0..2 * SERIES_MAX {
            let server: Arc<str> = format!("http://10.0.0.{nth}").into();
            traffic.count_failed_attempt(&server, "silent");
            let key = SeriesKey { server, model: Arc::default() };
            traffic.series(&key).count_status(200);
            if nth == 0 {
                assert!(Arc::ptr_eq(&traffic.series(&key), &traffic.series(&key)));
            }
        }
        assert_eq!(traffic.all().len(), SERIES_MAX + 1);
        let nameless = traffic.series(&SeriesKey::default()).statuses();
        assert_eq!(nameless[&200], SERIES_MAX as u64);
        assert_eq!(traffic.failed_attempts().len(), SERIES_MAX + 1);
        let failed: u64 = traffic.failed_attempts().values().sum();
        assert_eq!(failed, 2 * SERIES_MAX as u64);
    }
}
