//! `Retry-After`: what a server asks for, and what a client is told (RFC 9110, section 10.2.3).

use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// No server is believed for longer: a typing error must not take it out for a year. Nor is a
/// client told more: Anthropic's SDKs give up at once when asked to wait for more than a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the sender wants to be left alone, if it says so: in seconds or as a date.
pub(super) fn asked_for(headers: &HeaderMap, wall_clock: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // A number too large for the type is a very long time.
        true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
        false => {
            let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
            Duration::try_from(date.duration_since(wall_clock)).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST))
}

/// Puts what [`asked_for`] understood in the place of what stood there, in whole seconds: several
/// SDKs read nothing else.
pub(super) fn normalise(headers: &mut HeaderMap, wall_clock: Timestamp) {
    if let Some(asked) = asked_for(headers, wall_clock) {
        let seconds = asked.as_secs() + u64::from(asked.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        // 6 November 1994, 08:49:37 UTC.
        asked_for(&headers, Timestamp::from_second(784_111_777).unwrap())
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(understood("7"), Some(Duration::from_secs(7)));
        assert_eq!(understood("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(understood("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn absurd_times_are_cut_down() {
        assert_eq!(understood("1000000000"), Some(LONGEST));
        assert_eq!(understood("99999999999999999999999999"), Some(LONGEST));
        assert_eq!(understood("Sun, 06 Nov 2094 08:49:37 GMT"), Some(LONGEST));
    }

    #[test]
    fn what_is_neither_is_nothing() {
        for value in ["", "soon", "-1", "1.5", "06/11/1994"] {
            assert_eq!(understood(value), None, "{value:?}");
        }
    }

    #[test]
    fn clients_are_told_whole_seconds() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:47 GMT"));
        normalise(&mut headers, Timestamp::new(784_111_777, 500_000_000).unwrap());
        assert_eq!(headers[RETRY_AFTER], "10");
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        normalise(&mut headers, Timestamp::UNIX_EPOCH);
        assert_eq!(headers[RETRY_AFTER], "soon");
    }
}
