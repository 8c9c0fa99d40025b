use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Recorded from vLLM 0.32 on one engine; families that nothing here asks for are left out, except
/// for those whose names begin like a wanted one.
const RECORDED: &[u8] = include_bytes!("vllm-0.32.txt");

fn engine(engine: u32, running: u64, waiting: u64) -> EngineLoad {
    EngineLoad { engine, running: Some(running), waiting: Some(waiting) }
}

#[test]
fn a_recorded_scrape_is_read() {
    let expect = Scrape {
        running: Some(0),
        waiting: Some(0),
        engines: Vec::from([engine(0, 0, 0)]),
        kv_cache_usage: Some(0.0),
        awake: Some(true),
        prompt_tokens: Some(34),
        generation_tokens: Some(15),
        prefix_cache_queries: Some(34),
        prefix_cache_hits: Some(0),
        preemptions: Some(0),
        iterations: Some(15),
        cache: CacheConfig {
            block_size: Some(128),
            num_gpu_blocks: Some(16384),
            kv_cache_size_tokens: Some(2_097_152),
        },
        process_max_fds: Some(20000),
        process_start_time_seconds: Some(1_795_449_110.19),
    };
    assert_eq!(parse(RECORDED), expect);
    assert!(expect.has_load());
}

#[test]
fn a_name_that_begins_like_a_wanted_one_is_another() {
    let scrape = parse(
        b"vllm:num_requests_waiting{engine=\"0\"} 3\n\
          vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"deferred\"} 0\n\
          vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 3\n\
          xvllm:num_requests_waiting 8\n",
    );
    assert_eq!(scrape.waiting, Some(3));
}

#[test]
fn ranks_are_summed_and_told_apart() {
    let scrape = parse(
        b"vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 1.0\n\
          vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 2.0\n\
          vllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 4.0\n\
          vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 8.0\n\
          vllm:kv_cache_usage_perc{engine=\"0\"} 0.2\n\
          vllm:kv_cache_usage_perc{engine=\"1\"} 0.6\n\
          vllm:engine_sleep_state{engine=\"0\",sleep_state=\"awake\"} 1\n\
          vllm:engine_sleep_state{engine=\"1\",sleep_state=\"awake\"} 0\n\
          vllm:engine_sleep_state{engine=\"1\",sleep_state=\"discard_all\"} 1\n\
          vllm:prompt_tokens_total{engine=\"0\"} 1e+06\n\
          vllm:prompt_tokens_total{engine=\"1\"} 5\n",
    );
    assert_eq!((scrape.running, scrape.waiting), (Some(3), Some(12)));
    assert_eq!(scrape.engines, [engine(0, 1, 8), engine(1, 2, 4)]);
    assert_eq!(scrape.kv_cache_usage, Some(0.4));
    assert_eq!(scrape.awake, Some(false));
    assert_eq!(scrape.prompt_tokens, Some(1_000_005));
}

#[test]
fn more_ranks_than_are_told_apart_still_count() {
    let line = |rank| format!("vllm:num_requests_running{{engine=\"{rank}\"}} 1\n");
    let scrape = parse((0..100).map(line).collect::<String>().as_bytes());
    assert_eq!((scrape.running, scrape.engines.len()), (Some(100), ENGINES_MAX));
}

#[test]
fn the_names_of_older_versions_are_known() {
    let scrape = parse(
        b"vllm:num_requests_running{model_name=\"m\"} 1\n\
          vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.25\n\
          vllm:gpu_prefix_cache_queries{model_name=\"m\"} 10\n\
          vllm:gpu_prefix_cache_hits_total{model_name=\"m\"} 4\n\
          vllm:generation_tokens{model_name=\"m\"} 7\n",
    );
    assert_eq!(scrape.kv_cache_usage, Some(0.25));
    assert_eq!((scrape.prefix_cache_queries, scrape.prefix_cache_hits), (Some(10), Some(4)));
    assert_eq!(scrape.generation_tokens, Some(7));
    assert_eq!(scrape.engines, []);
}

#[test]
fn an_old_name_beside_a_new_one_does_not_count() {
    let scrape = parse(
        b"vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.5\n\
          vllm:gpu_prefix_cache_queries_total 7\nvllm:prefix_cache_queries_total 8\n\
          vllm:prompt_tokens 1\nvllm:prompt_tokens_total 2\n",
    );
    assert_eq!(scrape.kv_cache_usage, Some(0.5));
    assert_eq!((scrape.prefix_cache_queries, scrape.prompt_tokens), (Some(8), Some(2)));
}

