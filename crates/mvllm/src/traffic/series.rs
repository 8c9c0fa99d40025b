//! The counters, by server and model.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mvllm_core::attempt::GiveUp;

use super::histogram::Histogram;
use super::under_way::UnderWayList;

/// What a series is about. Both names come from the fleet, never from a client: whoever asks for a
/// thousand models that do not exist adds one series, not a thousand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub(crate) connections: AtomicU64,
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
        drop(known);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(series.entry(key.clone()).or_default())
    }

    /// All series, in the order of their names.
    pub(crate) fn all(&self) -> BTreeMap<SeriesKey, Arc<Series>> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.iter().map(|(key, series)| (key.clone(), Arc::clone(series))).collect()
    }

    /// An attempt failed at `server`.
    pub(crate) fn count_failed_attempt(&self, server: &Arc<str>, cause: &'static str) {
        let mut failed = self.failed_attempts.lock().unwrap_or_else(PoisonError::into_inner);
        *failed.entry((Arc::clone(server), cause)).or_default() += 1;
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

    pub(crate) fn count_hedge(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
