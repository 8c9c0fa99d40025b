//! The fleet: what is known of every server, changed by events, read through snapshots.

mod member;
mod wakefulness;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::health::{Check, Fault, Health, HealthRecord, HealthRules, Probe};
use crate::load::Reading;
use crate::pace::Pace;
use crate::snapshot::{Admission, Judgement, ModelTable, Models, ServerKey, ServerSpec, Snapshot};
use crate::time::Timestamp;

use member::Member;
use wakefulness::Wakefulness;

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
    /// A request, sent at that moment, was answered by the engine of a server in doubt.
    RequestSucceeded(ServerKey, Timestamp),
    /// A probe, sent at that moment, ended.
    Probed(ServerKey, Timestamp, Probe),
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
    /// A server is another process than it was.
    Restarted(ServerKey, Arc<str>),
    /// Whether the silence of servers is held against them.
    Judgement(Judgement),
    /// This process stood still for so long, and noticed nothing meanwhile.
    Overslept(Duration),
}

/// The fleet. One owner applies events in order; everybody else reads a [`Snapshot`].
#[derive(Debug)]
pub struct Fleet {
    rules: HealthRules,
    members: Vec<Member>,
    models: Arc<ModelTable>,
    judgement: Judgement,
    wakefulness: Wakefulness,
    met: u64,
}

impl Fleet {
    /// A fleet without servers.
    pub fn new(rules: HealthRules) -> Self {
        Self {
            rules,
            members: Vec::new(),
            models: Arc::default(),
            judgement: Judgement::default(),
            wakefulness: Wakefulness::default(),
            met: 0,
        }
    }

