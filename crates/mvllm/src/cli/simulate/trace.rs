//! Recorded workloads, as their publishers wrote them.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::workload::{Traced, Workload, mix};

/// Tokens of a block of Mooncake's traces, and the unit of those that know of no prefixes.
const UNIT: u32 = 512;

/// Mooncake's timestamps are ticks of three seconds; requests of one tick are spread over it.
const TICK: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    #[error("{path}: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path}:{line}: neither a line of Mooncake's traces nor one of Azure's")]
    Malformed { path: String, line: usize },
    #[error("{path}: there are no requests")]
    Empty { path: String },
}

/// A line of a trace of Mooncake (<https://github.com/kvcache-ai/Mooncake>, FAST25-release).
#[derive(Deserialize)]
struct MooncakeLine {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace of either publisher; its content tells whose it is.
pub(super) fn read(path: &Path, random: &mut fastrand::Rng) -> Result<Workload, TraceError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| TraceError::Unreadable { path: name.clone(), error })?;
    let is_csv = text.starts_with("TIMESTAMP");
    let mut requests = Vec::new();
    let mut begun = None;
    for (nth, line) in text.lines().enumerate().skip(usize::from(is_csv)) {
        let request = match is_csv {
            true => azure(line, nth, &mut begun),
            false => mooncake(line, random),
        };
        match request {
            Some(request) if request.prompt > 0 && request.output > 0 => requests.push(request),
            Some(_) => {}
            None => return Err(TraceError::Malformed { path: name, line: nth + 1 }),
        }
    }
    if requests.is_empty() {
        return Err(TraceError::Empty { path: name });
    }
    requests.sort_by_key(|request| request.at);
    let name = path.file_stem().map_or(name, |stem| stem.to_string_lossy().into_owned());
    Ok(Workload { name, requests, unit: UNIT })
}

fn mooncake(line: &str, random: &mut fastrand::Rng) -> Option<Traced> {
    let line: MooncakeLine = serde_json::from_str(line).ok()?;
    if line.hash_ids.len() < line.input_length.div_ceil(UNIT) as usize {
        return None;
    }
    Some(Traced {
        at: Duration::from_millis(line.timestamp) + TICK.mul_f64(random.f64()),
        prompt: line.input_length,
        output: line.output_length,
        prefix: line.hash_ids.into(),
    })
}

/// A line of a trace of Azure (<https://github.com/Azure/AzurePublicDataset>, 2023): nothing is
/// known of prefixes, so none is shared.
fn azure(line: &str, nth: usize, begun: &mut Option<f64>) -> Option<Traced> {
    let mut fields = line.trim_end().split(',');
    let at = seconds_of_day(fields.next()?)?;
    let (prompt, output) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let begun = *begun.get_or_insert(at);
    let units = u64::from(u32::div_ceil(prompt, UNIT));
    let prefix = (0..units).map(|unit| mix(nth as u64 + 1, unit)).collect();
    let at = Duration::from_secs_f64((at - begun).max(0.0));
    Some(Traced { at, prompt, output, prefix })
}

/// Of `2023-11-16 18:17:03.9799600`; no trace crosses midnight.
fn seconds_of_day(timestamp: &str) -> Option<f64> {
    let (_, time) = timestamp.split_once(' ')?;
    let mut seconds = 0.0;
    for part in time.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(seconds)
}
