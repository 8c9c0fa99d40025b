//! The fleet: what is known of every server, changed by events, read through snapshots.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::health::{Check, Fault, Health, HealthRecord, HealthRules};
use crate::ledger::Ledger;
use crate::load::Reading;
use crate::snapshot::{Admission, ModelTable, Models, ServerKey, ServerSpec, ServerView, Snapshot};
use crate::time::Timestamp;

/// Something that was learnt about the fleet.
#[derive(Debug)]
pub enum Event {
    /// The operator's word, at start or by a reload: exactly these servers, in this order.
    Configured(Vec<ServerSpec>, HealthRules),
    /// An active check ended.
    Checked(ServerKey, Check),
    /// A scrape brought load figures.
    Scraped(ServerKey, Reading),
    /// Nobody accepts connections where the metrics should be.
    ScrapeRefused(ServerKey),
    /// The server listed its models.
    ModelsLearnt(ServerKey, Models),
    /// A request failed by the server's fault.
    RequestFailed(ServerKey, Fault),
    /// A request was answered by a server under suspicion.
    RequestSucceeded(ServerKey),
    /// The operator lets the servers of this address have new requests, or no more.
    Admission(Arc<str>, Admission),
    /// Time passed.
    Tick,
}

/// What an event changed, for those who keep a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A server joined.
    Added(ServerKey, Arc<str>),
    /// A server left; streams that it has open go on.
    Removed(ServerKey, Arc<str>),
    /// The state of a server's health changed.
    Health {
        /// The server's address.
        url: Arc<str>,
        /// Before.
        from: Health,
        /// After.
        to: Health,
    },
    /// The operator's word on a server changed.
    Admission(Arc<str>, Admission),
    /// A server serves other models than it did.
    Models(Arc<str>, Models),
}

/// The fleet. One owner applies events in order; everybody else reads a [`Snapshot`].
#[derive(Debug)]
pub struct Fleet {
    rules: HealthRules,
    members: Vec<Member>,
    models: Arc<ModelTable>,
    met: u64,
}

#[derive(Debug)]
struct Member {
    health: HealthRecord,
    view: Arc<ServerView>,
}

impl Fleet {
    /// A fleet without servers.
    pub fn new(rules: HealthRules) -> Self {
        Self { rules, members: Vec::new(), models: Arc::default(), met: 0 }
    }

