//! How the router watches one server: metrics, checks and probes, timed as in `observers.rs` and
//! `probe.rs`.

use std::time::Duration;

use mvllm_core::fleet::Event as News;
use mvllm_core::health::{Check, Fault, Health, Probe};
use mvllm_core::load::{Counters, Reading, Sample};
use mvllm_core::snapshot::{Models, ServerKey, ServerView};
use mvllm_core::time::Timestamp;

use super::servers::{Ailment, Metrics, Owner, Sign};
use super::world::{Event, World};

const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);
/// `health_check_timeout`.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LATENCY: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(crate) struct Eyes {
    pub(crate) server: usize,
    pub(crate) since: Timestamp,
    appointment: u64,
    scraped_at: Timestamp,
    /// When metrics came again that had not come for a while: what they tell is old by as much.
    pub(crate) saw_again: Timestamp,
    trace: Option<(u64, usize)>,
    latest_probe: Timestamp,
    probe: Option<u64>,
}

impl Eyes {
    pub(crate) fn new(server: usize, since: Timestamp) -> Self {
        Self {
            server,
            since,
            appointment: 0,
            scraped_at: since,
            saw_again: since,
            trace: None,
            latest_probe: Timestamp::ZERO,
            probe: None,
        }
    }
}

impl World {
    pub(crate) fn open_eyes(&mut self, key: ServerKey) {
        self.at_once(Event::Scrape(key));
        self.at_once(Event::Check(key, 0));
        self.at_once(Event::Look(key));
    }

    fn view(&self, key: ServerKey) -> &ServerView {
        let mut servers = self.router.published.servers.iter();
        servers.find(|view| view.key == key).expect("who is watched is in the fleet")
    }

    pub(crate) fn scrape(&mut self, key: ServerKey) {
        let Some(eyes) = self.router.eyes.get(&key) else { return };
        let server = &self.servers[eyes.server];
        if server.ailment == Some(Ailment::Gone) {
            self.after(LATENCY, Event::News(News::ScrapeRefused(key)));
            self.after(SCRAPE_INTERVAL, Event::Scrape(key));
        } else if let Some(metrics) = server.metrics() {
            let own = self.view(key).ledger.in_flight();
            self.after(LATENCY, Event::Scraped(key, metrics, self.now, own));
            self.after(SCRAPE_INTERVAL, Event::Scrape(key));
        } else {
            self.after(SCRAPE_LIMIT, Event::Scrape(key));
        }
    }

    pub(crate) fn scraped(
        &mut self,
        key: ServerKey,
        metrics: Metrics,
        sent_at: Timestamp,
        own_in_flight: u32,
    ) {
        if !self.router.eyes.contains_key(&key) {
            return;
        }
        let health = self.view(key).health;
        if matches!(health, Health::Unproven | Health::Ejected { cause: Fault::Unreachable, .. }) {
            self.check_now(key);
        }
        let Metrics { tokens, running, waiting, started } = metrics;
        // The batch stands for the KV cache: what is admitted takes some.
        let trace = Some((tokens, running));
        let eyes = self.router.eyes.get_mut(&key).unwrap();
        if self.now.since(eyes.scraped_at) > 2 * SCRAPE_INTERVAL {
            eyes.saw_again = self.now;
        }
        eyes.scraped_at = self.now;
        let before = std::mem::replace(&mut eyes.trace, trace);
        if before.is_some() && before != trace {
            self.view(key).ledger.note_progress(self.now);
        }
        let (running, waiting) = (running as f64, waiting as f64);
        let sample = Sample { sent_at, own_in_flight, running, waiting, kv_cache_usage: 0.0 };
        let counters = Counters { generation_tokens: Some(tokens), ..Counters::default() };
        let started = Some(started);
        self.learn(News::Scraped(
            key,
            Reading { sample, counters, kv_tokens: None, process_max_fds: None, started },
        ));
    }

