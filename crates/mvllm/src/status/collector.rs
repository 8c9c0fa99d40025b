//! Makes the report, once a second, on the control thread.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mvllm_core::health::{Fault, Health};
use mvllm_core::snapshot::{Admission as CoreAdmission, Judgement, Models, ServerKey, ServerView};
use mvllm_core::time::Timestamp;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::minute::Minute;
use super::{
    Admission, HealthWord, Phase, RequestUnderWay, ServerStatus, StatusReport, Traffic as Figures,
};
use crate::board::Board;
use crate::clock::Clock;
use crate::telemetry::events::RecentEvents;
use crate::traffic::{self, HistogramCounts, Traffic};

/// How often a report is made; rates are read off per second.
const EVERY: Duration = Duration::from_secs(1);

/// Points of the usage curve: a minute and a half fills the widest screen's cell.
const HISTORY: usize = 90;

/// Requests under way that are listed.
const SLOWEST: usize = 20;

#[derive(Debug)]
pub(crate) struct Collector {
    board: Arc<Board>,
    traffic: Arc<Traffic>,
    events: RecentEvents,
    clock: Clock,
    fleet: Minute<Totals>,
    servers: HashMap<ServerKey, Past>,
}

/// What is remembered of a server.
#[derive(Debug, Default)]
struct Past {
    totals: Minute<Totals>,
    generated: Option<u64>,
    usage: VecDeque<f32>,
}

impl Past {
    /// Whether the server's own counters are those of another process than a second ago, or are
    /// seen for the first time: what they stand at was not counted within a minute of ours.
    fn counts_anew(&self, latest: &Totals) -> bool {
        latest.generated < self.generated
            || (self.generated.is_none() && latest.generated.is_some())
    }
}

/// Figures that only grow.
#[derive(Debug, Clone, Default)]
struct Totals {
    requests: u64,
    ttft: HistogramCounts,
    retries: u64,
    errors: u64,
    generated: Option<u64>,
    cache_queries: u64,
    cache_hits: u64,
}

impl Collector {
    pub(crate) fn new(
        board: Arc<Board>,
        traffic: Arc<Traffic>,
        events: RecentEvents,
        clock: Clock,
    ) -> Self {
        let (fleet, servers) = (Minute::default(), HashMap::new());
        Self { board, traffic, events, clock, fleet, servers }
    }

    /// Reports until nobody listens any more.
    pub(crate) async fn run(mut self, reports: watch::Sender<Arc<StatusReport>>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => reports.send_replace(Arc::new(self.report())),
                () = reports.closed() => return,
            };
        }
    }

    /// The report of this second.
    pub(crate) fn report(&mut self) -> StatusReport {
        let now = self.clock.now();
        let by_server = self.totals_by_server();
        let published = Arc::clone(&self.board.read());
        let views = &published.fleet.servers;
        self.servers.retain(|key, _| views.iter().any(|view| view.key == *key));
        let servers: Vec<_> =
            views.iter().map(|view| self.describe(view, &by_server, now)).collect();
        let mut all = by_server.values().fold(Totals::default(), |sum, one| sum.plus(one));
        all.retries = self.traffic.retries.load(Ordering::Relaxed);
        let (before, seconds) = self.fleet.push(all.clone());
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: jiff::ZonedDateTime::now().strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            uptime_seconds: now.since(Timestamp::ZERO).as_secs_f64(),
            traffic: Figures {
                output_tokens_per_second: servers
                    .iter()
                    .map(|server| server.traffic.output_tokens_per_second)
                    .sum(),
                ..all.figures(&before, seconds)
            },
            servers,
            silence_is_ours: published.fleet.judgement == Judgement::Doubted,
            events: self.events.latest(),
            slowest: self.slowest(now),
        }
    }

    fn totals_by_server(&self) -> BTreeMap<Arc<str>, Totals> {
        let mut totals: BTreeMap<Arc<str>, Totals> = BTreeMap::new();
        for (key, series) in self.traffic.all() {
            let statuses = series.statuses();
            let errors: u64 = statuses.range(500..).map(|(_, count)| count).sum();
            let one = Totals {
                requests: statuses.values().sum(),
                ttft: series.time_to_first_token.counts(),
                errors: errors + series.broken.load(Ordering::Relaxed),
                ..Totals::default()
            };
            let sum = totals.entry(key.server).or_default();
            *sum = sum.plus(&one);
        }
        for ((server, _), count) in self.traffic.failed_attempts() {
            totals.entry(server).or_default().retries += count;
        }
        totals
    }

    fn describe(
        &mut self,
        view: &ServerView,
        by_server: &BTreeMap<Arc<str>, Totals>,
        now: Timestamp,
    ) -> ServerStatus {
        let mut totals = by_server.get(&view.spec.url).cloned().unwrap_or_default();
        if let Some(reading) = view.reading {
            let counters = reading.counters;
            totals.generated = counters.generation_tokens;
            totals.cache_queries = counters.prefix_cache_queries.unwrap_or(0);
            totals.cache_hits = counters.prefix_cache_hits.unwrap_or(0);
        }
        let load = view.load(now).0;
        let (running, waiting) = (load.running as u64, load.waiting as u64);
        let capacity = view.spec.capacity.get();
        let usage_percent = (running + waiting) as f64 / f64::from(capacity) * 100.0;
        let past = self.servers.entry(view.key).or_default();
        past.usage.push_back(usage_percent as f32);
        while past.usage.len() > HISTORY {
            past.usage.pop_front();
        }
        if past.counts_anew(&totals) {
            past.totals = Minute::default();
        }
        past.generated = totals.generated;
        let (before, seconds) = past.totals.push(totals.clone());
        ServerStatus {
            url: view.spec.url.to_string(),
            health: health_word(view.health),
            reason: reason(view.health),
            since_seconds: since(view.health, now),
            admission: admission(view),
            models: view.models.iter().flat_map(Models::iter).map(ToString::to_string).collect(),
            running,
            waiting,
            capacity,
            usage_percent,
            in_flight: view.ledger.in_flight(),
            kv_cache_usage: view.sample().map(|sample| sample.kv_cache_usage),
            prefix_cache_hit_rate: totals.hit_rate(&before),
            traffic: totals.figures(&before, seconds),
            usage_history: past.usage.iter().copied().collect(),
        }
    }

    fn slowest(&self, now: Timestamp) -> Vec<RequestUnderWay> {
        let oldest = self.traffic.under_way.oldest(SLOWEST);
        oldest
            .iter()
            .map(|request| {
                let (server, model, attempts) = request.course();
                RequestUnderWay {
                    id: request.id.clone(),
                    age_seconds: now.since(request.begun).as_secs_f64(),
                    server: server.map(|server| server.to_string()),
                    model: model.map(|model| model.to_string()),
                    path: request.path.clone(),
                    phase: match request.phase() {
                        traffic::Phase::Waiting => Phase::Waiting,
                        traffic::Phase::Answering => Phase::Answering,
                    },
                    attempts,
                }
            })
            .collect()
    }
}

