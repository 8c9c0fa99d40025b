//! `/metrics` as vLLM 0.32 writes it: its names, labels, help texts and number format
//! (`v1/metrics/loggers.py`; the Prometheus text format 1.0.0, with `_created` series).

use std::fmt::Write;

use crate::config::{MetricNames, SimConfig};
use crate::fault::BadMetrics;
use crate::stats::{EngineStats, Histogram};

/// All that a scrape shows.
pub(crate) struct Scrape<'a> {
    pub(crate) config: &'a SimConfig,
    /// When the server started, in seconds since 1970.
    pub(crate) started_at: f64,
    /// Requests refused by `max_num_queued_reqs`.
    pub(crate) rejections: u64,
    pub(crate) engines: &'a [EngineStats],
    pub(crate) bad: Option<BadMetrics>,
}

/// A file descriptor limit as is common: the router derives a connection limit from it.
const MAX_FDS: f64 = 65_536.0;

/// Writes the whole page.
pub(crate) fn render(scrape: &Scrape<'_>) -> String {
    let mut page = Page { scrape, text: String::with_capacity(64 * 1024) };
    page.process();
    page.gauges();
    page.counters();
    page.histograms();
    page.cache_config();
    page.text
}

struct Page<'a> {
    scrape: &'a Scrape<'a>,
    text: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// A labelled series: extra labels (already in Prometheus' syntax, sorted) and a value.
type Series<'a> = (&'a str, &'a dyn Fn(&EngineStats) -> f64);