#[test]
fn absent_is_not_zero() {
    for text in ["", "\n", "# HELP vllm:num_requests_running x\n", "up 1\nprocess_max_fds 5"] {
        let scrape = parse(text.as_bytes());
        assert_eq!((scrape.running, scrape.has_load()), (None, false), "{text:?}");
    }
}

#[test]
fn lines_are_read_in_all_their_spellings() {
    let check = |line: &str| assert_eq!(parse(line.as_bytes()).running, Some(2), "{line:?}");
    check("vllm:num_requests_running 2");
    check("vllm:num_requests_running\t2.0 \r\n");
    check("  vllm:num_requests_running {} 2 1700000000000\n");
    check("vllm:num_requests_running{engine=\"0\",} +2e0");
    check("vllm:num_requests_running{ engine = \"0\" , a = \"}\" } 2 # {t=\"1\"} 3");
    check("vllm:num_requests_running{a=\"\\\"} 9\\\\\",b=\"{,= 7\\n\"} 2");
    check("garbage\nvllm:num_requests_running{a=\"unclosed\nvllm:num_requests_running 2\n");
}

#[test]
fn lines_that_make_no_sense_are_passed_over() {
    for line in [
        "{a=\"1\"} NaN",
        " NaN",
        " +Inf",
        " -Inf",
        " -1",
        " 1e300",
        " two",
        "",
        " ",
        "{a=\"1\"}",
        "{a=\"1\" 2",
        "{a=1} 2",
        "{a=\"1\"b=\"2\"} 2",
        "{a} 2",
        "{a=\"\\",
        "{",
        " 2 x",
        " 2 3 4",
        "=2",
    ] {
        let line = format!("vllm:num_requests_running{line}\n");
        assert_eq!(parse(line.as_bytes()), Scrape::default(), "{line:?}");
    }
    let infinite = b"process_start_time_seconds +Inf\nvllm:kv_cache_usage_perc +Inf\n";
    assert_eq!(parse(infinite), Scrape::default());
}

#[test]
fn usage_above_one_is_one() {
    assert_eq!(parse(b"vllm:kv_cache_usage_perc 1.5").kv_cache_usage, Some(1.0));
}

#[test]
fn the_smallest_cache_of_the_ranks_counts() {
    let scrape = parse(
        b"vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"300\"} 1\n\
          vllm:cache_config_info{block_size=\"16\",engine=\"1\",num_gpu_blocks=\"200\",\
          num_gpu_blocks_override=\"7\",kv_cache_size_tokens=\"None\"} 1\n\
          vllm:cache_config_info{block_size=\"None\",engine=\"2\",num_gpu_blocks=\"250\"} 1\n",
    );
    let expect =
        CacheConfig { block_size: Some(16), num_gpu_blocks: Some(200), kv_cache_size_tokens: None };
    assert_eq!(scrape.cache, expect);
}

/// A sample as an exporter would write it: name, label value, value.
fn sample(name: &str, label: &str, value: u32) -> String {
    let label = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}{{engine=\"3\",model_name=\"{label}\"}} {value}.0\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn whatever_a_label_says_the_sums_are_right(
        samples in prop::collection::vec((0..4usize, any::<String>(), any::<u32>()), 0..20),
    ) {
        const NAMES: [&str; 4] = [
            "vllm:num_requests_running", "vllm:num_requests_waiting",
            "vllm:num_requests_waiting_by_reason", "vllm:generation_tokens_total",
        ];
        let text: String = samples.iter().map(|(n, label, v)| sample(NAMES[*n], label, *v)).collect();
        let sum = |wanted| samples.iter().filter(|(name, ..)| *name == wanted)
            .map(|&(.., value)| u64::from(value)).reduce(|a, b| a + b);
        let scrape = parse(text.as_bytes());
        prop_assert_eq!(scrape.running, sum(0));
        prop_assert_eq!(scrape.waiting, sum(1));
        prop_assert_eq!(scrape.generation_tokens, sum(3));
    }

    #[test]
    fn any_bytes_are_survived(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        parse(&garbage);
        parse(&[b"vllm:cache_config_info{", &garbage[..]].concat());
    }

    #[test]
    fn a_recorded_scrape_may_be_cut_or_changed_anywhere(
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let at = at.index(RECORDED.len());
        parse(&RECORDED[..at]);
        let mut changed = RECORDED.to_vec();
        changed[at] = byte;
        prop_assert!(parse(&changed).has_load());
    }
}
