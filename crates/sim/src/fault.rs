//! Ways for a server to fail, switched on and off while it runs.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

/// What is wrong with a server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    #[default]
    Healthy,
    /// `/health` and `/metrics` answer, requests are accepted, no token ever comes. Without a count
    /// the engines themselves stand still and go on from there when healed.
    Hang,
    /// The process is stopped: connections are accepted (by the kernel), nothing is answered.
    FreezeAll,
    /// Requests get 500.
    #[serde(rename = "error_500")]
    Error500,
    /// The engine has died: requests get 500 in vLLM's words, `/health` the given status.
    EngineDead {
        /// What `/health` answers: vLLM says 503, once it has noticed.
        #[serde(default = "service_unavailable")]
        health: u16,
    },
    /// Requests get 503 in the words of `--max-num-queued-reqs`.
    QueueFull,
    /// A stream is cut.
    DieAfterEvents {
        /// After so many events.
        events: u32,
        /// In this way.
        #[serde(default)]
        how: Death,
    },
    /// The connection is closed on receipt of a request, before any answer.
    CloseBeforeHead,
    /// `/health` takes its time.
    SlowHealth {
        /// How long.
        delay_ms: u64,
    },
    /// `/metrics` cannot be relied on.
    Metrics {
        /// In this way.
        how: BadMetrics,
    },
}

/// How a stream ends before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// The connection is reset (RST), as when a host disappears behind a firewall.
    #[default]
    Reset,
    /// The connection is closed in the middle of the chunked body, as when a process is killed.
    Truncated,
    /// The body ends properly, the stream does not: no `[DONE]`, no finish reason.
    NoDone,
    /// As when vLLM's engine dies under it: chat and completions say an error and `[DONE]`, messages
    /// an error event, responses are truncated.
    ErrorEvent,
}

/// What is wrong with `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadMetrics {
    /// 200 with something else than metrics.
    Garbage,
    /// All gauges are `NaN`.
    Nan,
    /// The answer comes after ten seconds, beyond any scrape timeout worth its name.
    Slow,
}

/// The delay of [`BadMetrics::Slow`].
pub(crate) const SLOW_METRICS: Duration = Duration::from_secs(10);

fn service_unavailable() -> u16 {
    503
}

/// What a request is for, as far as faults are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Health,
    Metrics,
    /// Whatever a model has to answer.
    Model,
    Other,
}

impl Fault {
    fn affects(&self, purpose: Purpose) -> bool {
        match self {
            Self::Healthy => false,
            Self::FreezeAll => true,
            Self::SlowHealth { .. } => purpose == Purpose::Health,
            Self::Metrics { .. } => purpose == Purpose::Metrics,
            Self::EngineDead { .. } => matches!(purpose, Purpose::Model | Purpose::Health),
            Self::Hang
            | Self::Error500
            | Self::QueueFull
            | Self::DieAfterEvents { .. }
            | Self::CloseBeforeHead => purpose == Purpose::Model,
        }
    }
}

/// The fault that is on and for how many requests more.
#[derive(Debug)]
pub(crate) struct Faults {
    current: watch::Sender<Armed>,
}

#[derive(Clone, Debug, Default)]
struct Armed {
    fault: Fault,
    left: Option<u32>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { current: watch::Sender::default() }
    }

    pub(crate) fn set(&self, fault: Fault, count: Option<u32>) {
        self.current.send_replace(Armed { fault, left: count });
    }

    /// Whether the engines stand still, rather than single requests.
    pub(crate) fn stops_engines(&self) -> bool {
        let armed = self.current.borrow();
        matches!(armed.fault, Fault::Hang | Fault::FreezeAll) && armed.left.is_none()
    }

    /// The fault that strikes a request. Uses up one of the count.
    pub(crate) fn strike(&self, purpose: Purpose) -> Fault {
        let mut struck = Fault::Healthy;
        self.current.send_if_modified(|armed| {
            if !armed.fault.affects(purpose) {
                return false;
            }
            struck = armed.fault.clone();
            match &mut armed.left {
                // The engines stand still: the request gets as far as it can, and on when healed.
                None if armed.fault == Fault::Hang => {
                    struck = Fault::Healthy;
                    return false;
                }
                None => return false,
                Some(left) => *left = left.saturating_sub(1),
            }
            if armed.left == Some(0) {
                *armed = Armed::default();
            }
            true
        });
        struck
    }

    /// Waits until the process is no longer frozen.
    pub(crate) async fn thawed(&self) {
        let mut current = self.current.subscribe();
        // The sender lives as long as `self`: the wait cannot fail.
        let _ = current.wait_for(|armed| armed.fault != Fault::FreezeAll).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_strikes_so_many_requests_and_is_over() {
        let faults = Faults::new();
        faults.set(Fault::QueueFull, Some(2));
        assert_eq!(faults.strike(Purpose::Health), Fault::Healthy);
        assert_eq!(faults.strike(Purpose::Model), Fault::QueueFull);
        assert_eq!(faults.strike(Purpose::Model), Fault::QueueFull);
        assert_eq!(faults.strike(Purpose::Model), Fault::Healthy);
    }

    #[test]
    fn an_uncounted_fault_stays_until_it_is_replaced() {
        let faults = Faults::new();
        faults.set(Fault::Hang, None);
        assert!(faults.stops_engines());
        faults.set(Fault::Error500, None);
        assert!(!faults.stops_engines());
        assert_eq!(faults.strike(Purpose::Model), Fault::Error500);
        assert_eq!(faults.strike(Purpose::Model), Fault::Error500);
        faults.set(Fault::Healthy, None);
        assert_eq!(faults.strike(Purpose::Model), Fault::Healthy);
    }

    #[test]
    fn faults_are_read_from_json() {
        let check = |json: &str, fault: Fault| {
            assert_eq!(serde_json::from_str::<Fault>(json).unwrap(), fault);
        };
        check(r#"{"kind":"freeze_all"}"#, Fault::FreezeAll);
        check(r#"{"kind":"error_500"}"#, Fault::Error500);
        check(r#"{"kind":"engine_dead"}"#, Fault::EngineDead { health: 503 });
        check(
            r#"{"kind":"die_after_events","events":3,"how":"no_done"}"#,
            Fault::DieAfterEvents { events: 3, how: Death::NoDone },
        );
        check(r#"{"kind":"metrics","how":"nan"}"#, Fault::Metrics { how: BadMetrics::Nan });
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"gremlins"}"#).is_err());
    }
}
