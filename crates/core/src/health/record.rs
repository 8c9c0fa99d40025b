//! The health of one server: one function for each event, one for each transition.

use crate::time::Timestamp;
use crate::window::Window;

use super::hold_down::HoldDown;
use super::{Check, Fault, Handicap, Health, HealthFigures, HealthRules, Probe, Proof};

/// All that is known of one server's health.
#[derive(Debug, Clone)]
pub struct HealthRecord {
    state: Health,
    hold_down: HoldDown,
    handicap: Handicap,
    window: Window,
    consecutive_failures: u32,
    total_checks: u64,
    last_check: Option<(Timestamp, Check)>,
    request_failures: u32,
    last_request_failure: Timestamp,
}

impl HealthRecord {
    /// A new server: unproven, or trusted where nobody will ever check it.
    pub fn new(rules: &HealthRules) -> Self {
        Self {
            state: if rules.active_checks { Health::Unproven } else { Health::Healthy },
            hold_down: HoldDown::default(),
            handicap: Handicap::default(),
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

    /// What it has against it in the choice of a server.
    pub const fn handicap(&self) -> Handicap {
        self.handicap
    }

    /// The figures behind the state.
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
        match check.found {
            Ok(()) => self.check_succeeded(check, rules, now),
            Err(fault) => self.check_failed(fault, check, rules, now),
        }
    }

    fn check_succeeded(&mut self, check: Check, rules: &HealthRules, now: Timestamp) {
        self.consecutive_failures = 0;
        match self.state {
            // One good check decides: 0.1.0 demanded a lifetime success rate, so that an hour of
            // absence took four hours to forget.
            Health::Ejected { until, proof: Proof::Check, .. } => {
                if until <= now && check.took <= rules.max_response_time {
                    self.come_back(now);
                    self.window.push(check, rules.window);
                }
            }
            Health::Ejected { proof: Proof::Inference, .. } => {}
            Health::Unproven
            | Health::Healthy
            | Health::Suspect
            | Health::UnderTest { .. }
            | Health::Probation => {
                self.window.push(check, rules.window);
                if self.window.mean_time() > rules.max_response_time {
                    self.eject(Fault::SlowChecks, Proof::Check, rules, now);
                } else if self.state == Health::Unproven {
                    self.admit(now);
                }
            }
        }
    }

    fn check_failed(&mut self, fault: Fault, check: Check, rules: &HealthRules, now: Timestamp) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.window.push(check, rules.window);
        let unproven = self.state == Health::Unproven;
        if fault.is_final() {
            self.eject(fault, Proof::Inference, rules, now);
        } else if unproven || self.consecutive_failures >= rules.consecutive_failures {
            self.eject(fault, Proof::Check, rules, now);
        } else if self.window.assumed_success_rate(rules.window) < rules.min_success_rate {
            self.eject(Fault::SuccessRate, Proof::Check, rules, now);
        }
    }

    /// Takes in what a probe brought.
    pub fn probed(&mut self, probe: Probe, rules: &HealthRules, now: Timestamp) {
        match (self.state, probe) {
            (_, Probe::Failed(fault)) if fault.is_final() => {
                self.eject(fault, Proof::Inference, rules, now);
            }
            (Health::UnderTest { .. }, Probe::Failed(fault)) => {
                self.eject(fault, proof_against(fault), rules, now);
            }
            (Health::UnderTest { .. }, Probe::Answered) => self.trust_again(),
            (Health::UnderTest { .. }, Probe::CannotTell) => self.try_out(),
            (Health::Ejected { until, .. }, Probe::Answered) if until <= now => self.come_back(now),
            // No client is to find out what a second probe might.
            (Health::Ejected { since, until, .. }, Probe::CannotTell)
                if until.max(since + rules.check_interval) <= now =>
            {
                self.try_out();
            }
            // What a probe was to decide has been decided meanwhile.
            _ => {}
        }
    }

    /// Takes in a request that failed by the server's fault.
    pub fn request_failed(&mut self, fault: Fault, rules: &HealthRules, now: Timestamp) {
        self.handicap.failed(now);
        self.count_failure(fault, rules, now);
    }

    /// Nobody accepts connections where the metrics should be: what happens to requests there needs
    /// no trying.
    pub fn scrape_refused(&mut self, rules: &HealthRules, now: Timestamp) {
        self.count_failure(Fault::Unreachable, rules, now);
    }

