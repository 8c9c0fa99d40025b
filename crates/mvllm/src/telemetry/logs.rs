//! Log lines on the console: time, level, message, and the values that belong to it.

use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt};

use super::access::{self, Destinations as AccessDestinations};
use super::events::RecentEvents;
use super::files::{self, LogFiles};
use super::local_time::Millis;
use super::outbox::{Postman, outbox};

/// The levels of 0.1.0, which were loguru's, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLevel(LevelFilter);

#[derive(Debug, thiserror::Error)]
#[error("expected one of trace, debug, info, success, warning, error, critical")]
pub(crate) struct UnknownLevel;

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Ok(Self(match text.trim().to_ascii_lowercase().as_str() {
            "trace" => LevelFilter::TRACE,
            "debug" => LevelFilter::DEBUG,
            "info" | "success" => LevelFilter::INFO,
            "warn" | "warning" => LevelFilter::WARN,
            "error" | "critical" => LevelFilter::ERROR,
            _ => return Err(UnknownLevel),
        }))
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destinations<'a> {
    pub(crate) console: bool,
    pub(crate) folder: Option<&'a Path>,
}

/// Logging under way. Dropped, it writes what is left.
#[derive(Debug)]
pub(crate) struct Logging {
    /// The newest lines, for the monitor.
    pub(crate) events: RecentEvents,
    _files: Option<LogFiles>,
    _console: Option<Postman>,
}

/// Starts logging, once in the life of the process. Where no files can be written there is a
/// warning instead, and the console.
pub(crate) fn start(level: LogLevel, to: Destinations<'_>) -> Logging {
    let events = RecentEvents::default();
    let files = to.folder.map(|folder| (folder, files::layers(folder)));
    let (layer, files, refused) = match files {
        None => (None, None, None),
        Some((_, Ok((layer, files)))) => (Some(layer), Some(files), None),
        Some((folder, Err(error))) => (None, None, Some((folder, error))),
    };
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Without a thread there is no console: a machine that has none for it cannot be told of it.
    let console = (to.console || refused.is_some()).then(|| outbox(std::io::stdout()).ok());
    let (console, postman) = console.flatten().unzip();
    if level.0 >= LevelFilter::INFO {
        let (all, structured) = files.as_ref().map(LogFiles::for_access).unzip();
        access::open(AccessDestinations { console: console.clone(), all, structured });
    }
    // Each line is there when its author goes on: it may be the last that this process does.
    let console = console.map(|console| {
        fmt::layer()
            .with_ansi(colours)
            .with_target(false)
            .with_timer(Millis)
            .with_writer(console.prompt())
    });
    let subscriber =
        Registry::default().with(layer).with(console).with(events.clone()).with(level.0);
    // Only fails where a test has set up its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some((folder, error)) = refused {
        warn!(
            "no log files, because {} cannot be written: {error}. Choose another folder with \
             --log-dir, or none with --log-dir none.",
            folder.display()
        );
    }
    Logging { events, _files: files, _console: postman }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_in_any_case_and_by_logurus_names() {
        assert_eq!("WARNING".parse::<LogLevel>().unwrap().0, LevelFilter::WARN);
        assert_eq!("Info".parse::<LogLevel>().unwrap().0, LevelFilter::INFO);
        assert!("loud".parse::<LogLevel>().is_err());
    }
}
