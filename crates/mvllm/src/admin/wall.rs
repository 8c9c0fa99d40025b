//! The core's moments as people read them.

use jiff::SignedDuration;
use jiff::ZonedDateTime;
use mvllm_core::time::Timestamp;

use crate::clock::Clock;

/// Local time in ISO 8601 with microseconds and without a zone, as Python's `isoformat()` of a
/// naive `datetime` gives it and 0.1.0 did.
pub(super) fn iso(at: Timestamp, clock: Clock) -> String {
    let ago = SignedDuration::try_from(clock.now().since(at)).unwrap_or(SignedDuration::MAX);
    let then = ZonedDateTime::now().saturating_sub(ago);
    then.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}

/// Seconds of the Unix epoch.
pub(super) fn unix_seconds(at: Timestamp, clock: Clock) -> i64 {
    let ago = SignedDuration::try_from(clock.now().since(at)).unwrap_or(SignedDuration::MAX);
    ZonedDateTime::now().saturating_sub(ago).timestamp().as_second()
}