    fn count_failure(&mut self, fault: Fault, rules: &HealthRules, now: Timestamp) {
        if now.since(self.last_request_failure) > rules.recovery_after {
            self.request_failures = 0;
        }
        self.request_failures = self.request_failures.saturating_add(1);
        self.last_request_failure = now;
        let enough = self.request_failures >= rules.failure_threshold
            || self.state == Health::Probation
            || fault.is_final();
        if enough {
            self.eject(fault, proof_against(fault), rules, now);
        } else if self.state == Health::Healthy {
            self.state = Health::Suspect;
        }
    }

    /// Takes in a request, sent at `sent_at`, that the server's engine answered: the best proof
    /// there is. Of an ejected server only if it was sent after the ejection, as a last resort;
    /// what was under way before says nothing new.
    pub fn request_succeeded(&mut self, sent_at: Timestamp, now: Timestamp) {
        match self.state {
            Health::Suspect | Health::UnderTest { .. } => {
                self.request_failures = 0;
                self.state = Health::Healthy;
            }
            Health::Probation => self.come_back(now),
            Health::Ejected { since, .. } if since <= sent_at => self.come_back(now),
            Health::Ejected { .. } | Health::Unproven | Health::Healthy => {}
        }
    }

    /// The server has had requests for longer than [`HealthRules::stall_limit`] without progress.
    /// Where nobody may probe, the requests themselves decide.
    pub fn stalled(&mut self, rules: &HealthRules, now: Timestamp) {
        if rules.active_checks && matches!(self.state, Health::Healthy | Health::Suspect) {
            self.state = Health::UnderTest { since: now };
        }
    }

    /// Progress was seen at `at`, after all.
    pub fn progressed(&mut self, at: Timestamp) {
        if let Health::UnderTest { since } = self.state
            && at > since
        {
            self.trust_again();
        }
    }

    /// The server is another process than it was: what the old one did is not held against it. How
    /// often it had to be taken out is, and it has a cold cache.
    pub fn restarted(&mut self, now: Timestamp) {
        self.window.clear();
        self.consecutive_failures = 0;
        self.request_failures = 0;
        match &mut self.state {
            Health::Ejected { proof, .. } => *proof = Proof::Check,
            Health::Unproven => {}
            Health::Healthy | Health::Suspect | Health::UnderTest { .. } | Health::Probation => {
                self.state = Health::Healthy;
                self.handicap.returned(now);
            }
        }
    }

    /// Lets time pass: old failures are forgotten, and where nobody checks, an ejection ends.
    pub fn tick(&mut self, rules: &HealthRules, now: Timestamp) {
        match self.state {
            Health::Unproven if !rules.active_checks => self.admit(now),
            Health::Suspect if now.since(self.last_request_failure) > rules.recovery_after => {
                self.request_failures = 0;
                self.state = Health::Healthy;
            }
            Health::UnderTest { .. } if !rules.active_checks => self.trust_again(),
            Health::Ejected { since, until, .. }
                if !rules.active_checks && until.max(since + rules.recovery_after) <= now =>
            {
                self.try_out();
            }
            _ => {}
        }
    }

    fn admit(&mut self, now: Timestamp) {
        self.hold_down.admitted(now);
        self.state = Health::Healthy;
    }

    fn trust_again(&mut self) {
        self.state = if self.request_failures > 0 { Health::Suspect } else { Health::Healthy };
    }

    /// What it did lately would keep requests away from it; but one is needed now, to tell.
    fn try_out(&mut self) {
        self.handicap = Handicap::default();
        self.state = Health::Probation;
    }

    fn come_back(&mut self, now: Timestamp) {
        self.window.clear();
        self.consecutive_failures = 0;
        self.request_failures = 0;
        self.handicap.returned(now);
        self.admit(now);
    }

    fn eject(&mut self, cause: Fault, proof: Proof, rules: &HealthRules, now: Timestamp) {
        match &mut self.state {
            // It is out already; but its engine has died since, or the whole process has gone.
            Health::Ejected { cause: known, proof: asked, .. } => {
                if cause.is_final() || cause == Fault::Unreachable {
                    (*known, *asked) = (cause, proof);
                }
            }
            state => {
                let until = self.hold_down.ejected(rules.check_interval, now);
                *state = Health::Ejected { since: now, cause, until, proof };
            }
        }
    }
}

/// What a server has to show that was ejected for what it did to requests. One that accepts no
/// connections is gone, and whatever will accept them is a new process: vLLM listens only once its
/// engine is there.
fn proof_against(fault: Fault) -> Proof {
    if fault == Fault::Unreachable { Proof::Check } else { Proof::Inference }
}
