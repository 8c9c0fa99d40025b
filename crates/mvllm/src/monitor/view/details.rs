//! One server in place of the table.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{cut, draw_lines};
use super::theme::Theme;
use super::{chart, columns, units};
use crate::status::{Admission, ServerStatus};

/// Lines for all figures and a chart that is worth looking at, with the frame.
pub(super) const HEIGHT: u16 = 18;

/// On a large screen more would be a wall of colour.
const CHART_MAX: u16 = 16;

/// A figure with its name.
type Figure = (&'static str, String);

/// The width of a name, and of a figure with what is between it and the next: three abreast fit on
/// a screen of 80.
const NAME: usize = 14;
const FIGURE: usize = 11;

pub(super) fn draw(server: &ServerStatus, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let lines = lines(server, theme, area.width.into());
    let text = Constraint::Length(lines.len() as u16);
    let [words, below] = Layout::vertical([text, Constraint::Min(0)]).areas(area);
    draw_lines(lines, words, buffer);
    if below.height >= chart::HEIGHT_MIN {
        let below = Rect { height: below.height.min(CHART_MAX), ..below };
        chart::draw("Usage", &server.usage_history, theme, below, buffer);
    }
}

fn lines(server: &ServerStatus, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let models = match server.models.as_slice() {
        [] => "No models".to_owned(),
        models => models.join(", "),
    };
    let word = |name, value: &str, style: Style| {
        let value = cut(value, width.saturating_sub(NAME));
        Line::from(vec![label(name, theme), Span::styled(value, style)])
    };
    let mut lines = vec![
        word("State", &columns::state(server), theme.server(server).patch(theme.strong())),
        word("New requests", admission(server), Style::new()),
        word("Models", &models, Style::new()),
        Line::default(),
    ];
    lines.extend(figures(server, theme, width));
    lines.push(Line::default());
    lines
}

/// What is on it, what comes of that, and how its caches do: side by side where there is room.
fn figures(server: &ServerStatus, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let traffic = &server.traffic;
    let load = [
        ("Running", server.running.to_string()),
        ("Waiting", server.waiting.to_string()),
        ("Capacity", server.capacity.to_string()),
        ("Usage", units::percent(server.usage_percent)),
        ("In flight", server.in_flight.to_string()),
    ];
    let service = [
        ("Requests/s", units::rate(traffic.requests_per_second)),
        ("Tokens/s", units::rate(traffic.output_tokens_per_second)),
        ("TTFT p50", units::latency(traffic.ttft_p50_seconds)),
        ("TTFT p99", units::latency(traffic.ttft_p99_seconds)),
    ];
    let rest = [
        ("KV cache", units::share(server.kv_cache_usage)),
        ("Prefix hits", units::share(server.prefix_cache_hit_rate)),
        ("Retries", traffic.retries.to_string()),
        ("Errors", traffic.errors.to_string()),
    ];
    let groups: [&[Figure]; 3] = [&load, &service, &rest];
    let cell = |(name, figure): &Figure| {
        [label(name, theme), Span::styled(format!("{figure:<FIGURE$}"), theme.strong())]
    };
    if width < groups.len() * (NAME + FIGURE) {
        return groups.into_iter().flatten().map(|figure| Line::from_iter(cell(figure))).collect();
    }
    let row =
        |nth| Line::from_iter(groups.iter().filter_map(|group| group.get(nth)).flat_map(cell));
    (0..load.len()).map(row).collect()
}

fn label(name: &'static str, theme: Theme) -> Span<'static> {
    Span::styled(format!("{name:<NAME$}"), theme.dim())
}

fn admission(server: &ServerStatus) -> &'static str {
    match server.admission {
        Admission::Open => "as they come",
        Admission::Cordoned => "none (cordoned; u lets them in again)",
        Admission::Draining => "none (draining: those under way may finish)",
        Admission::Drained => "none (drained: nothing is under way)",
    }
}
