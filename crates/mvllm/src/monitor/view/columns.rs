//! The columns of the table: what each says of a server, and which fit.

use super::text::{self, cut, cut_middle, sparkline};
use super::{theme, units};
use crate::monitor::state::{Models, Row, SortBy};
use crate::status::{Admission, HealthWord, ServerStatus};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Number,
    Server,
    Models,
    Running,
    Waiting,
    Capacity,
    Usage,
    History,
    KvCache,
    PrefixHits,
    Requests,
    TtftMedian,
    TtftTail,
    Tokens,
    InFlight,
    State,
}

/// A column with its place on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) column: Column,
    pub(super) title: &'static str,
    /// From the left edge of the table.
    pub(super) x: u16,
    pub(super) width: u16,
}

/// Cells between columns.
const GAP: u16 = 1;

/// 0.1.0's widths of the columns of text.
const SERVER_WIDTH: u16 = 25;
const MODELS_WIDTH: u16 = 20;

/// Below this a url says nothing.
const SERVER_MIN: u16 = 14;

/// The widest that a url may take while there is something else to show.
const SERVER_MAX: u16 = 44;

/// "unhealthy 2m 10s: no answer" and the like.
const STATE_MIN: u16 = 18;

/// A column on its way to a place.
type Sized = (Column, &'static str, u16);

/// 0.1.0's columns, but for the two of text.
const FIGURES: [Sized; 4] = [
    (Column::Running, "Running", 7),
    (Column::Waiting, "Waiting", 7),
    (Column::Capacity, "Capacity", 8),
    (Column::Usage, "Usage", 6),
];

/// What else there is to show, the most telling first.
const EXTRAS: [Sized; 9] = [
    (Column::History, "History", 10),
    (Column::KvCache, "KV", 4),
    (Column::PrefixHits, "Prefix", 6),
    (Column::Requests, "Req/s", 6),
    (Column::TtftMedian, "TTFT p50", 8),
    (Column::TtftTail, "p99", 6),
    (Column::Tokens, "Tok/s", 6),
    (Column::InFlight, "In flight", 9),
    (Column::State, "State", STATE_MIN),
];

/// The columns that fit into `room` cells, with the room shared out. The same whichever of
/// `servers` are shown, so that columns rest while a filter is typed.
pub(super) fn place(servers: &[ServerStatus], models: Models, room: u16) -> Vec<Placed> {
    let longest = servers.iter().map(|server| text::width(&server.url)).max().unwrap_or(0);
    let longest = longest.clamp(SERVER_MIN.into(), SERVER_MAX.into()) as u16;
    let mut columns = contract(servers.len(), longest.min(SERVER_WIDTH), models);
    shorten(&mut columns, room);
    for extra in EXTRAS {
        let needed = taken(&columns) + GAP + extra.2;
        if needed > room {
            break;
        }
        columns.push(extra);
    }
    share_out(&mut columns, longest, room);
    let mut x = 0;
    let place = |(column, title, width)| {
        let placed = Placed { column, title, x, width };
        x += width + GAP;
        placed
    };
    columns.into_iter().map(place).collect()
}

/// 0.1.0's columns at their full width.
fn contract(servers: usize, server: u16, models: Models) -> Vec<Sized> {
    let digits = servers.max(1).ilog10() as u16 + 1;
    let mut columns =
        vec![(Column::Number, "#", digits.max(2)), (Column::Server, "Server", server)];
    if models == Models::Shown {
        columns.push((Column::Models, "Models", MODELS_WIDTH));
    }
    columns.extend(FIGURES);
    columns
}

/// Makes columns narrower, and then leaves some out, until the rest fits into `room`.
fn shorten(columns: &mut Vec<Sized>, room: u16) {
    if taken(columns) <= room {
        return;
    }
    for (column, title, width) in columns.iter_mut() {
        (*title, *width) = match column {
            Column::Running => ("Run", 4),
            Column::Waiting => ("Wait", 4),
            Column::Capacity => ("Cap", 4),
            Column::Models => ("Models", MODELS_WIDTH / 2),
            _ => continue,
        };
    }
    let dispensable = [
        Column::Models,
        Column::Capacity,
        Column::Number,
        Column::Waiting,
        Column::Running,
        Column::Usage,
    ];
    for column in dispensable {
        let excess = taken(columns).saturating_sub(room);
        let server = columns.iter_mut().find(|(column, ..)| *column == Column::Server);
        if let Some(server) = server.filter(|server| server.2 >= SERVER_MIN + excess) {
            server.2 -= excess;
            return;
        }
        columns.retain(|(other, ..)| *other != column);
    }
    if let [(Column::Server, _, width)] = columns.as_mut_slice() {
        *width = room;
    }
}

/// Gives what is left to the columns that can use it.
fn share_out(columns: &mut [Sized], longest_url: u16, room: u16) {
    let mut left = room.saturating_sub(taken(columns));
    let mut widen = |wanted: Column, most: u16| {
        if let Some((.., width)) = columns.iter_mut().find(|(column, ..)| *column == wanted) {
            let more = left.min(most.saturating_sub(*width));
            *width += more;
            left -= more;
        }
    };
    widen(Column::Server, longest_url);
    widen(Column::Models, 2 * MODELS_WIDTH);
    widen(Column::State, 2 * STATE_MIN);
    widen(Column::History, 30);
    widen(Column::State, u16::MAX);
}

fn taken(columns: &[Sized]) -> u16 {
    columns.iter().map(|(.., width)| width + GAP).sum::<u16>().saturating_sub(GAP)
}

impl Placed {
    /// What the column says of the server, fitted to its width.
    pub(super) fn cell(&self, row: &Row<'_>) -> String {
        let (server, width) = (row.server, usize::from(self.width));
        let figure = match self.column {
            Column::Server => return fit_url(&server.url, width),
            Column::Models => return cut(&models(server), width),
            Column::History => return sparkline(&server.usage_history, width),
            Column::State => return cut(&state(server), width),
            Column::Number => row.number.to_string(),
            Column::Running => server.running.to_string(),
            Column::Waiting => server.waiting.to_string(),
            Column::Capacity => server.capacity.to_string(),
            Column::Usage => units::percent(server.usage_percent),
            Column::KvCache => units::share(server.kv_cache_usage),
            Column::PrefixHits => units::share(server.prefix_cache_hit_rate),
            Column::Requests => units::rate(server.traffic.requests_per_second),
            Column::TtftMedian => units::latency(server.traffic.ttft_p50_seconds),
            Column::TtftTail => units::latency(server.traffic.ttft_p99_seconds),
            Column::Tokens => units::rate(server.traffic.output_tokens_per_second),
            Column::InFlight => server.in_flight.to_string(),
        };
        format!("{:>width$}", cut(&figure, width))
    }

    /// The title, on the side where the column's cells are.
    pub(super) fn heading(&self) -> String {
        let width = usize::from(self.width);
        let title = cut(self.title, width);
        match self.column {
            Column::Server | Column::Models | Column::History | Column::State => title,
            _ => format!("{title:>width$}"),
        }
    }

    pub(super) fn is_sorted_by(&self, by: SortBy) -> bool {
        let column = match by {
            SortBy::Number => Column::Number,
            SortBy::Server => Column::Server,
            SortBy::Running => Column::Running,
            SortBy::Waiting => Column::Waiting,
            SortBy::Usage => Column::Usage,
            SortBy::KvCache => Column::KvCache,
            SortBy::Requests => Column::Requests,
            SortBy::Ttft => Column::TtftTail,
            SortBy::State => Column::State,
        };
        self.column == column
    }
}

/// A sort order in a word.
pub(super) fn sort_word(by: SortBy) -> &'static str {
    match by {
        SortBy::Number => "#",
        SortBy::Server => "server",
        SortBy::Running => "running",
        SortBy::Waiting => "waiting",
        SortBy::Usage => "usage",
        SortBy::KvCache => "KV cache",
        SortBy::Requests => "req/s",
        SortBy::Ttft => "TTFT p99",
        SortBy::State => "state",
    }
}

