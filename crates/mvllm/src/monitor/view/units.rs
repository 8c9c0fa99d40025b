//! Figures as people read them: short, and of nearly the same width whatever the size.

/// What stands where a figure is not known.
pub(super) const UNKNOWN: &str = "-";

/// A latency: `120ms`, `1.24s`, `12.4s`, `2m 5s`.
pub(super) fn latency(seconds: Option<f64>) -> String {
    match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        None => UNKNOWN.to_owned(),
        Some(s) if s < 0.009_95 => format!("{:.1}ms", s * 1e3),
        Some(s) if s < 0.999_5 => format!("{:.0}ms", s * 1e3),
        Some(s) if s < 9.995 => format!("{s:.2}s"),
        Some(s) if s < 59.95 => format!("{s:.1}s"),
        Some(s) => age(s),
    }
}

/// How long something has lasted, in its two largest units: `42s`, `2m 5s`, `3h 12m`, `5d 4h`.
pub(super) fn age(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return UNKNOWN.to_owned();
    }
    // Saturates far beyond the age of the universe.
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// As [`age`], in its largest unit alone: `42s`, `2m`, `3h`, `5d`.
pub(super) fn short_age(seconds: f64) -> String {
    let age = age(seconds);
    age.split(' ').next().unwrap_or(UNKNOWN).to_owned()
}

/// `0.4`, `12.3`, `340`, `3.4k`, `1.2M`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        r if !r.is_finite() || r < 0.0 => UNKNOWN.to_owned(),
        r if r < 99.95 => format!("{r:.1}"),
        r if r < 999.5 => format!("{r:.0}"),
        r if r < 99_950.0 => format!("{:.1}k", r / 1e3),
        r if r < 999_500.0 => format!("{:.0}k", r / 1e3),
        r => format!("{:.1}M", r / 1e6),
    }
}

/// A share from 0 to 1 as `71%`.
pub(super) fn share(share: Option<f64>) -> String {
    match share.filter(|share| share.is_finite()) {
        Some(share) => format!("{:.0}%", share * 100.0),
        None => UNKNOWN.to_owned(),
    }
}

/// 0.1.0's form of the usage: `46.9%`.
pub(super) fn percent(percent: f64) -> String {
    if percent.is_finite() { format!("{percent:.1}%") } else { UNKNOWN.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_scaled() {
        let check = |seconds, expect| assert_eq!(latency(seconds), expect);
        check(None, "-");
        check(Some(f64::NAN), "-");
        check(Some(-1.0), "-");
        check(Some(0.0004), "0.4ms");
        check(Some(0.00999), "10ms");
        check(Some(0.12), "120ms");
        check(Some(0.9996), "1.00s");
        check(Some(1.239), "1.24s");
        check(Some(12.36), "12.4s");
        check(Some(59.96), "59s");
        check(Some(125.0), "2m 5s");
    }

    #[test]
    fn ages_have_two_units() {
        let check = |seconds, expect| assert_eq!(age(seconds), expect);
        check(0.9, "0s");
        check(59.9, "59s");
        check(130.0, "2m 10s");
        check(3600.0 * 3.2, "3h 12m");
        check(86_400.0 * 5.2, "5d 4h");
        check(f64::INFINITY, "-");
        assert_eq!(short_age(130.0), "2m");
    }

    #[test]
    fn rates_and_shares_stay_short() {
        let check = |per_second, expect| assert_eq!(rate(per_second), expect);
        check(0.0, "0.0");
        check(12.34, "12.3");
        check(99.96, "100");
        check(3_412.0, "3.4k");
        check(123_400.0, "123k");
        check(1_234_000.0, "1.2M");
        check(f64::NAN, "-");
        assert_eq!(share(Some(0.714)), "71%");
        assert_eq!(share(None), "-");
        assert_eq!(percent(46.88), "46.9%");
    }
}
