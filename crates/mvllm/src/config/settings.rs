//! What a file means.

use super::knobs::{ServerSettings, Tuning};

/// The whole of a file as meant: defaults filled in, units attached, nothing left to check.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// In the order of the file, which is the order of every display.
    pub servers: Vec<ServerSettings>,
    pub tuning: Tuning,
}

impl Default for Settings {
    /// What an empty file means.
    fn default() -> Self {
        Self { servers: Vec::new(), tuning: Tuning::with_defaults() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The defaults of mvllm 0.1.0: a file that leaves a key out keeps its meaning.
    #[test]
    fn the_defaults_of_the_first_version_have_not_moved() {
        let server = ServerSettings::with_defaults("http://a:8000".parse().unwrap());
        assert_eq!(server.max_concurrent_requests.get(), 3);
        let tuning = Tuning::with_defaults();
        assert_eq!(tuning.health_check_interval, Duration::from_secs(30));
        assert_eq!(tuning.config_reload_interval, Duration::from_secs(60));
        assert_eq!(tuning.request_timeout, Duration::from_secs(30));
        assert_eq!(tuning.health_check_timeout, Duration::from_secs(5));
        assert_eq!(tuning.max_retries, 3);
        assert_eq!(tuning.failure_threshold.get(), 2);
        assert_eq!(tuning.auto_recovery_threshold, Duration::from_secs(60));
        assert!(tuning.enable_active_health_check);
        assert_eq!(tuning.health_check_max_response_time, Duration::from_secs(10));
        assert!((tuning.health_check_min_success_rate - 0.8).abs() < f64::EPSILON);
        assert_eq!(tuning.health_check_window_size.get(), 10);
        assert_eq!(tuning.health_check_consecutive_failures.get(), 3);
    }
}
