//! The eyes on one server: its metrics twice a second, its health and its models at each check. A
//! third, for when neither can tell, is in `probe.rs`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mvllm_core::attempt::{Failure, Verdict, judge};
use mvllm_core::exposition::{self, Scrape};
use mvllm_core::fleet::Event;
use mvllm_core::health::{Check, Fault, Health};
use mvllm_core::ledger::Ledger;
use mvllm_core::load::{Counters, Reading, Sample};
use mvllm_core::snapshot::{Model, Models, ServerKey, ServerView};
use mvllm_core::time::Timestamp;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::client::{Client, Unanswered};
use super::probe::probe_forever;
use crate::board::Board;
use crate::clock::Clock;
use crate::upstream::Target;

/// As in 0.1.0: often enough for the load of other routers, seldom enough for vLLM, which takes
/// about a millisecond to render its metrics.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);

/// A scrape that takes longer is given up; as in 0.1.0.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// Watches one server until dropped.
#[derive(Debug)]
pub(super) struct Observers {
    check_now: Arc<Notify>,
    _tasks: JoinSet<()>,
}

/// What the observers of a server share.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub(super) key: ServerKey,
    pub(super) target: Arc<Target>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) board: Arc<Board>,
    pub(super) clock: Clock,
    pub(super) news: mpsc::Sender<Event>,
}

impl Observers {
    pub(super) fn start(sight: &Sight) -> Self {
        let check_now = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(scrape_forever(sight.clone(), Arc::clone(&check_now)));
        tasks.spawn(check_forever(sight.clone(), Arc::clone(&check_now)));
        tasks.spawn(probe_forever(sight.clone()));
        Self { check_now, _tasks: tasks }
    }

    /// Something has happened to the server: its next check, with its models, is due.
    pub(super) fn check_now(&self) {
        self.check_now.notify_one();
    }
}

impl Sight {
    pub(super) async fn tell(&self, event: Event) {
        // An error means that the fleet task has ended, and this will in a moment.
        let _ = self.news.send(event).await;
    }

    /// Where nobody checks, the operator's word on a server's models stands.
    fn models_are_declared(&self) -> bool {
        self.view().is_some_and(|view| view.spec.declared_models.is_some())
    }

    pub(super) fn view(&self) -> Option<Arc<ServerView>> {
        let published = self.board.read();
        published.fleet.servers.iter().find(|server| server.key == self.key).cloned()
    }
}

async fn scrape_forever(sight: Sight, check_now: Arc<Notify>) {
    let mut client = Client::new(Arc::clone(&sight.target));
    let mut trace = EngineTrace::default();
    let mut schedule = interval(SCRAPE_INTERVAL);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        schedule.tick().await;
        let (sent_at, own_in_flight) = (sight.clock.now(), sight.ledger.in_flight());
        let own_at_ranks = sight.ledger.ranks.own();
        match client.get("/metrics", SCRAPE_LIMIT).await {
            Ok((status, text)) => {
                if sight.view().is_some_and(|view| seems_back(&view)) {
                    check_now.notify_one();
                }
                let scrape = exposition::parse(if status.is_success() { &text } else { b"" });
                if trace.moved(&scrape) {
                    sight.ledger.note_progress(sight.clock.now());
                }
                if let Some(reading) = reading(&scrape, sent_at, own_in_flight) {
                    sight.ledger.ranks.note(&scrape.engines, &own_at_ranks);
                    sight.tell(Event::Scraped(sight.key, reading)).await;
                }
            }
            Err(Unanswered::Fault(Fault::Unreachable)) => {
                sight.tell(Event::ScrapeRefused(sight.key)).await;
            }
            // Metrics may be slow, broken or absent on a server that answers requests well.
            Err(_) => {}
        }
    }
}

/// A server that was not there and now answers anything is worth a check at once. Not so one that
/// was ejected for what it did to requests: it would be back after each failure within the second.
/// A server that was never checked is being checked just now.
fn seems_back(view: &ServerView) -> bool {
    match view.health {
        Health::Unproven => view.figures.total_checks > 0,
        health => matches!(health, Health::Ejected { cause: Fault::Unreachable, .. }),
    }
}

