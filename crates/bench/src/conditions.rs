//! Under which conditions a run was made.

use std::fs;
use std::process::Command;

use crate::contenders::Contender;
use crate::report::line;

/// The part of the report that says so.
pub(crate) fn conditions(contenders: &[Contender], missing: &[String], rounds: usize) -> String {
    let mut text = String::new();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let processor = processor.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    line(&mut text, "## Conditions\n");
    line(&mut text, &format!("* {}, commit {}", today(), commit()));
    line(&mut text, &format!("* {processor}, {cores} cores; Linux {}", kernel.trim()));
    line(&mut text, &format!("* router, servers and clients on one core: {}", affinity()));
    line(&mut text, &format!("* {rounds} rounds; in each, every cell with every router in turn"));
    for contender in contenders.iter().filter(|it| !it.is_direct()) {
        line(&mut text, &format!("* {}: {}", contender.name, contender.version));
    }
    for missing in missing {
        line(&mut text, &format!("* left out: {missing}"));
    }
    line(&mut text, "");
    text
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let told = output.map(|it| it.stdout).unwrap_or_default();
    String::from_utf8_lossy(&told).trim().to_owned()
}

fn affinity() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    format!("core {}", list.unwrap_or_default().trim())
}
