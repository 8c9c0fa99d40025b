//! Whether a server may be sent requests: the states, and the only transitions between them.
//!
//! Two kinds of evidence count. *Active checks* ask the server whether it is well; *passive*
//! evidence is what happened to real requests. Answers that blame the client (4xx) or that speak of
//! load (429, a full queue) are no evidence and never arrive here.

use core::time::Duration;

use crate::time::Timestamp;
use crate::window::Window;

/// What counts as healthy; every field is a key of `servers.toml`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthRules {
    /// `enable_active_health_check`.
    pub active_checks: bool,
    /// `failure_threshold`: failed requests in a row that eject.
    pub failure_threshold: u32,
    /// `auto_recovery_threshold`: how long a failed request is held against a server, and, where
    /// there are no active checks, how long an ejection lasts.
    pub recovery_after: Duration,
    /// `health_check_consecutive_failures`.
    pub consecutive_failures: u32,
    /// `health_check_min_success_rate`, over the window.
    pub min_success_rate: f64,
    /// `health_check_max_response_time`, the mean over the window.
    pub max_response_time: Duration,
    /// `health_check_window_size`.
    pub window: usize,
}

/// The state of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Never checked yet: gets nothing.
    Unproven,
    /// Gets requests.
    Healthy,
    /// Requests failed there lately, or it has just come back: gets requests, and one more failure
    /// may eject it. 0.1.0's dashboards know it as `checking`.
    Suspect,
    /// Gets nothing as long as another server can answer.
    Ejected {
        /// Since when.
        since: Timestamp,
        /// What decided it.
        cause: Fault,
    },
}

impl Health {
    /// Whether requests go there as a matter of course.
    pub const fn is_routable(self) -> bool {
        matches!(self, Self::Healthy | Self::Suspect)
    }
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

/// One active check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub found: Result<(), Fault>,
}

/// All that is known of one server's health.
#[derive(Debug, Clone)]
pub struct HealthRecord {
    state: Health,
    window: Window,
    consecutive_failures: u32,
    total_checks: u64,
    last_check: Option<(Timestamp, Check)>,
    request_failures: u32,
    last_request_failure: Timestamp,
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

impl HealthRecord {
    /// A new server: unproven, or trusted where nobody will ever check it.
    pub fn new(rules: &HealthRules) -> Self {
        Self {
            state: if rules.active_checks { Health::Unproven } else { Health::Healthy },
            window: Window::new(),
            consecutive_failures: 0,
            total_checks: 0,
            last_check: None,
            request_failures: 0,
            last_request_failure: Timestamp::ZERO,
        }
    }

    /// The present state.
    pub const fn state(&self) -> Health {
        self.state
    }

    /// The figures behind it.
    pub fn figures(&self) -> HealthFigures {
        HealthFigures {
            consecutive_failures: self.consecutive_failures.max(self.request_failures),
            success_rate: self.window.success_rate(),
            avg_response_time: self.window.mean_time(),
            last_response_time: self.last_check.map(|(_, check)| check.took),
            last_check: self.last_check.map(|(at, _)| at),
            total_checks: self.total_checks,
        }
    }

    /// Takes in an active check.
    pub fn checked(&mut self, check: Check, rules: &HealthRules, now: Timestamp) {
        self.total_checks += 1;
        self.last_check = Some((now, check));
        match (self.state, check.found) {
            (Health::Ejected { cause, .. }, Ok(())) => self.come_back(cause, check, rules),
            (_, Ok(())) => {
                self.consecutive_failures = 0;
                self.window.push(check, rules.window);
                self.judge_success(rules, now);
            }
            (_, Err(fault)) => {
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                self.window.push(check, rules.window);
                self.judge_failure(fault, rules, now);
            }
        }
    }

    /// Takes in a request that failed by the server's fault.
    pub fn request_failed(&mut self, fault: Fault, rules: &HealthRules, now: Timestamp) {
        if now.since(self.last_request_failure) > rules.recovery_after {
            self.request_failures = 0;
        }
        self.request_failures = self.request_failures.saturating_add(1);
        self.last_request_failure = now;
        if self.request_failures >= rules.failure_threshold {
            self.eject(fault, now);
        } else if self.state == Health::Healthy {
            self.state = Health::Suspect;
        }
    }

    /// Takes in a request that the server answered: the best proof there is.
    pub fn request_succeeded(&mut self) {
        self.request_failures = 0;
        match self.state {
            Health::Suspect => self.state = Health::Healthy,
            Health::Ejected { .. } => {
                self.consecutive_failures = 0;
                self.window.clear();
                self.state = Health::Healthy;
            }
            Health::Unproven | Health::Healthy => {}
        }
    }

    /// Lets time pass: old failures are forgotten, and where nobody checks, an ejection ends.
    pub fn tick(&mut self, rules: &HealthRules, now: Timestamp) {
        match self.state {
            Health::Unproven if !rules.active_checks => self.state = Health::Healthy,
            Health::Suspect if now.since(self.last_request_failure) > rules.recovery_after => {
                self.request_failures = 0;
                self.state = Health::Healthy;
            }
            Health::Ejected { since, .. }
                if !rules.active_checks && now.since(since) >= rules.recovery_after =>
            {
                self.on_probation(rules);
            }
            _ => {}
        }
    }

    fn judge_success(&mut self, rules: &HealthRules, now: Timestamp) {
        if self.window.mean_time() > rules.max_response_time {
            self.eject(Fault::SlowChecks, now);
        } else if self.state == Health::Unproven {
            self.state = Health::Healthy;
        }
    }

    fn judge_failure(&mut self, fault: Fault, rules: &HealthRules, now: Timestamp) {
        let unproven = self.state == Health::Unproven;
        if unproven || self.consecutive_failures >= rules.consecutive_failures {
            self.eject(fault, now);
        } else if self.window.assumed_success_rate(rules.window) < rules.min_success_rate {
            self.eject(Fault::SuccessRate, now);
        }
    }

    fn eject(&mut self, cause: Fault, now: Timestamp) {
        if !matches!(self.state, Health::Ejected { .. }) {
            self.state = Health::Ejected { since: now, cause };
        }
    }

    /// One good check decides on the return: 0.1.0 demanded a lifetime success rate, so that an
    /// hour of absence took four hours to forget.
    ///
    /// A server that was not there at all and is again is a new process, with no past.
    fn come_back(&mut self, cause: Fault, check: Check, rules: &HealthRules) {
        self.window.clear();
        self.window.push(check, rules.window);
        self.consecutive_failures = 0;
        if cause == Fault::Unreachable {
            self.request_failures = 0;
        }
        if self.request_failures > 0 {
            self.on_probation(rules);
        } else {
            self.state = Health::Healthy;
        }
    }

    /// Back after failed requests. A check has said only that the server *would* answer, so the
    /// next failed request ejects it again at once.
    fn on_probation(&mut self, rules: &HealthRules) {
        self.request_failures = rules.failure_threshold.saturating_sub(1);
        self.state = if self.request_failures > 0 { Health::Suspect } else { Health::Healthy };
    }
}

#[cfg(test)]
mod tests;
