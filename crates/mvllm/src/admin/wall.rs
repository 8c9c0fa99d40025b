//! The core's moments as people read them.

use jiff::tz::TimeZone;
use mvllm_core::time::Timestamp;

use crate::clock::Clock;

/// Local time in ISO 8601 with microseconds and without a zone, as Python's `isoformat()` of a
/// naive `datetime` gives it and 0.1.0 did.
pub(super) fn iso(at: Timestamp, clock: Clock) -> String {
    let local = clock.wall(at).to_zoned_datetime(TimeZone::system());
    local.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}

/// Seconds of the Unix epoch.
pub(super) fn unix_seconds(at: Timestamp, clock: Clock) -> i64 {
    clock.wall(at).as_second()
}
