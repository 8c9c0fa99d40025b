//! Usage over time, tall enough to read.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{RenderDirection, Sparkline, SparklineBar, Widget};

use super::lower::rule;
use super::theme::Theme;
use super::units;
use crate::status::{HealthWord, ServerStatus};

/// A heading and three lines: with less, the table's lines of bars say as much.
pub(super) const HEIGHT_MIN: u16 = 4;

/// The width of the marks at the left.
const SCALE: u16 = 6;

/// Draws `history` (percent, once a second), with the newest second at the right.
pub(super) fn draw(title: &str, history: &[f32], theme: Theme, area: Rect, buffer: &mut Buffer) {
    if area.height < HEIGHT_MIN {
        return;
    }
    let length = units::age(history.len() as f64);
    rule(&format!("{title}, last {length}"), theme, Rect { height: 1, ..area }, buffer);
    let chart = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let [scale, bars] =
        Layout::horizontal([Constraint::Length(SCALE), Constraint::Min(0)]).areas(chart);
    // A server may be asked for more than its capacity; then the chart shows how much more.
    let top = history.iter().copied().fold(100.0_f32, f32::max).min(1000.0).ceil();
    draw_scale(top, theme, scale, buffer);
    // Each second gets as many cells as there is room for.
    let repeat = (usize::from(bars.width) / history.len().max(1)).max(1);
    let newest_first = history.iter().rev().flat_map(|percent| {
        let bar = SparklineBar::from(percent.clamp(0.0, top).round() as u64)
            .style(Some(theme.usage(f64::from(*percent))));
        std::iter::repeat_n(bar, repeat)
    });
    Sparkline::default()
        .data(newest_first.take(bars.width.into()))
        .max(top as u64)
        .direction(RenderDirection::RightToLeft)
        .render(bars, buffer);
}

fn draw_scale(top: f32, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let bottom = area.height - 1;
    // An odd number of lines has a middle, and a mark there is worth having if it is not crowded.
    let middle = (bottom.is_multiple_of(2) && bottom >= 4).then_some((bottom / 2, top / 2.0));
    for (y, percent) in [Some((0, top)), middle, Some((bottom, 0.0))].into_iter().flatten() {
        let row = Rect { y: area.y + y, height: 1, ..area };
        let mark = Span::styled(format!("{percent:>4.0}% "), theme.dim());
        Line::from(mark).render(row, buffer);
    }
}

/// The usage of all servers together, over the time that all of them have a history of.
pub(super) fn fleet_history(servers: &[ServerStatus]) -> Vec<f32> {
    let up = || servers.iter().filter(|server| server.health != HealthWord::Unhealthy);
    let capacity: f64 = up().map(|server| f64::from(server.capacity)).sum();
    let seconds = up().map(|server| server.usage_history.len()).max().unwrap_or(0);
    if capacity == 0.0 {
        return Vec::new();
    }
    let usage = |back: usize| {
        let load = |server: &ServerStatus| {
            let history = &server.usage_history;
            let percent = history.len().checked_sub(back).and_then(|at| history.get(at));
            f64::from(server.capacity) * f64::from(percent.copied().unwrap_or(0.0))
        };
        (up().map(load).sum::<f64>() / capacity) as f32
    };
    (1..=seconds).rev().map(usage).collect()
}
