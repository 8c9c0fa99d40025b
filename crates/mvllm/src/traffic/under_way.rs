//! The requests that are under way, for whoever asks what takes so long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mvllm_core::time::Timestamp;

/// So much of a path is kept, for reports and log lines; those of vLLM have under 40 characters.
const PATH_MAX: usize = 200;

/// One request under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) id: String,
    pub(crate) begun: Timestamp,
    pub(crate) path: String,
    answering: AtomicBool,
    course: Mutex<Course>,
}

#[derive(Debug, Default, Clone)]
struct Course {
    model: Option<Arc<str>>,
    server: Option<Arc<str>>,
    attempts: u32,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Answering,
}

impl UnderWay {
    pub(super) fn new(id: String, begun: Timestamp, mut path: String) -> Self {
        if let Some((end, _)) = path.char_indices().nth(PATH_MAX) {
            path.truncate(end);
            path.push('…');
        }
        Self { id, begun, path, answering: AtomicBool::new(false), course: Mutex::default() }
    }

    pub(super) fn sent_to(&self, server: &Arc<str>, model: Option<&Arc<str>>) {
        let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        course.server = Some(Arc::clone(server));
        course.model = model.cloned();
        course.attempts += 1;
    }

    pub(super) fn is_answered(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.answering.load(Ordering::Relaxed) { Phase::Answering } else { Phase::Waiting }
    }

    /// The server and the model of the present attempt, and how many there were.
    pub(crate) fn course(&self) -> (Option<Arc<str>>, Option<Arc<str>>, u32) {
        let course = self.course.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (course.server, course.model, course.attempts)
    }
}

/// All of them, by the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct UnderWayList {
    next: AtomicU64,
    requests: Mutex<BTreeMap<u64, Arc<UnderWay>>>,
}

impl UnderWayList {
    pub(super) fn add(&self, request: Arc<UnderWay>) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, request);
        ticket
    }

    pub(super) fn remove(&self, ticket: u64) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
    }

    /// The `count` that came first.
    pub(crate) fn oldest(&self, count: usize) -> Vec<Arc<UnderWay>> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.values().take(count).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