pub(crate) fn reading(scrape: &Scrape, sent_at: Timestamp, own_in_flight: u32) -> Option<Reading> {
    let sample = Sample {
        sent_at,
        own_in_flight,
        running: scrape.running.unwrap_or(0) as f64,
        waiting: scrape.waiting.unwrap_or(0) as f64,
        kv_cache_usage: scrape.kv_cache_usage.unwrap_or(0.0),
    };
    let counters = Counters {
        prompt_tokens: scrape.prompt_tokens,
        generation_tokens: scrape.generation_tokens,
        prefix_cache_queries: scrape.prefix_cache_queries,
        prefix_cache_hits: scrape.prefix_cache_hits,
        preemptions: scrape.preemptions,
    };
    let kv_tokens = scrape.cache.tokens().map(|each| each * scrape.engines.len().max(1) as u64);
    let process_max_fds = scrape.process_max_fds;
    let started = scrape.process_start_time_seconds;
    scrape.has_load().then_some(Reading { sample, counters, kv_tokens, process_max_fds, started })
}

/// What a server's engine leaves behind in its metrics whenever it does something. The gauges of
/// requests are not among it: other servers' may count what merely arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct EngineTrace {
    prompt_tokens: Option<u64>,
    generation_tokens: Option<u64>,
    iterations: Option<u64>,
    prefix_cache_queries: Option<u64>,
    /// Of all that moves during the prefill of a long prompt, the only one: vLLM counts its tokens
    /// and its steps when they have led to output (v1/metrics/stats.py, v1/engine/async_llm.py).
    kv_cache_usage: Option<f64>,
}

impl EngineTrace {
    /// Whether the engine has done something since the latest scrape that told anything.
    fn moved(&mut self, scrape: &Scrape) -> bool {
        let latest = Self {
            prompt_tokens: scrape.prompt_tokens,
            generation_tokens: scrape.generation_tokens,
            iterations: scrape.iterations,
            prefix_cache_queries: scrape.prefix_cache_queries,
            kv_cache_usage: scrape.kv_cache_usage,
        };
        if latest == Self::default() {
            return false;
        }
        let before = std::mem::replace(self, latest);
        before != Self::default() && before != latest
    }
}

async fn check_forever(sight: Sight, check_now: Arc<Notify>) {
    let mut client = Client::new(Arc::clone(&sight.target));
    loop {
        let settings = sight.board.read().settings.tuning.clone();
        let next = Instant::now() + settings.health_check_interval;
        let limit = settings.health_check_timeout;
        if settings.enable_active_health_check {
            let (check, models) = check(&mut client, &sight, limit).await;
            if let Some(models) = models {
                // First what it serves, then that it is well: its first request may be the next.
                sight.tell(Event::ModelsLearnt(sight.key, models)).await;
            }
            if let Some(check) = check {
                sight.tell(Event::Checked(sight.key, check)).await;
            }
        } else if !sight.models_are_declared()
            && let Ok(Some(models)) = models(&mut client, limit).await
        {
            sight.tell(Event::ModelsLearnt(sight.key, models)).await;
        }
        // Either is a reason to look again.
        let _ = timeout_at(next, check_now.notified()).await;
    }
}

/// `/health` decides; a server without that path is well if it lists its models. (0.1.0 asked the
/// second question after every bad answer to the first, and so believed dead engines.) No check, if
/// the server could not be asked.
async fn check(
    client: &mut Client,
    sight: &Sight,
    limit: Duration,
) -> (Option<Check>, Option<Models>) {
    let begun = sight.clock.now();
    let health = client.get("/health", limit).await;
    let took = sight.clock.now().since(begun);
    let (found, models) = match health {
        Ok((status, _)) if status.is_success() => {
            (Ok(()), models(client, limit).await.ok().flatten())
        }
        Ok((status, _)) if status == 404 || status == 405 => match models(client, limit).await {
            Ok(models) => (Ok(()), models),
            Err(unanswered) => (Err(unanswered), None),
        },
        Ok((status, body)) => (Err(unwell(status, &body)), None),
        Err(unanswered) => (Err(unanswered), None),
    };
    let found = match found {
        Ok(()) => Ok(()),
        Err(Unanswered::Fault(fault)) => Err(fault),
        Err(Unanswered::NotAsked) => return (None, models),
    };
    (Some(Check { took, found }), models)
}

