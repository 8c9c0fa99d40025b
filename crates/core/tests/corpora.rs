//! What the fuzzers found worth keeping, through the very functions that they call: see fuzz/.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

#[path = "../../../fuzz/oracles/dialect.rs"]
pub mod dialect;
#[path = "../../../fuzz/oracles/exposition.rs"]
pub mod exposition;
#[path = "../../../fuzz/oracles/facts.rs"]
pub mod facts;
#[path = "../../../fuzz/oracles/fleet_events.rs"]
pub mod fleet_events;
#[path = "../../../fuzz/oracles/route.rs"]
pub mod route;

fn replay(target: &str, check: fn(&[u8])) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpora");
    let mut inputs = fs::read_dir(corpora.join(target)).unwrap().peekable();
    assert!(inputs.peek().is_some(), "no corpus for {target}");
    for input in inputs {
        let path = input.unwrap().path();
        let input = fs::read(&path).unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("the input was {}", path.display());
            resume_unwind(panic);
        }
    }
}

#[test]
fn event_streams_are_read_as_by_a_reader_of_the_whole() {
    replay("dialect", dialect::check);
}

#[test]
fn metrics_are_read_as_by_a_reader_of_the_grammar() {
    replay("exposition", exposition::check);
}

#[test]
fn bodies_are_read_as_by_a_full_parser() {
    replay("facts", facts::check);
}

#[test]
fn the_fleet_stays_sound_whatever_it_is_told() {
    replay("fleet_events", fleet_events::check);
}

#[test]
fn a_closed_path_stays_closed_however_it_is_written() {
    replay("route", route::check);
}
