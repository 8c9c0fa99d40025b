//! One run: rounds of cells of contenders.

use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Arguments;
use crate::cells::{Cell, Load, Sample, Spans, wait_until_it_answers};
use crate::conditions::conditions;
use crate::contenders::{Contender, Programs, Started};
use crate::report::Results;
use crate::script::Events;
use crate::stub::Stubs;

/// Servers behind each router.
const SERVERS: usize = 4;

/// Some of the routers are Python programs, and start by looking at all servers.
const TO_START: Duration = Duration::from_secs(30);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    raise_open_files();
    let programs = Programs {
        mvllm: arguments.mvllm.iter().map(|named| named_path(named)).collect(),
        environments: arguments.environments.clone(),
        quick: arguments.quick,
    };
    let chosen = |name: &str, of: &[String]| of.is_empty() || of.iter().any(|it| name.contains(it));
    let (mut contenders, missing) = programs.found();
    contenders.retain(|it| it.is_direct() || chosen(&it.name, &arguments.only));
    let mut cells = cells(arguments.quick);
    cells.retain(|cell| chosen(&cell.name, &arguments.cells));
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 3 });
    let samples = vec![vec![Vec::new(); cells.len()]; contenders.len()];
    let mut results = Results { contenders, cells, samples };
    let stubs = Stubs::start(SERVERS)?;
    let events = Rc::new(Events::new());
    // Processor time is told by the hundredth of a second: one second makes one per cent.
    let window = if arguments.quick { SECOND } else { 2 * SECOND };
    let window = arguments.window.map_or(window, Duration::from_secs_f64);
    let spans = Spans { warm_up: SECOND / 2, window };
    for round in 0..rounds {
        run_round(&mut results, &stubs, round, spans, &events)?;
    }
    let conditions = conditions(&results.contenders, &missing, rounds);
    let report = format!("{}{conditions}{}", include_str!("preface.md"), results.tables());
    fs::write(&arguments.report, report)?;
    for path in stubs.unknown_paths() {
        eprintln!("a router asked for {path}, which the stub servers do not have");
    }
    eprintln!("the report is in {}", arguments.report.display());
    Ok(())
}

fn named_path(named: &str) -> (String, std::path::PathBuf) {
    let (name, path) = named.split_once('=').unwrap_or(("mvllm", named));
    let path = Path::new(path);
    (name.to_owned(), path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}

/// All routers are started, each cell is run with each of them in turn, and all are ended: so that
/// memory is that of a young process, and whatever else this machine does meanwhile hits all alike.
fn run_round(
    results: &mut Results,
    stubs: &Stubs,
    round: usize,
    spans: Spans,
    events: &Rc<Events>,
) -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("mvllm-bench-{}", std::process::id()));
    let mut running = Vec::new();
    for (nth, contender) in results.contenders.iter().enumerate() {
        running.push(started(contender, stubs, &folder.join(nth.to_string()), events)?);
    }
    for at in 0..results.cells.len() {
        let cell = results.cells[at].clone();
        if cell.once && round > 0 {
            continue;
        }
        for turn in 0..running.len() {
            let nth = (turn + round) % running.len();
            let Some(started) = &running[nth] else { continue };
            let sample = cell.measure(started, spans, events);
            tell(round, &cell, started, &sample);
            results.samples[nth][at].push(sample);
        }
    }
    drop(running);
    if folder.exists() { fs::remove_dir_all(&folder) } else { Ok(()) }
}

fn started(
    contender: &Contender,
    stubs: &Stubs,
    folder: &Path,
    events: &Rc<Events>,
) -> io::Result<Option<Started>> {
    let mut started = contender.start(&stubs.addresses, folder)?;
    match wait_until_it_answers(&mut started, TO_START, events) {
        Ok(()) => Ok(Some(started)),
        Err(why) => {
            eprintln!("{} does not work: {why}", contender.name);
            Ok(None)
        }
    }
}

fn tell(round: usize, cell: &Cell, started: &Started, sample: &Sample) {
    let Sample { requests, events, cpu_micros, errors, truncated, mismatched, .. } = sample;
    let units = if *events > 0 { *events } else { *requests };
    let each = cpu_micros.map_or(0.0, |cpu| cpu as f64 / units.max(1) as f64);
    let name = &started.contender.name;
    eprintln!(
        "{round} {:36} {name:24} {each:8.1} us {units:8}  p50 {:6.0} p99 {:6.0}  {:5.1} KB/stream  {errors}/{truncated}/{mismatched}",
        cell.name,
        sample.p50_micros.unwrap_or(0.0),
        sample.p99_micros.unwrap_or(0.0),
        sample.kb_per_stream.unwrap_or(0.0),
    );
}

fn cells(quick: bool) -> Vec<Cell> {
    let paced = |streams: usize, pace, ramp| Load::Paced { streams, pace, ramp };
    let cell = |name: &str, load| Cell { name: name.to_owned(), load, once: false };
    // The cell that tells the memory comes first: the processes are young.
    let mut cells = vec![
        cell("2,000 streams, 100 ms paced", paced(2_000, 100 * MILLISECOND, SECOND)),
        cell("0.5 KB body, 1 connection", Load::Closed { body: 512, connections: 1 }),
        cell("0.5 KB body, 64 connections", Load::Closed { body: 512, connections: 64 }),
        cell("64 KB body, 16 connections", Load::Closed { body: 64 * 1024, connections: 16 }),
        cell("streamed chunk, unpaced, 64 streams", Load::Unpaced { streams: 64, events: 500 }),
        cell("streamed chunk, 20 ms paced, 256 streams", paced(256, 20 * MILLISECOND, SECOND / 2)),
        cell("0.5 KB body, 1,000 requests/s", Load::Open { body: 512, per_second: 1_000.0 }),
    ];
    if !quick {
        let many = open_files_allow(10_000);
        let load = paced(many, SECOND, 4 * SECOND);
        cells.push(Cell { name: format!("{many} streams, 1 s paced"), load, once: true });
    }
    cells
}

/// As many streams as wanted, or as the limit of open files leaves room for: each takes two of this
/// process, which is its client and its server, and two of the router.
fn open_files_allow(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Beside the streams there are idle connections, and files.
    wanted.min(usize::try_from(limit.saturating_sub(2_500) / 2).unwrap_or(wanted))
}

fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        eprintln!("the limit of open files stays as it is");
    }
}
