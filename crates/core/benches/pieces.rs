//! What the pieces cost of which a request is made: `cargo bench -p mvllm-core`. Beside the time
//! stands what each allocates.

use core::num::NonZeroU32;
use std::hint::black_box;
use std::time::Duration;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use fastrand::Rng;
use mvllm_core::choice::{Facts, Tried, choose};
use mvllm_core::dialect::{Dialect, StreamWatch};
use mvllm_core::fleet::{Event, Fleet};
use mvllm_core::health::{Check, HealthRules};
use mvllm_core::load::Capacity;
use mvllm_core::policy::Policy;
use mvllm_core::snapshot::{Models, ServerSpec, Snapshot};
use mvllm_core::time::Timestamp;
use mvllm_core::{exposition, json_fields};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// What matters of a scrape of vLLM 0.32, and more.
const METRICS: &[u8] = include_bytes!("../src/exposition/vllm-0.32.txt");

/// One event as vLLM 0.32 writes it.
const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1764288000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" the\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n";

fn main() {
    divan::main();
}

/// The model of a chat request whose prompt comes before it, as OpenAI's client writes it.
#[divan::bench(args = [512, 64 * 1024])]
fn facts_from_a_body(bencher: Bencher<'_, '_>, size: usize) {
    let prompt = "the quick brown fox jumps over it ".repeat(size / 34);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"{prompt}"}}],"model":"m","stream":true}}"#
    );
    bencher
        .counter(BytesCount::of_str(&body))
        .bench(|| json_fields::scan(black_box(body.as_bytes())).model.map(|model| model.len()));
}

/// A server is chosen, and its place given back.
#[divan::bench(args = [4, 64, 256])]
fn decision(bencher: Bencher<'_, '_>, servers: usize) {
    let snapshot = fleet(servers);
    let mut random = Rng::with_seed(7);
    let (tried, facts) = (Tried::default(), Facts { model: Some("m"), ..Facts::default() });
    bencher.bench_local(|| {
        choose(Policy::Load, &facts, black_box(&snapshot), &tried, &mut random, at(2)).is_ok()
    });
}

#[divan::bench]
fn exposition_of_one_server(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(METRICS)).bench(|| exposition::parse(black_box(METRICS)));
}

/// One event in one chunk, of a stream that is long under way.
#[divan::bench]
fn event_of_a_stream(bencher: Bencher<'_, '_>) {
    let mut watch = StreamWatch::new(Dialect::of_path("/v1/chat/completions"));
    bencher
        .counter(BytesCount::of_slice(EVENT))
        .bench_local(|| watch.feed(black_box(EVENT)).complete);
}

fn at(secs: u64) -> Timestamp {
    Timestamp::after_start(Duration::from_secs(secs))
}

/// A fleet whose servers are all well and serve the same model.
fn fleet(servers: usize) -> Snapshot {
    let rules = HealthRules {
        active_checks: true,
        check_interval: Duration::from_secs(30),
        failure_threshold: 2,
        recovery_after: Duration::from_secs(60),
        consecutive_failures: 3,
        min_success_rate: 0.8,
        max_response_time: Duration::from_secs(10),
        window: 10,
        silence_limit: Duration::from_secs(30),
    };
    let capacity = Capacity::new(NonZeroU32::MIN);
    let spec = |nth| ServerSpec {
        url: format!("http://server-{nth}:8000").into(),
        capacity,
        declared_models: None,
    };
    let mut fleet = Fleet::new(rules);
    fleet.apply(Event::Configured((0..servers).map(spec).collect(), rules), at(0));
    let keys: Vec<_> = fleet.snapshot().servers.iter().map(|server| server.key).collect();
    for key in keys {
        let check = Check { took: Duration::from_millis(1), found: Ok(()) };
        fleet.apply(Event::Checked(key, check), at(1));
        fleet.apply(Event::ModelsLearnt(key, Models::new(["m".into()])), at(1));
    }
    fleet.snapshot()
}
