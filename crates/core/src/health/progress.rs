//! Whether a server that has requests gets anywhere with them.

use core::time::Duration;

use crate::time::Timestamp;

/// Watches one server, once a second or so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProgressWatch {
    quiet_since: Timestamp,
}

impl ProgressWatch {
    /// How long the server has had requests of this router without a sign of progress on any of
    /// them, nor in its own counters. A server without requests owes nothing.
    pub(crate) fn quiet_for(
        &mut self,
        in_flight: u32,
        progress_at: Timestamp,
        now: Timestamp,
    ) -> Duration {
        let since = if in_flight == 0 { now } else { progress_at };
        self.quiet_since = self.quiet_since.max(since);
        now.since(self.quiet_since)
    }

    /// What was not seen so far is not held against the server: nobody looked, or it has answered a
    /// probe. (That is no progress of its requests, whose own patience goes on running out.)
    pub(crate) fn begin_anew(&mut self, now: Timestamp) {
        self.quiet_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_secs(secs))
    }

    #[test]
    fn an_idle_server_is_not_quiet_and_its_first_request_starts_the_count() {
        let mut watch = ProgressWatch::default();
        assert_eq!(watch.quiet_for(0, at(0), at(100)), Duration::ZERO);
        assert_eq!(watch.quiet_for(1, at(0), at(107)), Duration::from_secs(7));
    }

    #[test]
    fn any_progress_breaks_the_quiet() {
        let mut watch = ProgressWatch::default();
        watch.begin_anew(at(10));
        assert_eq!(watch.quiet_for(3, at(0), at(15)), Duration::from_secs(5));
        assert_eq!(watch.quiet_for(3, at(14), at(16)), Duration::from_secs(2));
        assert_eq!(watch.quiet_for(0, at(14), at(17)), Duration::ZERO);
    }
}