    /// Takes in an event. Events about servers that have left are no longer of interest.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Change> {
        let mut changes: Vec<_> = self.look_at_the_clock(&event, now).into_iter().collect();
        changes.extend(match event {
            Event::Configured(specs, rules) => self.configure(specs, rules, now),
            Event::Checked(key, check) => self.checked(key, check, now),
            Event::Scraped(key, reading) => self.scraped(key, reading, now),
            Event::ModelsLearnt(key, models) => self.models_learnt(key, models, now),
            Event::ScrapeRefused(key) => {
                self.change_health(key, |health, rules| health.scrape_refused(rules, now))
            }
            Event::RequestFailed(key, fault) => self.request_failed(key, fault, now),
            Event::RequestSucceeded(key, sent_at) => {
                self.change_health(key, |health, _| health.request_succeeded(sent_at, now))
            }
            Event::Probed(key, sent_at, probe) => self.probed(key, sent_at, probe, now),
            Event::Admission(url, admission) => self.admit(&url, admission),
            Event::Tick => self.tick(now),
        });
        changes.extend(self.judge_ourselves(now));
        changes
    }

    /// The fleet as it stands.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            servers: self.members.iter().map(|member| Arc::clone(&member.view)).collect(),
            models: Arc::clone(&self.models),
            judgement: self.judgement,
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
        Member::new(key, spec, &self.rules, now)
    }

    fn checked(&mut self, key: ServerKey, check: Check, now: Timestamp) -> Vec<Change> {
        let (rules, is_drowsy) = (self.rules, self.wakefulness.is_drowsy(now));
        let Some(member) = self.member(key) else { return Vec::new() };
        let Some(check) = member.in_the_light_of_progress(check, &rules, now) else {
            return Vec::new();
        };
        if is_drowsy && check.found.is_err_and(Fault::is_silence) {
            return Vec::new();
        }
        // How long it took tells how long this process was away.
        let known = if is_drowsy { rules.max_response_time } else { check.took };
        let check = Check { took: check.took.min(known), ..check };
        self.change_health(key, |health, rules| health.checked(check, rules, now))
    }

    fn probed(
        &mut self,
        key: ServerKey,
        sent_at: Timestamp,
        probe: Probe,
        now: Timestamp,
    ) -> Vec<Change> {
        let is_drowsy = self.wakefulness.is_drowsy(now);
        let Some(member) = self.member(key) else { return Vec::new() };
        // While it waited in the queue, others before it were served.
        let unheard = matches!(probe, Probe::Failed(fault) if fault.is_silence())
            && (is_drowsy || member.view.ledger.progress_at() > sent_at);
        if unheard {
            return Vec::new();
        }
        if probe == Probe::Answered {
            member.progress.begin_anew(now);
        }
        self.change_health(key, |health, rules| health.probed(probe, rules, now))
    }

    fn request_failed(&mut self, key: ServerKey, fault: Fault, now: Timestamp) -> Vec<Change> {
        if fault.is_silence() && self.wakefulness.is_drowsy(now) {
            return Vec::new();
        }
        self.change_health(key, |health, rules| health.request_failed(fault, rules, now))
    }

    fn scraped(&mut self, key: ServerKey, reading: Reading, now: Timestamp) -> Vec<Change> {
        let Some(member) = self.member(key) else { return Vec::new() };
        let is_another = member.take_reading(reading);
        if is_another {
            member.pace.begin_anew();
        }
        self.show_paces();
        let Some(member) = self.member(key).filter(|_| is_another) else { return Vec::new() };
        let mut changes = alloc::vec![Change::Restarted(key, Arc::clone(&member.view.spec.url))];
        changes.extend(self.change_health(key, |health, _| health.restarted(now)));
        changes
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
        let rules = self.rules;
        let mut changes = Vec::new();
        self.show_paces();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let (key, progress_at) = (member.view.key, member.view.ledger.progress_at());
            let stalls = member.quiet_for(now) >= rules.stall_limit();
            changes.extend(self.change_health(key, |health, rules| {
                health.progressed(progress_at);
                if stalls {
                    health.stalled(rules, now);
                }
                health.tick(rules, now);
            }));
        }
        changes
    }

    /// Who has shown nothing yet is taken to be as fast as the fastest: so it gets requests, and
    /// will show. To take it for slow would keep it unknown. As long as nobody has shown anything,
    /// the operator's word counts: twice the capacity, twice as fast.
    fn show_paces(&mut self) {
        let known = self.members.iter().filter(|member| member.pace.is_known());
        let fastest = known.map(|member| member.view.pace).reduce(Pace::or_faster);
        let capacity = |member: &Member| f64::from(member.view.spec.capacity.get());
        let largest = self.members.iter().map(capacity).fold(1.0, f64::max);
        for member in &mut self.members {
            let by_capacity = || Pace::default().slower_by(largest / capacity(member));
            let prior = fastest.unwrap_or_else(by_capacity);
            member.show_pace(prior);
        }
    }

    /// What seems to have taken long while this process stood still says nothing of the servers.
    fn look_at_the_clock(&mut self, event: &Event, now: Timestamp) -> Option<Change> {
        let overslept = self.wakefulness.look(matches!(event, Event::Tick), now)?;
        for member in &mut self.members {
            member.progress.begin_anew(now);
        }
        Some(Change::Overslept(overslept))
    }

    /// One server that does not answer is at fault itself. Of more than half of a fleet at once it
    /// is rather the one who asks.
    fn judge_ourselves(&mut self, now: Timestamp) -> Option<Change> {
        let in_use = self.members.iter().filter(|m| m.view.admission == Admission::Open);
        let (mut all, mut silent) = (0, 0);
        for member in in_use {
            all += 1;
            silent += usize::from(member.is_silent(now));
        }
        let doubted = silent >= 2 && 2 * silent > all;
        let judgement = if doubted { Judgement::Doubted } else { Judgement::Trusted };
        (core::mem::replace(&mut self.judgement, judgement) != judgement)
            .then_some(Change::Judgement(judgement))
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
        member.show_health();
        let to = member.health.state();
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

#[cfg(test)]
mod tests;
