//! What counts as healthy.

use core::time::Duration;

/// What counts as healthy; every field is a key of `servers.toml` or follows from one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthRules {
    /// `enable_active_health_check`: servers are checked, and probed where a check cannot tell.
    pub active_checks: bool,
    /// `health_check_interval`: the unit of a hold-down.
    pub check_interval: Duration,
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
    /// `request_timeout`: how long a server may be silent before its requests are given up.
    pub silence_limit: Duration,
}

impl HealthRules {
    /// How long a server that has requests may show no progress before it is put to the test, and
    /// how long the probe may then take: each a third of the time after which its requests are
    /// given up. So the verdict is there before they look for another server.
    ///
    /// A long prefill is no standstill: vLLM counts its tokens only when it ends (v1/metrics/
    /// stats.py, `update_from_output`), and not even a step (v1/engine/async_llm.py: no
    /// `iteration_stats` without outputs), but each chunk of it takes more of the KV cache, and
    /// that is told with every step (v1/core/sched/scheduler.py, `make_stats`).
    pub fn stall_limit(&self) -> Duration {
        self.silence_limit / 3
    }
}
