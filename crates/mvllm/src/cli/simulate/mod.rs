//! `mvllm simulate`: mvllm's own decision code, in front of simulated servers, in virtual time.
//!
//! What decides is `mvllm_core`, as in the router: fleet, scrapes, ledgers, index, policy. What is
//! decided about are the engines of `mvllm_sim`: vLLM's scheduler and KV cache over a model of speed.
//! So this says how policies compare, and what a server more would bring; how long a real server
//! takes for a token it does not know.

mod calibrate;
mod contestant;
mod generate;
mod plant;
mod plot;
mod report;
mod router;
mod source;
mod tally;
mod trace;
mod workload;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;

use super::{complain, say};
use calibrate::capacity;
use contestant::Contestant;
use generate::Shape;
use plant::FleetSpec;
use report::{Cell, Report};
use source::Source;
use trace::TraceError;
use workload::Workload;
use world::{Trial, run};

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// A recorded workload: a trace of Mooncake (JSON lines) or of Azure (CSV). May be given several
    /// times.
    #[arg(long)]
    trace: Vec<PathBuf>,
    /// A generated workload; several with commas between them. Where neither is given: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Shape>,
    /// How much comes, against what the fleet can do with the fewest requests first (1.0).
    #[arg(long, value_delimiter = ',', default_value = "0.9")]
    load: Vec<f64>,
    /// How much comes, in requests a second; instead of --load, to compare fleets.
    #[arg(long, value_delimiter = ',', conflicts_with = "load")]
    rate: Vec<f64>,
    /// The servers: a number (of A100s), or a list such as `2xa100,h100,2xa100@0.5`.
    #[arg(long, default_value = "4")]
    servers: FleetSpec,
    /// Routers side by side that know nothing of each other; each gets its share of the requests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    routers: u8,
    /// The policies; also `oracle`, which sees inside the servers, and `oracle:5`, which also prices
    /// what it takes from others at five times its own computation. Where not given: all.
    #[arg(long, value_delimiter = ',')]
    policy: Vec<Contestant>,
    /// The same seed gives the same figures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At most so many requests; the first tenth fills the caches and is not counted.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(10..))]
    requests: u32,
    /// Longer requests of a trace, prompt and answer together, are left out.
    #[arg(long, default_value_t = 16_384)]
    max_model_len: u32,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draws the mean time to the first token over the load into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("{path}: {error}")]
    Svg { path: String, error: std::io::Error },
    #[error("a load must be above 0, and at most 10")]
    Load,
}

pub(super) fn simulate(args: &SimulateArgs) -> ExitCode {
    match compare(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &SimulateArgs) -> Result<(), SimulateError> {
    let loads = if args.rate.is_empty() { &args.load } else { &args.rate };
    if !loads.iter().all(|load| *load > 0.0 && (*load <= 10.0 || !args.rate.is_empty())) {
        return Err(SimulateError::Load);
    }
    let mut report = Report::new(args);
    for source in sources(args)? {
        let one = match args.rate.is_empty() {
            true => capacity(&source, &args.servers, args.seed),
            false => 1.0,
        };
        let workloads: Vec<_> =
            loads.iter().map(|load| (*load, source.at_rate(load * one))).collect();
        let cells = run_all(args, &workloads);
        if !args.json {
            say(&report.table(&source.name(), one, &cells));
        }
        report.cells.extend(cells);
    }
    if args.json {
        say(&report.json());
    }
    if let Some(path) = &args.svg {
        let failed = |error| SimulateError::Svg { path: path.display().to_string(), error };
        std::fs::write(path, plot::draw(&report.cells)).map_err(failed)?;
    }
    Ok(())
}

fn sources(args: &SimulateArgs) -> Result<Vec<Source>, SimulateError> {
    let requests = args.requests as usize;
    let mut sources = Vec::new();
    for path in &args.trace {
        sources.push(Source::recorded(path, requests, args.max_model_len, args.seed)?);
    }
    let shapes: &[Shape] = match (args.workload.is_empty(), args.trace.is_empty()) {
        (true, true) => &Shape::ALL,
        _ => &args.workload,
    };
    sources.extend(shapes.iter().map(|shape| Source::Generated {
        shape: *shape,
        requests,
        seed: args.seed,
    }));
    Ok(sources)
}

/// All policies under all loads, on as many threads as there are cores.
fn run_all(args: &SimulateArgs, workloads: &[(f64, Workload)]) -> Vec<Cell> {
    let contestants = if args.policy.is_empty() { Contestant::all() } else { args.policy.clone() };
    let jobs: Vec<_> = workloads
        .iter()
        .flat_map(|(load, workload)| contestants.iter().map(move |who| (*load, workload, *who)))
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((load, workload, contestant)) =
                    jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let trial = Trial {
                        workload,
                        fleet: &args.servers,
                        routers: usize::from(args.routers),
                        contestant: *contestant,
                        seed: args.seed,
                    };
                    let cell = Cell {
                        workload: workload.name.clone(),
                        load: *load,
                        policy: contestant.name(),
                        figures: run(&trial).figures(),
                    };
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.push(cell);
                }
            });
        }
    });
    let mut cells = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = |policy: &str| contestants.iter().position(|who| who.name() == policy);
    cells.sort_by(|a, b| {
        a.load.total_cmp(&b.load).then_with(|| place(&a.policy).cmp(&place(&b.policy)))
    });
    cells
}

#[cfg(test)]
mod tests;
