//! Whether a server may be sent requests: the states, and the only transitions between them.
//!
//! Three kinds of evidence count. *Checks* ask the server whether it is well (`/health`), which it
//! may believe although its engine hangs. *Requests* are what really happened. *Probes* are
//! requests of our own, one token long, where a check cannot tell and no client is to be the
//! guinea pig. Answers that blame the client (4xx) or that speak of load (429, a full queue) are no
//! evidence and never arrive here.
//!
//! ```text
//!              first good check            failed request
//!   Unproven ──────────────────▶ Healthy ◀───────────────▶ Suspect
//!                                   │ ▲     answered, or old   │
//!                     no progress   ▼ │ progress, answer       │ no progress
//!                                 UnderTest ◀──────────────────┘
//!                                   │ └── probe cannot tell ──▶ Probation ── answered ──▶ Healthy
//!        any of them ── eject ──▶ Ejected ── probe cannot tell ───▲  │
//!                                   │  ▲──────── failed ─────────────┘
//!                                   └──── proof of life, after the hold-down ──▶ Healthy
//! ```

mod handicap;
mod hold_down;
mod progress;
mod record;
mod rules;

use core::time::Duration;

use crate::time::Timestamp;

pub use handicap::{Handicap, RAMP};
pub(crate) use progress::ProgressWatch;
pub use record::HealthRecord;
pub use rules::HealthRules;

/// The state of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Never checked yet: gets nothing.
    Unproven,
    /// Gets requests.
    Healthy,
    /// A request failed there lately: gets requests, and one more failure may eject it. 0.1.0's
    /// dashboards know it as `checking`.
    Suspect,
    /// Has requests and gets nowhere with them: gets more only if no other server can take them,
    /// until a probe or a sign of progress decides.
    UnderTest {
        /// Since when.
        since: Timestamp,
    },
    /// Back without proof, as there was none to be had: gets one request at a time until one is
    /// answered.
    Probation,
    /// Gets nothing as long as another server can answer.
    Ejected {
        /// Since when.
        since: Timestamp,
        /// What decided it.
        cause: Fault,
        /// Before that moment only an answered request brings it back.
        until: Timestamp,
        /// What brings it back after that.
        proof: Proof,
    },
}

impl Health {
    /// Whether it is in: requests go there, though not as many or as soon as to a healthy one.
    pub const fn is_routable(self) -> bool {
        matches!(self, Self::Healthy | Self::Suspect | Self::UnderTest { .. } | Self::Probation)
    }

    /// Whether it is time to ask the server for a token.
    pub fn wants_probe(self, now: Timestamp) -> bool {
        match self {
            Self::UnderTest { .. } => true,
            Self::Ejected { until, proof, .. } => proof == Proof::Inference && until <= now,
            Self::Unproven | Self::Healthy | Self::Suspect | Self::Probation => false,
        }
    }

    /// Whether it is out or in doubt because it did not answer *us*, in our time. The server may
    /// see that differently; a refused connection or a bad answer leaves no room for that.
    pub const fn rests_on_silence(self) -> bool {
        match self {
            Self::UnderTest { .. } => true,
            Self::Ejected { cause, .. } => cause.is_silence(),
            Self::Unproven | Self::Healthy | Self::Suspect | Self::Probation => false,
        }
    }
}

/// What an ejected server has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A good health check: it failed only those, or it was not there at all and is a new process.
    Check,
    /// An answered probe or request: a hung or dead engine passes every check.
    Inference,
}

/// Something that a well server does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody accepts connections there.
    Unreachable,
    /// The connection broke.
    Reset,
    /// No byte and no progress within the limit.
    Silent,
    /// It has requests, and neither they nor its counters nor a probe show that it works on them.
    NoProgress,
    /// Its engine has died, by its own words. vLLM never recovers from that; it listens for some
    /// seconds more, or for ever with `VLLM_KEEP_ALIVE_ON_ENGINE_DEATH`
    /// (entrypoints/launchers/launcher.py).
    EngineDead,
    /// An HTTP status that speaks of the server's own failure.
    Status(u16),
    /// An error event in place of an answer.
    ErrorEvent,
    /// Bytes that are not HTTP.
    Malformed,
    /// Too many of the latest checks failed.
    SuccessRate,
    /// The checks succeed, but take too long.
    SlowChecks,
}

impl Fault {
    /// Whether it is one of time alone: then it may be ours.
    pub const fn is_silence(self) -> bool {
        matches!(self, Self::Silent | Self::NoProgress | Self::SuccessRate | Self::SlowChecks)
    }

    /// Whether one is enough.
    const fn is_final(self) -> bool {
        matches!(self, Self::EngineDead)
    }
}

/// One active check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub found: Result<(), Fault>,
}

/// What a probe brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A token.
    Answered,
    /// None, by the server's fault.
    Failed(Fault),
    /// Nothing that tells: the server has no model that can be asked like that, or wants a key.
    CannotTell,
}

/// The figures behind a state, for people and dashboards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthFigures {
    /// Checks, or requests, that failed in a row; the larger.
    pub consecutive_failures: u32,
    /// Share of the checks in the window that succeeded; 1 before the first.
    pub success_rate: f64,
    /// Mean over the window.
    pub avg_response_time: Duration,
    /// How long the latest check took.
    pub last_response_time: Option<Duration>,
    /// When the latest check ended.
    pub last_check: Option<Timestamp>,
    /// Checks since the start.
    pub total_checks: u64,
}

#[cfg(test)]
mod tests;
