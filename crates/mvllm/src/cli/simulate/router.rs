//! One router: the fleet, the ledgers, the index and the choice, as `mvllm run` has them.

use std::time::Duration;

use mvllm_core::choice::{Candidate, Facts, Tried, choose};
use mvllm_core::fleet::{Event, Fleet};
use mvllm_core::health::{Check, HealthRules};
use mvllm_core::load::Capacity;
use mvllm_core::policy::Policy;
use mvllm_core::prefix::PrefixIndex;
use mvllm_core::prompt::Prompt;
use mvllm_core::snapshot::{Models, ServerSpec, ServerView, Snapshot};
use mvllm_core::time::Timestamp;

use super::plant::Plant;
use crate::config::ServerSettings;
use crate::config::Settings;
use crate::fleet::reading;

/// The model that all servers serve.
const MODEL: &str = "model";

#[derive(Debug)]
pub(super) struct Router {
    fleet: Fleet,
    snapshot: Snapshot,
    index: PrefixIndex,
    random: fastrand::Rng,
}

impl Router {
    /// A router in front of so many servers, which it has just found to be well.
    pub(super) fn new(servers: usize, rules: HealthRules, seed: u64) -> Self {
        let mut fleet = Fleet::new(rules);
        let capacity = Capacity::new(
            ServerSettings::with_defaults("http://s".parse().expect("a url"))
                .max_concurrent_requests,
        );
        let spec = |nth| ServerSpec {
            url: format!("http://server-{nth}").into(),
            capacity,
            declared_models: None,
        };
        let now = Timestamp::ZERO;
        fleet.apply(Event::Configured((0..servers).map(spec).collect(), rules), now);
        let keys: Vec<_> = fleet.snapshot().servers.iter().map(|server| server.key).collect();
        for key in keys {
            fleet.apply(Event::ModelsLearnt(key, Models::new([MODEL.into()])), now);
            let check = Check { took: Duration::from_millis(1), found: Ok(()) };
            fleet.apply(Event::Checked(key, check), now);
        }
        let mut index = PrefixIndex::default();
        index.keep(fleet.snapshot().servers.iter().map(|server| (server.key, None)));
        let snapshot = fleet.snapshot();
        Self { fleet, snapshot, index, random: fastrand::Rng::with_seed(seed) }
    }

    /// Scrapes one server.
    pub(super) fn scrape(&mut self, plant: &Plant, server: usize, now: Timestamp) {
        let view = &self.snapshot.servers[server];
        let (key, own) = (view.key, view.ledger.in_flight());
        let Some(reading) = reading(&plant.scrape(server), now, own) else { return };
        let told = view.reading.and_then(|reading| reading.kv_tokens);
        self.fleet.apply(Event::Scraped(key, reading), now);
        self.snapshot = self.fleet.snapshot();
        if told != reading.kv_tokens {
            let kv = |server: &ServerView| server.reading.and_then(|reading| reading.kv_tokens);
            let servers = &self.snapshot.servers;
            self.index.keep(servers.iter().map(|server| (server.key, kv(server))));
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for server in self.snapshot.servers.iter() {
            server.ledger.note_progress(now);
        }
        self.fleet.apply(Event::Tick, now);
        self.snapshot = self.fleet.snapshot();
    }

    /// Decides as the router does.
    pub(super) fn choose(
        &mut self,
        policy: Policy,
        prompt: &Prompt,
        session: u64,
        now: Timestamp,
    ) -> (usize, Candidate) {
        let held = self.index.held(prompt);
        let facts = Facts {
            model: Some(MODEL),
            prompt: Some(prompt),
            held: Some(&held),
            session: Some(session),
            ..Facts::default()
        };
        let tried = Tried::default();
        let candidate = choose(policy, &facts, &self.snapshot, &tried, &mut self.random, now)
            .expect("all servers are well");
        self.index.enter(candidate.server.key, prompt);
        let key = candidate.server.key;
        let at = self.snapshot.servers.iter().position(|server| server.key == key);
        (at.expect("it was chosen from there"), candidate)
    }
}

/// As an empty configuration file has them, except that nobody is checked: servers do not fail here.
pub(super) fn rules() -> HealthRules {
    let settings = Settings::default();
    crate::fleet::rules(&settings)
}