impl Totals {
    fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            ttft: self.ttft.plus(&other.ttft),
            retries: self.retries + other.retries,
            errors: self.errors + other.errors,
            generated: self.generated.max(other.generated),
            cache_queries: self.cache_queries + other.cache_queries,
            cache_hits: self.cache_hits + other.cache_hits,
        }
    }

    /// What happened since `before`, `seconds` ago.
    fn figures(&self, before: &Self, seconds: f64) -> Figures {
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let ttft = self.ttft.since(&before.ttft);
        Figures {
            requests_per_second: per_second(self.requests.saturating_sub(before.requests)),
            ttft_p50_seconds: ttft.quantile(0.5),
            ttft_p99_seconds: ttft.quantile(0.99),
            output_tokens_per_second: per_second(
                self.generated.unwrap_or(0).saturating_sub(before.generated.unwrap_or(0)),
            ),
            retries: self.retries.saturating_sub(before.retries),
            errors: self.errors.saturating_sub(before.errors),
        }
    }

    fn hit_rate(&self, before: &Self) -> Option<f64> {
        let queries = self.cache_queries.checked_sub(before.cache_queries).filter(|n| *n > 0)?;
        let hits = self.cache_hits.saturating_sub(before.cache_hits);
        Some(hits as f64 / queries as f64)
    }
}

fn health_word(health: Health) -> HealthWord {
    match health {
        Health::Healthy => HealthWord::Healthy,
        Health::Unproven | Health::Suspect | Health::UnderTest { .. } | Health::Probation => {
            HealthWord::Checking
        }
        Health::Ejected { .. } => HealthWord::Unhealthy,
    }
}

fn reason(health: Health) -> Option<String> {
    match health {
        Health::Healthy => None,
        Health::Unproven => Some("not checked yet".to_owned()),
        Health::Suspect => Some("a request failed".to_owned()),
        Health::UnderTest { .. } => Some("no progress, being tested".to_owned()),
        Health::Probation => Some("back, on probation".to_owned()),
        Health::Ejected { cause, .. } => Some(fault_in_words(cause)),
    }
}

/// For people: the log and the monitor.
pub(crate) fn fault_in_words(fault: Fault) -> String {
    match fault {
        Fault::Unreachable => "accepts no connections".to_owned(),
        Fault::Reset => "breaks connections".to_owned(),
        Fault::Silent => "does not answer in time".to_owned(),
        Fault::NoProgress => "makes no progress with its requests".to_owned(),
        Fault::EngineDead => "says that its engine is dead".to_owned(),
        Fault::Status(status) => format!("answers with status {status}"),
        Fault::ErrorEvent => "sends errors in streams".to_owned(),
        Fault::Malformed => "does not speak HTTP".to_owned(),
        Fault::SuccessRate => "failed too many health checks".to_owned(),
        Fault::SlowChecks => "is too slow in health checks".to_owned(),
    }
}

fn since(health: Health, now: Timestamp) -> Option<f64> {
    match health {
        Health::Ejected { since, .. } | Health::UnderTest { since } => {
            Some(now.since(since).as_secs_f64())
        }
        Health::Unproven | Health::Healthy | Health::Suspect | Health::Probation => None,
    }
}

fn admission(view: &ServerView) -> Admission {
    match view.admission {
        CoreAdmission::Open => Admission::Open,
        CoreAdmission::Cordoned => Admission::Cordoned,
        CoreAdmission::Draining if view.ledger.in_flight() > 0 => Admission::Draining,
        CoreAdmission::Draining => Admission::Drained,
    }
}
