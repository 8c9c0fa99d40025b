//! What happens below the table: the newest events, and the requests that take longest.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::columns::fit_url;
use super::text::{cut, draw_lines, width};
use super::theme::{Theme, severity_sign};
use super::units;
use crate::status::{EventLine, Phase, RequestUnderWay, ServerStatus, StatusReport};

/// The events, of one server where one is given; the newest first.
pub(super) fn events<'a>(
    report: &'a StatusReport,
    server: Option<&ServerStatus>,
) -> Vec<&'a EventLine> {
    let concerns = |event: &&EventLine| server.is_none_or(|server| names(&event.text, &server.url));
    report.events.iter().rev().filter(concerns).collect()
}

/// The requests under way, at one server where one is given; the oldest first.
pub(super) fn requests<'a>(
    report: &'a StatusReport,
    server: Option<&ServerStatus>,
) -> Vec<&'a RequestUnderWay> {
    let concerns = |request: &&RequestUnderWay| {
        server.is_none_or(|server| request.server.as_ref() == Some(&server.url))
    };
    report.slowest.iter().filter(concerns).collect()
}

/// Lines that a pane of so many entries would fill: "none" fills one, too.
pub(super) fn height(entries: usize) -> u16 {
    u16::try_from(entries.max(1)).unwrap_or(u16::MAX).saturating_add(1)
}

pub(super) fn draw_events(events: &[&EventLine], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let Some(area) = draw_heading("Events", events.is_empty(), theme, area, buffer) else { return };
    let lines = events.iter().map(|event| {
        let style = theme.severity(event.severity);
        Line::from(vec![
            Span::styled(severity_sign(event.severity), style.patch(theme.strong())),
            Span::raw(" "),
            Span::styled(&*event.time, theme.dim()),
            Span::raw(" "),
            Span::styled(cut(&event.text, usize::from(area.width).saturating_sub(11)), style),
        ])
    });
    draw_lines(lines, area, buffer);
}

pub(super) fn draw_requests(
    requests: &[&RequestUnderWay],
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let title = "Longest under way";
    let Some(area) = draw_heading(title, requests.is_empty(), theme, area, buffer) else { return };
    let widest = |text: fn(&RequestUnderWay) -> &str, most: usize| {
        requests.iter().map(|request| width(text(request))).max().unwrap_or(0).min(most)
    };
    let servers = widest(server_of, 30);
    let models = widest(|request| request.model.as_deref().unwrap_or(units::UNKNOWN), 36);
    let repeated = requests.iter().any(|request| request.attempts > 1);
    let lines = requests.iter().map(|request| {
        let model = request.model.as_deref().unwrap_or(units::UNKNOWN);
        let mut spans = vec![
            Span::styled(format!("{:>8}  ", units::age(request.age_seconds)), theme.strong()),
            Span::styled(format!("{:<11}", phase(request.phase)), phase_style(request, theme)),
            Span::raw(pad(&fit_url(server_of(request), servers), servers + 2)),
            Span::raw(pad(&cut(model, models), models + 2)),
        ];
        if repeated {
            let attempt = match request.attempts {
                0 | 1 => String::new(),
                attempt => format!("try {attempt}"),
            };
            spans.push(Span::styled(format!("{attempt:<8}"), theme.warning()));
        }
        spans.push(Span::styled(format!("{}  {}", request.id, request.path), theme.dim()));
        Line::from(spans)
    });
    draw_lines(lines, area, buffer);
}

/// A rule with a title, and "none" below it where that is all; the area of the entries.
fn draw_heading(
    title: &str,
    is_empty: bool,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) -> Option<Rect> {
    let height = area.height.checked_sub(1)?;
    rule(title, theme, Rect { height: 1, ..area }, buffer);
    let entries = Rect { y: area.y + 1, height, ..area };
    if is_empty {
        draw_lines([Line::styled("  none", theme.dim())], entries, buffer);
        return None;
    }
    Some(entries)
}

/// A line across the screen that begins a part of it.
pub(super) fn rule(title: &str, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let rest = "─".repeat(usize::from(area.width).saturating_sub(width(title) + 4));
    let line = Line::from(vec![
        Span::styled("── ", theme.border()),
        Span::styled(title.to_owned(), theme.strong()),
        Span::styled(format!(" {rest}"), theme.border()),
    ]);
    line.render(area, buffer);
}

fn server_of(request: &RequestUnderWay) -> &str {
    request.server.as_deref().unwrap_or("(no server yet)")
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Answering => "answering",
    }
}

fn phase_style(request: &RequestUnderWay, theme: Theme) -> Style {
    match request.phase {
        Phase::Waiting => theme.warning(),
        Phase::Answering => Style::new(),
    }
}

/// `text` with blanks up to `cells`.
fn pad(text: &str, cells: usize) -> String {
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', cells.saturating_sub(width(text))));
    padded
}

/// Whether `url` stands in `text`, and not merely as the beginning of a longer one.
fn names(text: &str, url: &str) -> bool {
    text.match_indices(url).any(|(at, _)| {
        let next = text[at + url.len()..].chars().next();
        !next.is_some_and(|next| next.is_alphanumeric() || next == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_port_80_is_not_one_of_port_8() {
        assert!(names("http://gpu:8: down", "http://gpu:8"));
        assert!(names("lost http://gpu:80, http://gpu:8", "http://gpu:8"));
        assert!(!names("http://gpu:80: down", "http://gpu:8"));
    }
}
