//! Log lines on the console: time, level, message, and the values that belong to it.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use jiff::ZonedDateTime;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

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

/// Starts logging, once in the life of the process.
pub(crate) fn start(level: LogLevel) {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level.0)
        .with_ansi(colours)
        .with_target(false)
        .with_timer(LocalTime)
        .finish();
    // Only fails where a test has set up its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S%.3f"))
    }
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
