//! What the fuzzer of `servers.toml` found worth keeping, through the function that it calls: see
//! fuzz/.

use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;

#[path = "../../../../fuzz/oracles/config.rs"]
pub mod oracle;

#[test]
fn every_file_is_settings_or_problems_with_a_place() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpora/config");
    let mut inputs = fs::read_dir(corpus).unwrap().peekable();
    assert!(inputs.peek().is_some(), "no corpus");
    for input in inputs {
        let path = input.unwrap().path();
        let input = fs::read(&path).unwrap();
        if let Err(panic) = catch_unwind(|| oracle::check(&input)) {
            eprintln!("the input was {}", path.display());
            resume_unwind(panic);
        }
    }
}
