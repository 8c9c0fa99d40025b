//! `GET /metrics`: mvllm itself, in the Prometheus text format (version 0.0.4).

mod page;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mvllm_core::health::Health;
use mvllm_core::load::Load;
use mvllm_core::snapshot::{Admission, Judgement, ServerView};

use self::page::Page;
use crate::board::Board;
use crate::clock::Clock;
use crate::proxy::REASONS;
use crate::traffic::{CAUSES, CUTS, Continuation, GIVEN_UP, HistogramCounts, Series, Traffic};

/// The content type that names the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn render(board: &Board, traffic: &Traffic, clock: Clock) -> String {
    let mut page = Page::default();
    page.family("mvllm_build_info", "gauge", "Version of mvllm, as a label.");
    page.sample("mvllm_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    requests(&mut page, traffic);
    durations(&mut page, traffic);
    attempts(&mut page, board, traffic);
    servers(&mut page, board, clock);
    judgement(&mut page, board);
    reloads(&mut page, board);
    page.into_text()
}

fn requests(page: &mut Page, traffic: &Traffic) {
    let name = "mvllm_requests_total";
    page.family(name, "counter", "Requests by the status that the client saw.");
    for (key, series) in traffic.all() {
        for (status, count) in series.statuses() {
            let labels =
                [("server", &*key.server), ("model", &*key.model), ("status", &status.to_string())];
            page.sample(name, &labels, count);
        }
    }
    type Counter = fn(&Series) -> u64;
    let counters: [(&str, &str, Counter); 4] = [
        (
            "mvllm_requests_broken_total",
            "Answers that broke off after a part of them had reached the client.",
            |series| series.broken.load(Ordering::Relaxed),
        ),
        (
            "mvllm_requests_abandoned_total",
            "Requests whose client left before the end.",
            |series| series.abandoned.load(Ordering::Relaxed),
        ),
        (
            "mvllm_prompt_tokens_total",
            "Prompt tokens, where the answer carries its usage.",
            |series| series.prompt_tokens.load(Ordering::Relaxed),
        ),
        (
            "mvllm_completion_tokens_total",
            "Generated tokens, where the answer carries its usage.",
            |series| series.completion_tokens.load(Ordering::Relaxed),
        ),
    ];
    for (name, help, counter) in counters {
        page.family(name, "counter", help);
        for (key, series) in traffic.all() {
            let labels = [("server", &*key.server), ("model", &*key.model)];
            page.sample(name, &labels, counter(&series));
        }
    }
    let name = "mvllm_refusals_total";
    page.family(name, "counter", "Requests that mvllm itself answered with an error, by reason.");
    let refusals = traffic.refusals();
    // From zero on: of a counter that is born with its first event, `rate()` does not see that.
    for reason in REASONS {
        page.sample(name, &[("reason", reason)], refusals.get(reason).unwrap_or(&0));
    }
    let name = "mvllm_client_connections";
    page.family(name, "gauge", "Open connections of clients.");
    page.sample(name, &[], traffic.crowd.count());
    let name = "mvllm_client_connections_cut_total";
    page.family(name, "counter", "Connections of clients that mvllm ended, by reason.");
    let cuts = traffic.cuts();
    for reason in CUTS {
        page.sample(name, &[("reason", reason)], cuts.get(reason).unwrap_or(&0));
    }
    let name = "mvllm_buffered_body_bytes";
    page.family(name, "gauge", "Memory that request bodies hold.");
    page.sample(name, &[], traffic.bodies.held());
    let name = "mvllm_requests_under_way";
    page.family(name, "gauge", "Requests under way, whether at a server or not.");
    page.sample(name, &[], traffic.under_way.count());
}

fn durations(page: &mut Page, traffic: &Traffic) {
    type Histogram = fn(&Series) -> HistogramCounts;
    let histograms: [(&str, &str, Histogram); 3] = [
        (
            "mvllm_time_to_first_token_seconds",
            "From a request's head to the first event of its answer; streamed answers only.",
            |series| series.time_to_first_token.counts(),
        ),
        (
            "mvllm_inter_chunk_seconds",
            "Between two chunks of an answer as they come from the server.",
            |series| series.inter_chunk.counts(),
        ),
        (
            "mvllm_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            |series| series.duration.counts(),
        ),
    ];
    for (name, help, histogram) in histograms {
        page.family(name, "histogram", help);
        for (key, series) in traffic.all() {
            let labels = [("server", &*key.server), ("model", &*key.model)];
            page.histogram(name, &labels, &histogram(&series));
        }
    }
}

