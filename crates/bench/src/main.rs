//! The benchmark: mvllm beside other proxies, interleaved in one run. `bench/run` starts it.

mod cells;
mod conditions;
mod contenders;
mod load;
mod open_loop;
mod process;
mod report;
mod run;
mod script;
mod stub;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Compares mvllm with other proxies, and writes a report.
#[derive(Debug, Parser)]
#[command(name = "bench/run")]
struct Arguments {
    /// Less than two minutes: mvllm, nginx and HAProxy, two short rounds.
    #[arg(long)]
    quick: bool,
    /// Where the report goes.
    #[arg(long, default_value = "docs/benchmark.md")]
    report: PathBuf,
    /// mvllm's binary; several as NAME=PATH, to compare them.
    #[arg(long, value_name = "[NAME=]PATH", default_value = "target/release/mvllm")]
    mvllm: Vec<String>,
    /// Where the virtual environments `vllm-router` and `smg` are.
    #[arg(long, default_value = "target/bench-routers")]
    environments: PathBuf,
    /// Only contenders whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only cells whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// How long each cell is measured, in seconds.
    #[arg(long)]
    window: Option<f64>,
    /// How many rounds; more make steadier medians.
    #[arg(long)]
    rounds: Option<usize>,
}

fn main() -> ExitCode {
    match run::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
