//! The one writer: applies what was learnt to the fleet, in order, and publishes the outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mvllm_core::fleet::{Change, Event, Fleet};
use mvllm_core::health::HealthRules;
use mvllm_core::load::Capacity;
use mvllm_core::snapshot::{Models, ServerKey, ServerSpec};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::news;
use super::observers::{Observers, Sight};
use crate::board::{Board, Published};
use crate::clock::Clock;
use crate::config::{ServerSettings, Settings};
use crate::prefixes;
use crate::upstream::Target;

/// How often time itself is an event.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct FleetTask {
    fleet: Fleet,
    settings: Arc<Settings>,
    targets: Arc<HashMap<ServerKey, Arc<Target>>>,
    observers: HashMap<ServerKey, Observers>,
    /// What the index of prefixes was told last.
    caches: Vec<(ServerKey, Option<u64>)>,
    board: Arc<Board>,
    clock: Clock,
    /// Where observers tell what they see.
    news: mpsc::Sender<Event>,
}

impl FleetTask {
    /// The fleet of `settings`; its servers are known and published, and not yet observed.
    pub(crate) fn new(
        settings: Arc<Settings>,
        board: Arc<Board>,
        clock: Clock,
        news: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            fleet: Fleet::new(rules(&settings)),
            settings,
            targets: Arc::default(),
            observers: HashMap::new(),
            caches: Vec::new(),
            board,
            clock,
            news,
        }
    }

    /// Applies `settings` and learns from `events`, until either will bring no more.
    pub(crate) async fn run(
        mut self,
        mut settings: mpsc::Receiver<Arc<Settings>>,
        mut events: mpsc::Receiver<Event>,
    ) {
        self.configure(Arc::clone(&self.settings));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(settings) = settings.recv() => self.configure(settings),
                Some(event) = events.recv() => self.learn(event),
                _ = ticks.tick() => self.learn(Event::Tick),
                else => break,
            }
        }
    }

    fn learn(&mut self, event: Event) {
        let changes = self.fleet.apply(event, self.clock.now());
        changes.iter().for_each(news::tell);
        self.publish();
        for change in &changes {
            let Change::Restarted(key, _) = change else { continue };
            self.board.prefixes.forget(*key);
            if let Some(observers) = self.observers.get(key) {
                observers.check_now();
            }
        }
    }

    fn configure(&mut self, settings: Arc<Settings>) {
        let specs = settings.servers.iter().map(spec).collect();
        let event = Event::Configured(specs, rules(&settings));
        self.settings = settings;
        let changes = self.fleet.apply(event, self.clock.now());
        changes.iter().for_each(news::tell);
        let renewed = self.retarget();
        // First published, then observed: an observer reads the settings from the board.
        self.publish();
        renewed.into_iter().for_each(|key| self.observe(key));
        for change in changes {
            match change {
                Change::Added(key, _) => self.observe(key),
                Change::Removed(key, _) => drop(self.observers.remove(&key)),
                _ => {}
            }
        }
    }

    /// Works out where the servers are. The fleet keeps them in the order of the settings.
    /// Returns the kept ones that are to be spoken to otherwise than before.
    fn retarget(&mut self) -> Vec<ServerKey> {
        let snapshot = self.fleet.snapshot();
        let mut targets = HashMap::new();
        let mut renewed = Vec::new();
        for (view, server) in snapshot.servers.iter().zip(&self.settings.servers) {
            let known = self.targets.get(&view.key);
            if let Some(known) = known.filter(|known| known.is_of(server)) {
                targets.insert(view.key, Arc::clone(known));
                continue;
            }
            match Target::of(server) {
                Ok(target) => drop(targets.insert(view.key, Arc::new(target))),
                Err(reason) => error!(server = %server.url, "unusable address: {reason}"),
            }
            // Who watches it does so with the old key.
            if known.is_some() {
                renewed.push(view.key);
            }
        }
        self.targets = Arc::new(targets);
        renewed
    }

    fn observe(&mut self, key: ServerKey) {
        let Some(target) = self.targets.get(&key) else { return };
        let snapshot = self.fleet.snapshot();
        let Some(view) = snapshot.servers.iter().find(|view| view.key == key) else { return };
        let sight = Sight {
            key,
            target: Arc::clone(target),
            ledger: Arc::clone(&view.ledger),
            board: Arc::clone(&self.board),
            clock: self.clock,
            news: self.news.clone(),
        };
        self.observers.insert(key, Observers::start(&sight));
    }

    fn publish(&mut self) {
        let fleet = self.fleet.snapshot();
        let caches = prefixes::caches(&fleet);
        if caches != self.caches {
            self.board.prefixes.keep(&caches);
            self.caches = caches;
        }
        self.board.publish(Published {
            fleet,
            targets: Arc::clone(&self.targets),
            settings: Arc::clone(&self.settings),
        });
    }
}

fn spec(server: &ServerSettings) -> ServerSpec {
    let declared = &server.supported_models;
    ServerSpec {
        url: server.url.as_str().into(),
        capacity: Capacity::new(server.max_concurrent_requests),
        declared_models: (!declared.is_empty())
            .then(|| Models::new(declared.iter().map(|name| name.as_str().into()))),
    }
}

pub(crate) fn rules(settings: &Settings) -> HealthRules {
    let tuning = &settings.tuning;
    HealthRules {
        active_checks: tuning.enable_active_health_check,
        check_interval: tuning.health_check_interval,
        failure_threshold: tuning.failure_threshold.get(),
        recovery_after: tuning.auto_recovery_threshold,
        consecutive_failures: tuning.health_check_consecutive_failures.get(),
        min_success_rate: tuning.health_check_min_success_rate,
        max_response_time: tuning.health_check_max_response_time,
        window: tuning.health_check_window_size.get() as usize,
        silence_limit: tuning.request_timeout,
    }
}