impl Page<'_> {
    fn process(&mut self) {
        let started = self.scrape.started_at;
        let help = "Start time of the process since unix epoch in seconds.";
        self.head("process_start_time_seconds", help, "gauge");
        self.line("process_start_time_seconds", "", started);
        self.head("process_max_fds", "Maximum number of open file descriptors.", "gauge");
        self.line("process_max_fds", "", MAX_FDS);
    }

    fn gauges(&mut self) {
        let running = |stats: &EngineStats| stats.load.running as f64;
        let waiting = |stats: &EngineStats| stats.load.waiting as f64;
        let usage = |stats: &EngineStats| stats.kv_cache_usage;
        self.gauge(
            "vllm:num_requests_running",
            "Number of requests in model execution batches.",
            &[("", &running)],
        );
        self.gauge(
            "vllm:num_requests_waiting",
            "Number of requests waiting to be processed.",
            &[("", &waiting)],
        );
        if self.scrape.config.metric_names == MetricNames::V0 {
            let help = "GPU KV-cache usage. 1 means 100 percent usage.";
            self.gauge("vllm:gpu_cache_usage_perc", help, &[("", &usage)]);
            return;
        }
        self.gauge(
            "vllm:num_requests_waiting_by_reason",
            "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for \
             scheduling capacity; 'deferred' = deferred by transient constraints (LoRA budget, KV \
             transfer, blocked status). Sum of all reasons equals vllm:num_requests_waiting.",
            &[(r#"reason="capacity""#, &waiting), (r#"reason="deferred""#, &|_| 0.0)],
        );
        self.gauge(
            "vllm:engine_sleep_state",
            "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is \
             awake; weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2.",
            &[
                (r#"sleep_state="awake""#, &|_| 1.0),
                (r#"sleep_state="weights_offloaded""#, &|_| 0.0),
                (r#"sleep_state="discard_all""#, &|_| 0.0),
            ],
        );
        let help = "KV-cache usage. 1 means 100 percent usage.";
        self.gauge("vllm:kv_cache_usage_perc", help, &[("", &usage)]);
    }

    fn counters(&mut self) {
        self.counter(
            "vllm:prefix_cache_queries",
            "Prefix cache queries, in terms of number of queried tokens.",
            &[("", &|stats| stats.prefix_queries as f64)],
        );
        self.counter(
            "vllm:prefix_cache_hits",
            "Prefix cache hits, in terms of number of cached tokens.",
            &[("", &|stats| stats.prefix_hits as f64)],
        );
        self.counter(
            "vllm:num_preemptions",
            "Cumulative number of preemption from the engine.",
            &[("", &|stats| stats.preemptions as f64)],
        );
        self.counter(
            "vllm:prompt_tokens",
            "Number of prefill tokens processed.",
            &[("", &|stats| stats.prompt_tokens as f64)],
        );
        self.counter(
            "vllm:prompt_tokens_cached",
            "Number of cached prompt tokens (local + external).",
            &[("", &|stats| stats.prefix_hits as f64)],
        );
        self.counter(
            "vllm:generation_tokens",
            "Number of generation tokens processed.",
            &[("", &|stats| stats.generation_tokens as f64)],
        );
        // The label stands between `engine` and `model_name`: vLLM sorts label names.
        self.counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            &[
                (r#"finished_reason="stop""#, &|stats| stats.finished_stop as f64),
                (r#"finished_reason="length""#, &|stats| stats.finished_length as f64),
                // vLLM 0.32 does not count the requests of clients who left either.
                (r#"finished_reason="abort""#, &|_| 0.0),
                (r#"finished_reason="error""#, &|_| 0.0),
                (r#"finished_reason="repetition""#, &|_| 0.0),
            ],
        );
        self.rejections();
    }

    /// Counted in front of the engines, hence without their label.
    fn rejections(&mut self) {
        let name = "vllm:admission_rejections_total";
        let help = "Number of admission attempts rejected by a queue limit, by reason.";
        self.head(name, help, "counter");
        let model = self.scrape.config.models.first().map_or("", String::as_str).to_owned();
        let rejections = self.scrape.rejections as f64;
        for (reason, count) in [("max_num_queued_reqs", rejections), ("max_num_queued_tokens", 0.0)]
        {
            self.line(name, &format!(r#"model_name="{model}",reason="{reason}""#), count);
        }
    }

    fn histograms(&mut self) {
        self.histogram(
            "vllm:request_prompt_tokens",
            "Number of prefill tokens processed.",
            |stats| &stats.request_prompt_tokens,
        );
        self.histogram(
            "vllm:request_generation_tokens",
            "Number of generation tokens processed.",
            |stats| &stats.request_generation_tokens,
        );
        self.histogram(
            "vllm:iteration_tokens_total",
            "Histogram of number of tokens per engine_step.",
            |stats| &stats.iteration_tokens,
        );
        self.histogram(
            "vllm:time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            |stats| &stats.time_to_first_token,
        );
        let itl = match self.scrape.config.metric_names {
            MetricNames::V1 => "vllm:inter_token_latency_seconds",
            MetricNames::V0 => "vllm:time_per_output_token_seconds",
        };
        self.histogram(itl, "Histogram of inter-token latency in seconds.", |stats| {
            &stats.inter_token_latency
        });
        self.request_histograms();
    }

    fn request_histograms(&mut self) {
        self.histogram(
            "vllm:e2e_request_latency_seconds",
            "Histogram of e2e request latency in seconds.",
            |stats| &stats.e2e_latency,
        );
        self.histogram(
            "vllm:request_queue_time_seconds",
            "Histogram of time spent in WAITING phase for request.",
            |stats| &stats.queue_time,
        );
        self.histogram(
            "vllm:request_inference_time_seconds",
            "Histogram of time spent in RUNNING phase for request.",
            |stats| &stats.inference_time,
        );
        self.histogram(
            "vllm:request_prefill_time_seconds",
            "Histogram of time spent in PREFILL phase for request.",
            |stats| &stats.prefill_time,
        );
        self.histogram(
            "vllm:request_decode_time_seconds",
            "Histogram of time spent in DECODE phase for request.",
            |stats| &stats.decode_time,
        );
        self.histogram(
            "vllm:request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            |stats| &stats.prefill_computed,
        );
    }

    /// The configuration travels in the labels of a gauge that is always 1.
    fn cache_config(&mut self) {
        let name = "vllm:cache_config_info";
        self.head(name, "Information of the LLMEngine CacheConfig", "gauge");
        let engine = &self.scrape.config.engine;
        let tokens = engine.num_blocks as usize * engine.block_size;
        let concurrency = tokens as f64 / self.scrape.config.max_model_len as f64;
        for rank in 0..self.scrape.engines.len() {
            let labels = format!(
                r#"block_size="{}",cache_dtype="auto",enable_prefix_caching="True",engine="{rank}",gpu_memory_utilization="0.92",hash_block_size="None",kv_cache_max_concurrency="{concurrency:?}",kv_cache_size_tokens="{tokens}",num_cpu_blocks="None",num_gpu_blocks="{}",num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",sliding_window="None""#,
                engine.block_size, engine.num_blocks,
            );
            self.line(name, &labels, 1.0);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, series: &[Series<'_>]) {
        self.head(name, help, "gauge");
        self.series(name, series, Kind::Gauge);
    }

    fn counter(&mut self, name: &str, help: &str, series: &[Series<'_>]) {
        let total = format!("{name}_total");
        self.head(&total, help, "counter");
        self.series(&total, series, Kind::Counter);
        let created = format!("{name}_created");
        let started = self.scrape.started_at;
        let at_start = |_: &EngineStats| started;
        let dated: Vec<Series<'_>> =
            series.iter().map(|(labels, _)| (*labels, &at_start as _)).collect();
        self.head(&created, help, "gauge");
        self.series(&created, &dated, Kind::Counter);
    }

    fn series(&mut self, name: &str, series: &[Series<'_>], kind: Kind) {
        let engines = self.scrape.engines;
        for (rank, stats) in engines.iter().enumerate() {
            for (extra, value) in series {
                let nan = self.scrape.bad == Some(BadMetrics::Nan) && matches!(kind, Kind::Gauge);
                let value = if nan { f64::NAN } else { value(stats) };
                let labels = self.labels(rank, extra);
                self.line(name, &labels, value);
            }
        }
    }

    fn histogram<const BOUNDS: usize>(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(&EngineStats) -> &Histogram<BOUNDS>,
    ) {
        self.head(name, help, "histogram");
        let engines = self.scrape.engines;
        for (rank, stats) in engines.iter().enumerate() {
            let histogram = of(stats);
            for (bound, count) in histogram.cumulative() {
                let le = format!(r#"le="{}""#, number(bound));
                let labels = self.labels(rank, &le);
                self.line(&format!("{name}_bucket"), &labels, count as f64);
            }
            let labels = self.labels(rank, "");
            self.line(&format!("{name}_count"), &labels, histogram.count() as f64);
            self.line(&format!("{name}_sum"), &labels, histogram.sum());
        }
        self.head(&format!("{name}_created"), help, "gauge");
        for rank in 0..engines.len() {
            let labels = self.labels(rank, "");
            self.line(&format!("{name}_created"), &labels, self.scrape.started_at);
        }
    }

    /// Labels in the order of their names, as vLLM's are.
    fn labels(&self, rank: usize, extra: &str) -> String {
        let model = self.scrape.config.models.first().map_or("", String::as_str);
        let engine = match self.scrape.config.metric_names {
            MetricNames::V1 => format!(r#"engine="{rank}""#),
            MetricNames::V0 => String::new(),
        };
        let model = format!(r#"model_name="{model}""#);
        let mut labels = [engine.as_str(), extra, model.as_str()];
        labels.sort_unstable();
        labels.into_iter().filter(|label| !label.is_empty()).collect::<Vec<_>>().join(",")
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let value = number(value);
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }
}

/// As Python's client prints numbers (`floatToGoString`): `3.0`, but `1.5e+06` from a million up.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let plain = format!("{value:?}");
    match plain.find('.') {
        Some(dot) if value > 0.0 && dot > 6 && !plain.contains('e') => {
            let mantissa = format!("{}.{}{}", &plain[..1], &plain[1..dot], &plain[dot + 1..]);
            format!("{}e+{:02}", mantissa.trim_end_matches(['0', '.']), dot - 1)
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(config: &SimConfig, bad: Option<BadMetrics>) -> String {
        let engines = vec![EngineStats::default(); config.data_parallel_size.get()];
        let started_at = 1_795_448_763.52;
        render(&Scrape { config, started_at, rejections: 2, engines: &engines, bad })
    }

    #[test]
    fn numbers_are_printed_as_python_prints_them() {
        let check = |value: f64, printed: &str| assert_eq!(number(value), printed);
        check(0.0, "0.0");
        check(21.0, "21.0");
        check(0.358964204788208, "0.358964204788208");
        check(1_795_448_763.52, "1.79544876352e+09");
        check(2_097_152.0, "2.097152e+06");
        check(f64::INFINITY, "+Inf");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn series_are_labelled_as_in_vllm() {
        let data_parallel_size = std::num::NonZeroUsize::new(2).unwrap();
        let config = SimConfig { data_parallel_size, ..SimConfig::default() };
        let page = page(&config, None);
        for line in [
            r#"vllm:num_requests_running{engine="1",model_name="sim"} 0.0"#,
            r#"vllm:num_requests_waiting_by_reason{engine="0",model_name="sim",reason="capacity"} 0.0"#,
            r#"vllm:request_success_total{engine="0",finished_reason="stop",model_name="sim"} 0.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="sim"} 0.0"#,
            r#"vllm:admission_rejections_total{model_name="sim",reason="max_num_queued_reqs"} 2.0"#,
            r#"vllm:prefix_cache_hits_created{engine="1",model_name="sim"} 1.79544876352e+09"#,
            "process_start_time_seconds 1.79544876352e+09",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing");
        }
    }

    #[test]
    fn old_names_come_without_engine_label() {
        let config = SimConfig { metric_names: MetricNames::V0, ..SimConfig::default() };
        let page = page(&config, None);
        assert!(page.contains("vllm:gpu_cache_usage_perc{model_name=\"sim\"} 0.0"));
        assert!(!page.contains("vllm:kv_cache_usage_perc"));
        assert!(!page.contains("by_reason"));
    }

    #[test]
    fn bad_gauges_are_not_numbers_while_counters_still_are() {
        let page = page(&SimConfig::default(), Some(BadMetrics::Nan));
        assert!(page.contains("vllm:num_requests_running{engine=\"0\",model_name=\"sim\"} NaN"));
        assert!(page.contains("vllm:prompt_tokens_total{engine=\"0\",model_name=\"sim\"} 0.0"));
    }
}
