//! House rules that no compiler knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that is longer has more than one subject.
const LINES_MAX: usize = 500;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let mut long = rust_files(&crates());
    assert!(!long.is_empty());
    long.retain(|path| lines(path) > LINES_MAX);
    assert!(long.is_empty(), "{long:?}");
}

/// Files in which the compiler begins: `main.rs`, `lib.rs`, and those that Cargo finds by their
/// place.
fn is_root(path: &Path) -> bool {
    let folder = path.parent().unwrap();
    let is_target_folder = ["tests", "examples", "benches", "bin"]
        .iter()
        .any(|name| folder.file_name().is_some_and(|folder| folder == *name));
    let name = path.file_name().unwrap();
    name == "main.rs" || name == "lib.rs" || name == "build.rs" || is_target_folder
}

/// The modules that a file declares in files of their own, as paths where they may be.
fn declared(path: &Path) -> Vec<PathBuf> {
    let name = path.file_stem().unwrap();
    let beside = is_root(path) || name == "mod";
    let folder = path.parent().unwrap();
    let folder = if beside { folder.to_owned() } else { folder.join(name) };
    let text = fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let at = line.find("mod ")?;
        let visibility = line[..at].trim();
        (visibility.is_empty() || visibility.starts_with("pub")).then(|| line[at + 4..].to_owned())
    });
    names
        .flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")])
        .collect()
}

#[test]
fn every_file_belongs_to_a_module() {
    let all = rust_files(&crates());
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut to_read: Vec<_> = all.iter().filter(|path| is_root(path)).cloned().collect();
    while let Some(path) = to_read.pop() {
        if path.is_file() && reached.insert(path.clone()) {
            to_read.extend(declared(&path));
        }
    }
    let lost: Vec<_> = all.iter().filter(|path| !reached.contains(*path)).collect();
    assert!(lost.is_empty(), "no `mod` leads to {lost:?}");
}

#[test]
fn the_core_and_the_simulator_know_nothing_of_the_rest() {
    for name in ["core", "sim"] {
        let manifest = fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
        let ours: Vec<_> = manifest
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .filter(|line| line.contains("mvllm") && !line.starts_with("name = "))
            .collect();
        assert!(
            ours.is_empty() || ours.iter().all(|line| line.starts_with("description")),
            "{ours:?}"
        );
    }
}

#[test]
fn the_core_is_built_without_the_standard_library() {
    let text = fs::read_to_string(crates().join("core/src/lib.rs")).unwrap();
    assert!(text.lines().any(|line| line == "#![no_std]"));
}

/// Where the first word of a test's name in docs/faults.md leads.
const PLACES: [(&str, &str); 4] = [
    ("it/", "crates/mvllm/tests/it/"),
    ("mvllm/", "crates/mvllm/src/"),
    ("core/", "crates/core/src/"),
    ("real_vllm/", "tests/real_vllm/"),
];

/// Whether such a test is there: `it/cancel.rs::many_clients`.
fn is_there(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    let place = PLACES.iter().find_map(|(word, place)| {
        file.strip_prefix(word).map(|rest| crates().join("..").join(place).join(rest))
    });
    let Some(text) = place.and_then(|path| fs::read_to_string(path).ok()) else { return false };
    ["fn ", "def "].iter().any(|keyword| text.contains(&format!("{keyword}{name}(")))
}

#[test]
fn every_fault_and_every_pain_has_its_line_and_every_test_named_there_exists() {
    let text = fs::read_to_string(crates().join("../docs/faults.md")).unwrap();
    let numbers =
        (1..=34).map(|nth| format!("F{nth}")).chain((1..=40).map(|nth| format!("P{nth}")));
    for number in numbers {
        let lines = text.lines().filter(|line| line.starts_with(&format!("| {number} |")));
        assert_eq!(lines.count(), 1, "lines for {number}");
    }
    let tests: Vec<_> = text.split('`').filter(|word| word.contains("::")).collect();
    assert!(tests.len() > 100, "{} tests are named", tests.len());
    let lost: Vec<_> = tests.into_iter().filter(|test| !is_there(test)).collect();
    assert!(lost.is_empty(), "no such tests: {lost:#?}");
}