fn attempts(page: &mut Page, board: &Board, traffic: &Traffic) {
    let name = "mvllm_attempts_failed_total";
    page.family(
        name,
        "counter",
        "Attempts at a server that brought no answer to pass on, by cause.",
    );
    let mut failed = traffic.failed_attempts();
    for server in board.read().fleet.servers.iter() {
        for cause in CAUSES {
            failed.entry((Arc::clone(&server.spec.url), cause)).or_insert(0);
        }
    }
    for ((server, cause), count) in failed {
        page.sample(name, &[("server", &server), ("cause", cause)], count);
    }
    let name = "mvllm_retries_total";
    page.family(name, "counter", "Attempts made because an earlier one failed.");
    page.sample(name, &[], traffic.retries.load(Ordering::Relaxed));
    let name = "mvllm_retries_denied_total";
    page.family(name, "counter", "Requests not sent again after a failed attempt, by reason.");
    let denied = traffic.given_up();
    for reason in GIVEN_UP {
        page.sample(name, &[("reason", reason)], denied.get(reason).unwrap_or(&0));
    }
    let name = "mvllm_stream_continuations_total";
    page.family(name, "counter", "Streamed answers whose server died, by what came of it.");
    let continuations = traffic.continuations();
    for word in Continuation::ALL.map(Continuation::word) {
        page.sample(name, &[("outcome", word)], continuations.get(word).unwrap_or(&0));
    }
    let name = "mvllm_hedges_total";
    page.family(name, "counter", "Second attempts made because the first took long.");
    page.sample(name, &[], traffic.hedges.load(Ordering::Relaxed));
}

fn servers(page: &mut Page, board: &Board, clock: Clock) {
    let published = board.read();
    let now = clock.now();
    type Gauge<'a> = &'a dyn Fn(&ServerView) -> Option<f64>;
    let load = |server: &ServerView| -> Load { server.load(now).0 };
    let flag = |yes: bool| Some(if yes { 1.0 } else { 0.0 });
    let gauges: [(&str, &str, Gauge<'_>); 9] = [
        ("up", "1 if the server is sent requests.", &|server| flag(server.is_routable())),
        ("healthy", "1 if its health checks and requests succeed.", &|server| {
            flag(server.health == Health::Healthy)
        }),
        ("admitted", "0 if the operator has cordoned or drained it.", &|server| {
            flag(server.admission == Admission::Open)
        }),
        ("requests_in_flight", "Requests of this router there now.", &|server| {
            Some(server.ledger.in_flight().into())
        }),
        ("requests_running", "Requests in its batch, of all clients.", &|server| {
            Some(load(server).running)
        }),
        ("requests_waiting", "Requests in its queue, of all clients.", &|server| {
            Some(load(server).waiting)
        }),
        ("capacity_requests", "max_concurrent_requests.", &|server| {
            Some(server.spec.capacity.get().into())
        }),
        ("kv_cache_usage_ratio", "Share of its KV cache that is in use, 0 to 1.", &|server| {
            server.sample().map(|sample| sample.kv_cache_usage)
        }),
        ("scrape_age_seconds", "Since its metrics were last read.", &|server| {
            server.sample().map(|sample| now.since(sample.sent_at).as_secs_f64())
        }),
    ];
    for (suffix, help, gauge) in gauges {
        let name = format!("mvllm_server_{suffix}");
        page.family(&name, "gauge", help);
        let mut told: Vec<&str> = Vec::new();
        for server in published.fleet.servers.iter() {
            let url = &*server.spec.url;
            // A server that is listed twice has one series: Prometheus allows no second.
            if told.contains(&url) {
                continue;
            }
            told.push(url);
            if let Some(value) = gauge(server) {
                page.sample(&name, &[("server", url)], value);
            }
        }
    }
}

fn judgement(page: &mut Page, board: &Board) {
    let name = "mvllm_servers_silence_ignored";
    page.family(
        name,
        "gauge",
        "1 while more than half of the servers are silent at once and get requests all the same.",
    );
    let doubted = board.read().fleet.judgement == Judgement::Doubted;
    page.sample(name, &[], u8::from(doubted));
}

fn reloads(page: &mut Page, board: &Board) {
    let name = "mvllm_config_reloads_total";
    page.family(name, "counter", "Changes of the configuration, applied or rejected.");
    page.sample(name, &[("result", "applied")], board.reloads.applied());
    page.sample(name, &[("result", "rejected")], board.reloads.rejected());
    let name = "mvllm_config_last_reload_successful";
    page.family(name, "gauge", "0 if the configuration on disk is not the one in force.");
    page.sample(name, &[], u8::from(board.reloads.last_was_good()));
}