    /// The next check is due now.
    pub(crate) fn check_now(&mut self, key: ServerKey) {
        if let Some(eyes) = self.router.eyes.get_mut(&key) {
            eyes.appointment += 1;
            let nth = eyes.appointment;
            self.at_once(Event::Check(key, nth));
        }
    }

    pub(crate) fn check(&mut self, key: ServerKey, nth: u64) {
        let rules = self.router.rules;
        let Some(eyes) = self.router.eyes.get_mut(&key) else { return };
        if eyes.appointment != nth || !rules.active_checks {
            return;
        }
        eyes.appointment += 1;
        let next = eyes.appointment;
        let answer = self.servers[eyes.server].health();
        let (took, found) = answer.unwrap_or((CHECK_LIMIT, Err(Fault::Silent)));
        self.after(took, Event::Checked(key, self.now, found));
        self.after(rules.check_interval.max(took), Event::Check(key, next));
    }

    pub(crate) fn checked(&mut self, key: ServerKey, begun: Timestamp, found: Result<(), Fault>) {
        let Some(eyes) = self.router.eyes.get(&key) else { return };
        if found.is_ok() {
            let models = self.servers[eyes.server].models;
            let models = Models::new(models.iter().map(|name| (*name).into()));
            self.learn(News::ModelsLearnt(key, models));
        }
        let took = self.now.since(begun);
        self.learn(News::Checked(key, Check { took, found }));
    }

    pub(crate) fn look(&mut self, key: ServerKey) {
        let (now, rules) = (self.now, self.router.rules);
        if !self.router.eyes.contains_key(&key) {
            return;
        }
        self.after(LOOK_EVERY, Event::Look(key));
        let (health, ledger) = (self.view(key).health, &self.view(key).ledger);
        let (wants, progress_at) = (health.wants_probe(now), ledger.progress_at());
        let nth = self.watch.probes;
        let eyes = self.router.eyes.get_mut(&key).unwrap();
        let is_new = match health {
            Health::UnderTest { since } | Health::Ejected { since, .. } => {
                eyes.latest_probe < since
            }
            _ => false,
        };
        let is_due = is_new
            || now.since(eyes.latest_probe) >= rules.check_interval
            || progress_at > eyes.latest_probe;
        if !rules.active_checks || !wants || !is_due || eyes.probe.is_some() {
            return;
        }
        self.watch.probes += 1;
        (eyes.probe, eyes.latest_probe) = (Some(nth), now);
        let at = eyes.server;
        let server = &self.servers[at];
        if !server.can_be_probed && server.ailment != Some(Ailment::Gone) {
            self.after(LATENCY, Event::ProbeOver(key, nth, Probe::CannotTell));
            return;
        }
        self.submit(at, Owner::Probe(nth));
        let silent = Probe::Failed(Fault::NoProgress);
        self.after(rules.silence_limit / 3, Event::ProbeOver(key, nth, silent));
    }

    pub(crate) fn probe_replied(&mut self, nth: u64, sign: Sign) {
        let asked = self.router.eyes.iter().find(|(_, eyes)| eyes.probe == Some(nth));
        let Some((&key, _)) = asked else { return };
        match sign {
            Sign::Token | Sign::End => self.probe_over(key, nth, Probe::Answered),
            Sign::Fails(failure) => match failure.fault() {
                Some(fault) => self.probe_over(key, nth, Probe::Failed(fault)),
                // It is full, which is no news.
                None => self.router.eyes.get_mut(&key).unwrap().probe = None,
            },
        }
    }

    pub(crate) fn probe_over(&mut self, key: ServerKey, nth: u64, probe: Probe) {
        let Some(eyes) = self.router.eyes.get_mut(&key) else { return };
        if eyes.probe != Some(nth) {
            return;
        }
        eyes.probe = None;
        let (at, sent_at) = (eyes.server, eyes.latest_probe);
        self.servers[at].abort(Owner::Probe(nth));
        self.learn(News::Probed(key, sent_at, probe));
    }
}