/// A url in `width` cells: whole, else without its `http://`, else without its middle.
pub(super) fn fit_url(url: &str, width: usize) -> String {
    if text::width(url) <= width {
        return url.to_owned();
    }
    cut_middle(url.strip_prefix("http://").unwrap_or(url), width)
}

/// 0.1.0's form of a list of models.
pub(super) fn models(server: &ServerStatus) -> String {
    match server.models.as_slice() {
        [] => "No models".to_owned(),
        [first, second, rest @ ..] if rest.len() > 1 => {
            format!("{first}, {second} (+{})", rest.len())
        }
        few => few.join(", "),
    }
}

/// The state in words, with all there is to say about it.
pub(super) fn state(server: &ServerStatus) -> String {
    let admission = match (server.admission, server.in_flight) {
        (Admission::Open, _) => None,
        (Admission::Cordoned, _) => Some("cordoned".to_owned()),
        (Admission::Draining, left) => Some(format!("draining, {left} left")),
        (Admission::Drained, _) => Some("drained".to_owned()),
    };
    let word = match server.health {
        HealthWord::Healthy => return admission.unwrap_or_else(|| "healthy".to_owned()),
        HealthWord::Checking => "checking",
        HealthWord::Unhealthy => "unhealthy",
    };
    let since = server.since_seconds.map(|since| format!(" {}", units::age(since)));
    let reason = server.reason.as_ref().map(|reason| format!(": {reason}"));
    let admission = admission.map(|admission| format!(" ({admission})"));
    [Some(word.to_owned()), since, admission, reason].into_iter().flatten().collect()
}

/// What stands in place of the figures where there is no column for the state: why, and how long.
pub(super) fn news(server: &ServerStatus, width: usize) -> Option<String> {
    if theme::sign(server) == " " {
        return None;
    }
    if server.health == HealthWord::Healthy {
        return Some(cut(&state(server), width));
    }
    let word = if server.health == HealthWord::Checking { "checking" } else { "unhealthy" };
    let since = server.since_seconds.map(|since| format!(" {}", units::short_age(since)));
    let since = since.unwrap_or_default();
    let room = width.saturating_sub(text::width(&since));
    Some(cut(&(cut(server.reason.as_deref().unwrap_or(word), room) + &since), width))
}
