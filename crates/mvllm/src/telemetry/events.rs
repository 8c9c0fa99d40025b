//! The newest log lines, kept for the monitor. Whatever is worth a line to an operator is worth one
//! there, so the monitor's events are the log, without the access lines.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::ZonedDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::status::{EventLine, Severity};

/// How many are kept.
const KEPT: usize = 100;

/// The newest events; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentEvents {
    lines: Arc<Mutex<VecDeque<EventLine>>>,
}

impl RecentEvents {
    /// The newest last.
    pub(crate) fn latest(&self) -> Vec<EventLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: EventLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        while lines.len() > KEPT {
            lines.pop_front();
        }
    }
}

impl<S: Subscriber> Layer<S> for RecentEvents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let time = ZonedDateTime::now().strftime("%H:%M:%S").to_string();
        self.push(EventLine { time, severity, text: words.text() });
    }
}

/// The message, and of the values only the server: the rest is for the log.
#[derive(Default)]
struct Words {
    message: String,
    server: String,
}

impl Words {
    fn text(self) -> String {
        if self.server.is_empty() {
            return self.message;
        }
        format!("{}: {}", self.server, self.message)
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let target = match field.name() {
            "message" => &mut self.message,
            "server" => &mut self.server,
            _ => return,
        };
        // Writing to a String cannot fail.
        let _ = write!(target, "{value:?}");
    }
}
