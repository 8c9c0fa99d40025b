//! One line a request. Of its headers and its body nothing is told, so no key can slip in.

use std::fmt::Write;
use std::time::Duration;

use mvllm_core::attempt::Failure;

use super::record::{Ending, Record, cause};
use crate::telemetry::access::{self, Value};

pub(super) fn tell(record: &Record) {
    if !access::is_open() {
        return;
    }
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e6;
    let since_begun = |at| Value::Seconds(seconds(record.age(at)));
    let attempts = record.failed.len() + usize::from(record.server.is_some());
    let failed = failed(record);
    let fields = [
        ("id", Some(Value::Text(&record.request.id))),
        ("client", Some(Value::Address(record.client.ip()))),
        ("model", record.model.as_deref().map(Value::Text)),
        ("server", record.server.as_deref().map(Value::Text)),
        ("attempts", Some(Value::Number(attempts as u64))),
        ("failed", failed.as_deref().map(Value::Text)),
        ("hedged", record.hedged.then_some(Value::True)),
        ("ending", Some(Value::Text(ending(record.ending)))),
        ("bytes", Some(Value::Number(record.bytes))),
        ("prompt_tokens", record.usage.prompt_tokens.map(Value::Number)),
        ("completion_tokens", record.usage.completion_tokens.map(Value::Number)),
        ("queue_s", record.sent.map(since_begun)),
        ("ttft_s", record.first.map(since_begun)),
        ("total_s", Some(since_begun(record.now()))),
    ];
    let (method, path, status) = (&record.method, &record.request.path, record.status);
    access::write(format_args!("{method} {path} {status}"), &fields);
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