    /// Takes in an event. Events about servers that have left are no longer of interest.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Change> {
        match event {
            Event::Configured(specs, rules) => self.configure(specs, rules, now),
            Event::Checked(key, check) => self.checked(key, check, now),
            Event::Scraped(key, reading) => self.scraped(key, reading),
            Event::ModelsLearnt(key, models) => self.models_learnt(key, models, now),
            Event::ScrapeRefused(key) => self.request_failed(key, Fault::Unreachable, now),
            Event::RequestFailed(key, fault) => self.request_failed(key, fault, now),
            Event::RequestSucceeded(key) => {
                self.change_health(key, |health, _| health.request_succeeded())
            }
            Event::Admission(url, admission) => self.admit(&url, admission),
            Event::Tick => self.tick(now),
        }
    }

    /// The fleet as it stands.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            servers: self.members.iter().map(|member| Arc::clone(&member.view)).collect(),
            models: Arc::clone(&self.models),
        }
    }

    fn configure(
        &mut self,
        specs: Vec<ServerSpec>,
        rules: HealthRules,
        now: Timestamp,
    ) -> Vec<Change> {
        self.rules = rules;
        let mut former = core::mem::take(&mut self.members);
        let mut changes = Vec::new();
        for spec in specs {
            // Of several entries with one address, the first old one meets the first new one.
            let known = former.iter().position(|member| member.view.spec.url == spec.url);
            let member = match known {
                Some(at) => former.remove(at).respecified(spec),
                None => self.newcomer(spec, now, &mut changes),
            };
            self.members.push(member);
        }
        changes.extend(
            former.iter().map(|gone| Change::Removed(gone.view.key, gone.view.spec.url.clone())),
        );
        self.rebuild_models();
        changes.extend(self.tick(now));
        changes
    }

    fn newcomer(&mut self, spec: ServerSpec, now: Timestamp, changes: &mut Vec<Change>) -> Member {
        let key = ServerKey::nth(self.met);
        self.met += 1;
        changes.push(Change::Added(key, Arc::clone(&spec.url)));
        let health = HealthRecord::new(&self.rules);
        let models = spec.declared_models.clone().filter(|_| !self.rules.active_checks);
        let view = ServerView {
            key,
            health: health.state(),
            figures: health.figures(),
            admission: Admission::Open,
            models_updated: models.as_ref().map(|_| now),
            models,
            reading: None,
            ledger: Arc::new(Ledger::default()),
            spec: Arc::new(spec),
        };
        Member { health, view: Arc::new(view) }
    }

    fn checked(&mut self, key: ServerKey, check: Check, now: Timestamp) -> Vec<Change> {
        let Some(member) = self.member(key) else { return Vec::new() };
        if is_excused(&check, &member.view, now) {
            return Vec::new();
        }
        self.change_health(key, |health, rules| health.checked(check, rules, now))
    }

    fn request_failed(&mut self, key: ServerKey, fault: Fault, now: Timestamp) -> Vec<Change> {
        self.change_health(key, |health, rules| health.request_failed(fault, rules, now))
    }

    fn scraped(&mut self, key: ServerKey, reading: Reading) -> Vec<Change> {
        if let Some(member) = self.member(key) {
            member.edit(|view| view.reading = Some(reading));
        }
        Vec::new()
    }

    fn models_learnt(&mut self, key: ServerKey, models: Models, now: Timestamp) -> Vec<Change> {
        let Some(member) = self.member(key) else { return Vec::new() };
        let changed = member.view.models.as_ref() != Some(&models);
        let url = Arc::clone(&member.view.spec.url);
        member.edit(|view| {
            view.models = Some(models.clone());
            view.models_updated = Some(now);
        });
        if !changed {
            return Vec::new();
        }
        self.rebuild_models();
        alloc::vec![Change::Models(url, models)]
    }

    fn admit(&mut self, url: &str, admission: Admission) -> Vec<Change> {
        let of_url = |member: &&mut Member| {
            *member.view.spec.url == *url && member.view.admission != admission
        };
        let mut changes = Vec::new();
        for member in self.members.iter_mut().filter(of_url) {
            member.edit(|view| view.admission = admission);
            changes.push(Change::Admission(Arc::clone(&member.view.spec.url), admission));
        }
        changes
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Change> {
        let keys: Vec<_> = self.members.iter().map(|member| member.view.key).collect();
        keys.into_iter()
            .flat_map(|key| self.change_health(key, |health, rules| health.tick(rules, now)))
            .collect()
    }

    fn change_health(
        &mut self,
        key: ServerKey,
        change: impl FnOnce(&mut HealthRecord, &HealthRules),
    ) -> Vec<Change> {
        let rules = self.rules;
        let Some(member) = self.member(key) else { return Vec::new() };
        let from = member.health.state();
        change(&mut member.health, &rules);
        let (to, figures) = (member.health.state(), member.health.figures());
        if (to, figures) != (from, member.view.figures) {
            member.edit(|view| (view.health, view.figures) = (to, figures));
        }
        if from == to {
            return Vec::new();
        }
        alloc::vec![Change::Health { url: Arc::clone(&member.view.spec.url), from, to }]
    }

    fn member(&mut self, key: ServerKey) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.view.key == key)
    }

    fn rebuild_models(&mut self) {
        let views: Vec<_> = self.members.iter().map(|member| Arc::clone(&member.view)).collect();
        self.models = Arc::new(ModelTable::of(&views));
    }
}

impl Member {
    fn edit(&mut self, edit: impl FnOnce(&mut ServerView)) {
        edit(Arc::make_mut(&mut self.view));
    }

    /// Kept over a reload: health, learnt models, ledger and key stay.
    fn respecified(mut self, spec: ServerSpec) -> Self {
        if *self.view.spec != spec {
            self.edit(|view| view.spec = Arc::new(spec));
        }
        self
    }
}

/// A busy server may be too busy to answer a check in time. As long as its tokens flow it is well,
/// whatever the check says.
fn is_excused(check: &Check, view: &ServerView, now: Timestamp) -> bool {
    /// Progress is noted with a resolution of a quarter of a second, and scraped twice a second.
    const LEEWAY: Duration = Duration::from_secs(1);
    check.found == Err(Fault::Silent)
        && view.ledger.progress_at() > Timestamp::ZERO
        && now.since(view.ledger.progress_at()) <= check.took + LEEWAY
}

#[cfg(test)]
mod tests;
