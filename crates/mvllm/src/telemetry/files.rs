//! The log files of 0.1.0: the same names, sizes and ages; what is old is compressed.

use std::io;
use std::path::Path;

use chrono::TimeDelta;
use file_rotate::compression::Compression;
use file_rotate::suffix::{AppendTimestamp, FileLimit};
use file_rotate::{ContentLimit, FileRotate};
use jiff::Timestamp;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::local_time::with_second;
use super::outbox::{Outbox, Postman, outbox};

const MEGABYTE: usize = 1_000_000;

/// One file: its name, the size at which it is put aside, and how long what was put aside is kept.
struct LogFile {
    name: &'static str,
    rotate_at: usize,
    keep_days: i64,
}

const ALL: LogFile = LogFile { name: "mvllm.log", rotate_at: 10 * MEGABYTE, keep_days: 7 };
const ERRORS: LogFile =
    LogFile { name: "mvllm-error.log", rotate_at: 10 * MEGABYTE, keep_days: 30 };
const STRUCTURED: LogFile =
    LogFile { name: "mvllm-structured.log", rotate_at: 50 * MEGABYTE, keep_days: 7 };

/// Writes what is left when dropped.
#[derive(Debug)]
pub(crate) struct LogFiles {
    for_access: (Outbox, Outbox),
    _postmen: Vec<Postman>,
}

impl LogFiles {
    /// Where access lines go as well: as text, and as JSON.
    pub(super) fn for_access(&self) -> (Outbox, Outbox) {
        self.for_access.clone()
    }
}

/// The layers that write the files in `folder`, which is made if it is not there. They write on
/// threads of their own: a slow disk costs log lines, not requests.
///
/// # Errors
/// If nothing can be written there.
pub(super) fn layers<S>(folder: &Path) -> io::Result<(impl Layer<S> + use<S>, LogFiles)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    std::fs::create_dir_all(folder)?;
    let mut postmen = Vec::new();
    let mut writer = |file: &LogFile| {
        let (writer, postman) = file.open(folder)?;
        postmen.push(postman);
        io::Result::Ok(writer)
    };
    let (all, structured) = (writer(&ALL)?, writer(&STRUCTURED)?);
    let lines = fmt::layer().event_format(Line).with_ansi(false).with_writer(all.clone());
    let errors = fmt::layer()
        .event_format(Line)
        .with_ansi(false)
        .with_writer(writer(&ERRORS)?)
        .with_filter(LevelFilter::from_level(Level::ERROR));
    let json = fmt::layer().json().flatten_event(true).with_writer(structured.clone());
    let files = LogFiles { for_access: (all, structured), _postmen: postmen };
    Ok((lines.and_then(errors).and_then(json), files))
}

impl LogFile {
    fn open(&self, folder: &Path) -> io::Result<(Outbox, Postman)> {
        let path = folder.join(self.name);
        // The library below opens lazily and panics; better to know now.
        std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
        let age = FileLimit::Age(TimeDelta::days(self.keep_days));
        let rotated = FileRotate::new(
            path,
            AppendTimestamp::default(age),
            ContentLimit::BytesSurpassed(self.rotate_at),
            Compression::OnRotate(0),
            None,
        );
        outbox(rotated)
    }
}

/// `2026-11-23 15:36:07 | INFO     | module:line - message values`, as 0.1.0 had it.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let meta = event.metadata();
        let level = match *meta.level() {
            Level::WARN => "WARNING",
            Level::ERROR => "ERROR",
            Level::INFO => "INFO",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "TRACE",
        };
        with_second(Timestamp::now(), |second| writer.write_str(second))?;
        write!(writer, " | {level:<8} | {}:{} - ", meta.target(), meta.line().unwrap_or(0))?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn a_file_that_has_grown_is_put_aside_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile { rotate_at: 1_000, ..ALL };
        let (outbox, postman) = file.open(folder.path()).unwrap();
        for line in 0..100 {
            outbox
                .prompt()
                .make_writer()
                .write_all(format!("line {line:03} of a log that grows\n").as_bytes())
                .unwrap();
        }
        // Waits until all is written.
        drop(postman);
        let names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.contains(&"mvllm.log".to_owned()), "{names:?}");
        let aside: Vec<_> = names.iter().filter(|name| *name != "mvllm.log").collect();
        assert!(!aside.is_empty() && aside.iter().all(|name| name.ends_with(".gz")), "{names:?}");
    }

    #[test]
    fn where_a_file_is_in_the_way_there_are_no_log_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs");
        std::fs::write(&path, "").unwrap();
        assert!(layers::<tracing_subscriber::Registry>(&path).is_err());
    }
}