/// What a bad answer at `/health` says. vLLM's own is 503 without a word, and means that the engine
/// is dead (vllm/entrypoints/serve/instrumentator/health.py); while it scales, all it says is 503
/// (serve/elastic_ep/middleware.py).
fn unwell(status: StatusCode, body: &[u8]) -> Unanswered {
    match judge(status.as_u16(), body) {
        _ if status == StatusCode::SERVICE_UNAVAILABLE && body.is_empty() => {
            Unanswered::Fault(Fault::EngineDead)
        }
        Verdict::Failed(Failure::Overloaded(_)) => Unanswered::NotAsked,
        Verdict::Failed(Failure::EngineDead) => Unanswered::Fault(Fault::EngineDead),
        _ => Unanswered::Fault(Fault::Status(status.as_u16())),
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelCard>,
}

#[derive(Deserialize)]
struct ModelCard {
    id: String,
    /// Of a LoRA adapter: the model that it adapts.
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    max_model_len: Option<u32>,
}

/// What the server says it serves; `None` if it answers, but not with a list.
async fn models(client: &mut Client, limit: Duration) -> Result<Option<Models>, Unanswered> {
    let (status, body) = client.get("/v1/models", limit).await?;
    if !status.is_success() {
        return Err(Unanswered::Fault(Fault::Status(status.as_u16())));
    }
    Ok(serde_json::from_slice::<ModelList>(&body).ok().map(ModelList::models))
}

impl ModelList {
    /// vLLM tells the length of an adapter's base model only, and it is the adapter's as well
    /// (vllm/entrypoints/openai/models/serving.py).
    fn models(self) -> Models {
        let own = |name: &str| self.data.iter().find(|card| card.id == name)?.max_model_len;
        Models::of(self.data.iter().map(|card| Model {
            name: card.id.as_str().into(),
            max_len: card.max_model_len.or_else(|| own(card.parent.as_deref()?)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(text: &str) -> Scrape {
        exposition::parse(text.as_bytes())
    }

    #[test]
    fn an_engine_that_does_anything_leaves_a_trace_and_a_hung_one_leaves_none() {
        let mut trace = EngineTrace::default();
        let mut moved = |text: &str| trace.moved(&scrape(text));
        assert!(!moved("vllm:generation_tokens_total 5\n"), "the first figures tell nothing");
        assert!(!moved("vllm:generation_tokens_total 5\nvllm:num_requests_running 3\n"));
        assert!(moved("vllm:generation_tokens_total 6\n"));
        assert!(!moved("<html>"), "no figures, no news");
        assert!(!moved("vllm:generation_tokens_total 6\n"));
        assert!(moved("vllm:generation_tokens_total 6\nvllm:kv_cache_usage_perc 0.25\n"));
        assert!(moved("vllm:generation_tokens_total 6\nvllm:kv_cache_usage_perc 0.5\n"));
    }

    #[test]
    fn an_adapter_has_the_length_of_its_base_model() {
        let list = r#"{"data":[{"id":"base","parent":null,"max_model_len":4096},
            {"id":"lora","parent":"base","max_model_len":null},{"id":"other"}]}"#;
        let models = serde_json::from_str::<ModelList>(list).unwrap().models();
        assert_eq!(
            models.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["base", "lora", "other"]
        );
        assert_eq!(models.max_len(Some("base")), Some(4096));
        assert_eq!(models.max_len(Some("lora")), Some(4096));
        assert_eq!(models.max_len(Some("other")), None);
    }

    #[test]
    fn a_silent_503_is_a_dead_engine_and_a_talkative_one_is_not() {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let fault = |status, body: &[u8]| unwell(status, body);
        assert_eq!(fault(unavailable, b""), Unanswered::Fault(Fault::EngineDead));
        assert_eq!(fault(unavailable, b"upstream down"), Unanswered::Fault(Fault::Status(503)));
        assert_eq!(fault(unavailable, b"The model is currently scaling"), Unanswered::NotAsked);
        assert_eq!(
            fault(StatusCode::INTERNAL_SERVER_ERROR, b""),
            Unanswered::Fault(Fault::Status(500))
        );
    }
}
