//! One line on the whole fleet.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::text::join_fitting;
use super::theme::Theme;
use super::units;
use crate::status::StatusReport;

pub(super) fn draw(report: &StatusReport, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let traffic = &report.traffic;
    let figure = |value: String, unit: &'static str| {
        Line::from(vec![Span::styled(value, theme.strong()), Span::styled(unit, theme.dim())])
    };
    let count = |count: u64, one: &'static str, many: &'static str, style: Style| {
        let style = if count == 0 { theme.dim() } else { style.patch(theme.strong()) };
        let unit = Span::styled(if count == 1 { one } else { many }, theme.dim());
        Line::from(vec![Span::styled(count.to_string(), style), unit])
    };
    let ttft = Line::from(vec![
        Span::styled("TTFT p50 ", theme.dim()),
        Span::styled(units::latency(traffic.ttft_p50_seconds), theme.strong()),
        Span::styled(" p99 ", theme.dim()),
        Span::styled(units::latency(traffic.ttft_p99_seconds), theme.strong()),
    ]);
    // The most important first: a narrow screen has only these.
    let parts = [
        figure(units::rate(traffic.requests_per_second), " req/s"),
        ttft,
        figure(units::rate(traffic.output_tokens_per_second), " tok/s"),
        count(traffic.errors, " error", " errors", theme.error()),
        count(traffic.retries, " retry", " retries", theme.warning()),
        Line::styled("(last minute)", theme.dim()),
    ];
    let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    join_fitting(parts, "   ", inner.width.into()).render(inner, buffer);
}
