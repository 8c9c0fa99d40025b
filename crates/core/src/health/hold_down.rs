//! How long a server stays out, whatever it says: longer each time that it did not last.

use core::time::Duration;

use crate::time::Timestamp;

/// The longest hold-down, in check intervals: with 30 s between checks, five minutes. Also how long
/// a server must have been in for its ejections to be forgotten.
const LONGEST: u32 = 10;

/// The ejections of one server that are still remembered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HoldDown {
    ejections: u32,
    in_since: Timestamp,
}

impl HoldDown {
    /// The server was let in (again).
    pub(super) fn admitted(&mut self, now: Timestamp) {
        self.in_since = now;
    }

    /// The server is ejected: until when it stays out at least. The first time not at all: most
    /// servers are ejected because they were restarted, and are well as soon as they are back. Then
    /// one check interval, two, four and so on.
    pub(super) fn ejected(&mut self, check_interval: Duration, now: Timestamp) -> Timestamp {
        if now.since(self.in_since) >= check_interval.saturating_mul(LONGEST) {
            self.ejections = 0;
        }
        let intervals = match self.ejections {
            0 => 0,
            again => 1u32.checked_shl(again - 1).map_or(LONGEST, |n| n.min(LONGEST)),
        };
        self.ejections = self.ejections.saturating_add(1);
        now + check_interval.saturating_mul(intervals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(secs: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn each_relapse_is_held_out_twice_as_long_up_to_a_limit() {
        let mut hold_down = HoldDown::default();
        let mut now = at(1_000);
        let mut held = Vec::new();
        for _ in 0..40 {
            let until = hold_down.ejected(INTERVAL, now);
            held.push(until.since(now).as_secs());
            now = until;
            hold_down.admitted(now);
        }
        assert_eq!(held[..7], [0, 30, 60, 120, 240, 300, 300]);
        assert_eq!(held[39], 300);
    }

    #[test]
    fn a_server_that_lasted_has_a_clean_slate() {
        let mut hold_down = HoldDown::default();
        hold_down.ejected(INTERVAL, at(1_000));
        hold_down.admitted(at(1_000));
        assert_eq!(hold_down.ejected(INTERVAL, at(1_299)), at(1_329));
        hold_down.admitted(at(2_000));
        assert_eq!(hold_down.ejected(INTERVAL, at(2_300)), at(2_300));
    }
}
