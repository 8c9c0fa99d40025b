//! What a request needs to know of the thread it runs on. Each data thread has a pool and a random
//! generator of its own, and waits for no lock that another holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mvllm_core::budget::RetryBudget;
use mvllm_core::fleet::Event;
use mvllm_core::health::Fault;
use mvllm_core::snapshot::ServerKey;
use mvllm_core::time::Timestamp;
use tokio::sync::{mpsc, watch};

use super::holders::Holders;
use super::kept::KeptInTotal;
use super::quarantine::{Fingerprint, Quarantine};
use super::refuse::Refused;
use crate::board::Board;
use crate::clock::Clock;
use crate::status::StatusReport;
use crate::traffic::Traffic;
use crate::upstream::Pool;

/// What the threads know together: what keeps retries and continuations from doing harm, and who
/// holds what.
#[derive(Debug, Default)]
pub(crate) struct Safeguards {
    pub(super) budget: RetryBudget,
    pub(super) quarantine: Quarantine,
    pub(super) holders: Holders,
    pub(super) kept: Arc<KeptInTotal>,
}

/// One thread's share of everything.
#[derive(Debug)]
pub(crate) struct DataThread {
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Clock,
    pub(crate) traffic: Arc<Traffic>,
    /// The latest report of all there is to see.
    pub(crate) status: watch::Receiver<Arc<StatusReport>>,
    pub(super) pool: Arc<Pool>,
    pub(super) safeguards: Arc<Safeguards>,
    evidence: mpsc::Sender<Event>,
    random: Mutex<fastrand::Rng>,
}

impl DataThread {
    pub(crate) fn new(
        board: Arc<Board>,
        clock: Clock,
        traffic: Arc<Traffic>,
        status: watch::Receiver<Arc<StatusReport>>,
        evidence: mpsc::Sender<Event>,
        safeguards: Arc<Safeguards>,
        seed: u64,
    ) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let pool = Arc::default();
        Self { board, clock, traffic, status, pool, safeguards, evidence, random }
    }

    pub(super) fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a request under which servers have gone down before.
    pub(super) fn check_quarantine(&self, path: &str, body: &[u8]) -> Result<(), Refused> {
        let quarantine = &self.safeguards.quarantine;
        if quarantine.is_empty() {
            return Ok(());
        }
        match quarantine.remaining(Fingerprint::of(path, body), self.clock.now()) {
            Some(remaining) => Err(Refused::Quarantined { secs: remaining.as_secs() + 1 }),
            None => Ok(()),
        }
    }

    /// Tells the fleet task. If it is so far behind that there is no room, more of the same will
    /// follow.
    pub(super) fn report_failure(&self, server: ServerKey, fault: Fault) {
        let _ = self.evidence.try_send(Event::RequestFailed(server, fault));
    }

    /// Tells the fleet task what it must hear.
    pub(crate) async fn tell(&self, event: Event) {
        // An error means that the program is ending.
        let _ = self.evidence.send(event).await;
    }

    pub(super) fn report_success(&self, server: ServerKey, sent_at: Timestamp) {
        let _ = self.evidence.try_send(Event::RequestSucceeded(server, sent_at));
    }
}
