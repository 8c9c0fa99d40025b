//! The outcome, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::SimulateArgs;
use super::tally::Figures;

/// One policy under one load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cell {
    pub(super) workload: String,
    pub(super) load: f64,
    pub(super) policy: String,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// All cells.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    servers: String,
    routers: u8,
    requests: u32,
    seed: u64,
    pub(super) cells: Vec<Cell>,
}

impl Report {
    pub(super) fn new(args: &SimulateArgs) -> Self {
        Self {
            servers: args.servers.text.clone(),
            routers: args.routers,
            requests: args.requests,
            seed: args.seed,
            cells: Vec::new(),
        }
    }

    /// The cells of one workload, where load 1.0 is so many requests in a second.
    pub(super) fn table(&self, workload: &str, one: f64, cells: &[Cell]) -> String {
        let Self { servers, routers, requests, seed, .. } = self;
        let mut text = format!(
            "### {workload}: servers {servers}, routers {routers}\n\nLoad 1.0 is {one:.2} requests \
             a second. Up to {requests} requests, seed {seed}.\n\n\
             | load | policy | TTFT mean | p50 | p99 | ITL p99 | good | hits | imbalance | preempted |\n\
             |---|---|---|---|---|---|---|---|---|---|\n"
        );
        for Cell { load, policy, figures, .. } in cells {
            let Figures { ttft_mean, ttft_p50, ttft_p99, itl_p99, .. } = figures;
            let (good, hits) = (figures.good * 100.0, figures.hits * 100.0);
            let _ = writeln!(
                text,
                "| {load} | {policy} | {ttft_mean:.3} s | {ttft_p50:.3} s | {ttft_p99:.2} s \
                 | {itl_p99:.3} s | {good:.1} % | {hits:.1} % | {:.2} | {} |",
                figures.imbalance, figures.preemptions,
            );
        }
        text
    }

    pub(super) fn json(&self) -> String {
        // Numbers and texts only: there is nothing that could not be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
