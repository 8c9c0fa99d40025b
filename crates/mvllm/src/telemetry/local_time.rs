//! The time of log lines. Turning a moment into local time costs more than a line does, so it is
//! done once a second; time zones change by whole seconds.

use std::cell::RefCell;
use std::fmt;
use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

thread_local! {
    static LATEST: RefCell<Second> = const { RefCell::new(Second { unix: i64::MIN, text: String::new() }) };
}

/// One second, as people write it.
struct Second {
    unix: i64,
    text: String,
}

/// `2026-11-23 15:36:07.512`.
pub(super) struct Millis;

impl FormatTime for Millis {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = Timestamp::now();
        with_second(now, |second| writer.write_str(second))?;
        write!(writer, ".{:03}", now.subsec_millisecond())
    }
}

/// Writes `at` as `2026-11-23 15:36:07`.
pub(super) fn write_seconds(at: Timestamp, writer: &mut impl io::Write) -> io::Result<()> {
    with_second(at, |second| writer.write_all(second.as_bytes()))
}

/// Passes `2026-11-23 15:36:07` to `take`.
pub(super) fn with_second<T>(at: Timestamp, take: impl FnOnce(&str) -> T) -> T {
    LATEST.with_borrow_mut(|latest| {
        if latest.unix != at.as_second() {
            latest.unix = at.as_second();
            let local = at.to_zoned_datetime(TimeZone::system());
            latest.text = local.strftime("%Y-%m-%d %H:%M:%S").to_string();
        }
        take(&latest.text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_is_written_as_itself_whatever_was_written_before() {
        for millis in [5_000, 5_999, 6_000, 5_500, 90_000_000_000] {
            let at = Timestamp::from_millisecond(millis).unwrap();
            let text = with_second(at, str::to_owned);
            let due =
                at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
            assert_eq!(text, due);
        }
    }
}
