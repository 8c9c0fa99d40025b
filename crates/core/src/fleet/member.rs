//! One server of the fleet: its health, and the view of it that readers see.

use alloc::sync::Arc;
use core::time::Duration;

use crate::health::{Check, Fault, Health, HealthRecord, HealthRules, ProgressWatch};
use crate::ledger::Ledger;
use crate::load::{Others, Reading};
use crate::pace::{Pace, PaceRecord};
use crate::snapshot::{Admission, ServerKey, ServerSpec, ServerView};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) health: HealthRecord,
    pub(super) progress: ProgressWatch,
    pub(super) pace: PaceRecord,
    pub(super) view: Arc<ServerView>,
}

impl Member {
    pub(super) fn new(
        key: ServerKey,
        spec: ServerSpec,
        rules: &HealthRules,
        now: Timestamp,
    ) -> Self {
        let health = HealthRecord::new(rules);
        let models = spec.declared_models.clone().filter(|_| !rules.active_checks);
        let view = ServerView {
            key,
            health: health.state(),
            figures: health.figures(),
            handicap: health.handicap(),
            admission: Admission::Open,
            models_updated: models.as_ref().map(|_| now),
            models,
            reading: None,
            others: Others::default(),
            pace: Pace::default(),
            ledger: Arc::new(Ledger::default()),
            spec: Arc::new(spec),
        };
        Self {
            health,
            progress: ProgressWatch::default(),
            pace: PaceRecord::default(),
            view: Arc::new(view),
        }
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut ServerView)) {
        edit(Arc::make_mut(&mut self.view));
    }

    /// Kept over a reload: health, learnt models, ledger and key stay.
    pub(super) fn respecified(mut self, spec: ServerSpec) -> Self {
        if *self.view.spec != spec {
            self.edit(|view| view.spec = Arc::new(spec));
        }
        self
    }

    /// Brings the view up to date with the record.
    pub(super) fn show_health(&mut self) {
        let (health, figures, handicap) =
            (self.health.state(), self.health.figures(), self.health.handicap());
        let shown = (self.view.health, self.view.figures, self.view.handicap);
        if (health, figures, handicap) != shown {
            self.edit(|view| {
                (view.health, view.figures, view.handicap) = (health, figures, handicap);
            });
        }
    }

    /// Shows what its first tokens have told of its pace, where an unknown server is taken for
    /// `prior`.
    pub(super) fn show_pace(&mut self, prior: Pace) {
        self.pace.collect(&self.view.ledger.pace_tally);
        let pace = self.pace.pace(prior);
        if pace != self.view.pace {
            self.edit(|view| view.pace = pace);
        }
    }

    /// Whether the reading comes from another process than the one before.
    pub(super) fn take_reading(&mut self, reading: Reading) -> bool {
        let earlier = self.view.reading;
        let reading = earlier.map_or(reading, |earlier| reading.after(&earlier));
        self.edit(|view| {
            view.others = view.others.after(&reading.sample);
            view.reading = Some(reading);
        });
        earlier.is_some_and(|earlier| reading.is_of_a_successor(&earlier))
    }

    /// Whether it is out for its silence, or has been under test for longer than a well server's
    /// answer to a probe takes.
    pub(super) fn is_silent(&self, now: Timestamp) -> bool {
        const ANSWER: Duration = Duration::from_secs(2);
        match self.view.health {
            Health::UnderTest { since } => now.since(since) >= ANSWER,
            health => health.rests_on_silence(),
        }
    }

    pub(super) fn quiet_for(&mut self, now: Timestamp) -> Duration {
        let ledger = &self.view.ledger;
        self.progress.quiet_for(ledger.in_flight(), ledger.progress_at(), now)
    }

    /// A busy server may be too busy to answer a check well, or in time. As long as its tokens flow
    /// it is well, whatever the check says, unless that is that its engine is dead. `None`: the
    /// check says nothing at all.
    pub(super) fn in_the_light_of_progress(
        &self,
        check: Check,
        rules: &HealthRules,
        now: Timestamp,
    ) -> Option<Check> {
        /// Progress is noted with a resolution of a quarter of a second, and scraped twice a second.
        const LEEWAY: Duration = Duration::from_secs(1);
        let progress_at = self.view.ledger.progress_at();
        let progresses = progress_at > Timestamp::ZERO
            && now.since(progress_at) <= check.took.saturating_add(LEEWAY);
        let well = Check { took: check.took.min(rules.max_response_time), found: Ok(()) };
        match check.found {
            _ if !progresses => Some(check),
            Ok(()) => Some(well),
            Err(fault) if fault.is_silence() => Some(well),
            Err(Fault::EngineDead) => Some(check),
            Err(_) => (!self.view.health.is_routable()).then_some(check),
        }
    }
}
