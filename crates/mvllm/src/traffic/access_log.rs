//! One line a request. Of its headers and its body nothing is told, so no key can slip in.

use std::fmt::Write;
use std::time::Duration;

use mvllm_core::attempt::Failure;
use tracing::info;

use super::record::{Ending, Record, cause};

/// The target under which the lines are logged, to be told from all others.
pub(crate) const TARGET: &str = "mvllm::access";

pub(super) fn tell(record: &Record) {
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e6;
    let since_begun = |at| seconds(record.age(at));
    info!(
        target: TARGET,
        id = record.request.id,
        client = %record.client.ip(),
        model = record.model.as_deref(),
        server = record.server.as_deref(),
        attempts = record.failed.len() + usize::from(record.server.is_some()),
        failed = failed(record),
        hedged = record.hedged.then_some(true),
        ending = ending(record.ending),
        bytes = record.bytes,
        prompt_tokens = record.usage.prompt_tokens,
        completion_tokens = record.usage.completion_tokens,
        queue_s = record.sent.map(since_begun),
        ttft_s = record.first.map(since_begun),
        total_s = since_begun(record.now()),
        "{} {} {}",
        record.method,
        record.request.path,
        record.status,
    );
}

/// Where attempts failed, and why: `http://gpu-1:8000 connection_lost, …`.
fn failed(record: &Record) -> Option<String> {
    if record.failed.is_empty() {
        return None;
    }
    let mut text = String::new();
    for (server, failure) in &record.failed {
        let comma = if text.is_empty() { "" } else { ", " };
        let status = match failure {
            Failure::ServerError(status) | Failure::Overloaded(status) => format!(" {status}"),
            _ => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{server} {}{status}", cause(*failure));
    }
    Some(text)
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Abandoned => "client_left",
        Ending::Complete => "complete",
        Ending::Refused(reason) | Ending::Broken(reason) => reason,
    }
}
