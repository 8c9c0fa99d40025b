//! Which servers are shown, and in which order.

use std::cmp::Ordering;

use crate::status::{Admission, HealthWord, ServerStatus};

/// A server with its place in the configuration, from 1.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Row<'a> {
    pub(in crate::monitor) number: usize,
    pub(in crate::monitor) server: &'a ServerStatus,
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::monitor) enum SortBy {
    #[default]
    Number,
    Server,
    Running,
    Waiting,
    Usage,
    KvCache,
    Requests,
    Ttft,
    State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::monitor) struct Order {
    pub(in crate::monitor) by: SortBy,
    reversed: bool,
}

impl Order {
    pub(super) fn next(&mut self) {
        let by = match self.by {
            SortBy::Number => SortBy::Server,
            SortBy::Server => SortBy::Running,
            SortBy::Running => SortBy::Waiting,
            SortBy::Waiting => SortBy::Usage,
            SortBy::Usage => SortBy::KvCache,
            SortBy::KvCache => SortBy::Requests,
            SortBy::Requests => SortBy::Ttft,
            SortBy::Ttft => SortBy::State,
            SortBy::State => SortBy::Number,
        };
        *self = Self { by, reversed: false };
    }

    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
    }

    /// Names go up. Figures go down and the worst state comes first: what needs a look is on top.
    pub(in crate::monitor) fn is_ascending(self) -> bool {
        matches!(self.by, SortBy::Number | SortBy::Server) != self.reversed
    }

    /// Whether it is the order of the configuration.
    pub(in crate::monitor) fn is_plain(self) -> bool {
        self == Self::default()
    }

    fn compare(self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        let (x, y) = (a.server, b.server);
        let up = match self.by {
            SortBy::Number => a.number.cmp(&b.number),
            SortBy::Server => x.url.cmp(&y.url),
            SortBy::Running => x.running.cmp(&y.running),
            SortBy::Waiting => x.waiting.cmp(&y.waiting),
            SortBy::Usage => x.usage_percent.total_cmp(&y.usage_percent),
            SortBy::KvCache => compare_known(x.kv_cache_usage, y.kv_cache_usage),
            SortBy::Requests => {
                x.traffic.requests_per_second.total_cmp(&y.traffic.requests_per_second)
            }
            SortBy::Ttft => compare_known(x.traffic.ttft_p99_seconds, y.traffic.ttft_p99_seconds),
            SortBy::State => badness(x).cmp(&badness(y)),
        };
        if self.is_ascending() { up } else { up.reverse() }
    }
}

/// The rows of the servers that contain each word of `filter` in their url, models or state.
pub(super) fn rows<'a>(servers: &'a [ServerStatus], filter: &str, order: Order) -> Vec<Row<'a>> {
    let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
    let mut rows: Vec<Row<'a>> = (1..)
        .zip(servers)
        .filter(|(_, server)| words.iter().all(|word| contains(server, word)))
        .map(|(number, server)| Row { number, server })
        .collect();
    // Stable: equal rows keep the order of the configuration, so they do not dance.
    rows.sort_by(|a, b| order.compare(a, b));
    rows
}

fn contains(server: &ServerStatus, word: &str) -> bool {
    // "healthy" is not to find the unhealthy.
    let state = [health_word(server.health), admission_word(server.admission)];
    state.iter().any(|state| state.starts_with(word))
        || server.url.to_lowercase().contains(word)
        || server.models.iter().any(|model| model.to_lowercase().contains(word))
}

fn health_word(health: HealthWord) -> &'static str {
    match health {
        HealthWord::Healthy => "healthy",
        HealthWord::Checking => "checking",
        HealthWord::Unhealthy => "unhealthy",
    }
}

fn admission_word(admission: Admission) -> &'static str {
    match admission {
        Admission::Open => "open",
        Admission::Cordoned => "cordoned",
        Admission::Draining => "draining",
        Admission::Drained => "drained",
    }
}

fn badness(server: &ServerStatus) -> u8 {
    match (server.health, server.admission) {
        (HealthWord::Unhealthy, _) => 5,
        (HealthWord::Checking, _) => 4,
        (HealthWord::Healthy, Admission::Draining) => 3,
        (HealthWord::Healthy, Admission::Drained) => 2,
        (HealthWord::Healthy, Admission::Cordoned) => 1,
        (HealthWord::Healthy, Admission::Open) => 0,
    }
}

/// The unknown is below all figures.
fn compare_known(a: Option<f64>, b: Option<f64>) -> Ordering {
    let or_least = |figure: Option<f64>| figure.unwrap_or(f64::NEG_INFINITY);
    or_least(a).total_cmp(&or_least(b))
}
