//! The last line: what is wrong, else what was done last, else which keys there are.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::text::{cut, join_fitting};
use super::theme::{Theme, severity_sign};
use super::units;
use crate::monitor::state::{Link, Mode, State};

/// The keys, those first that one would not guess or needs most.
const KEYS: [(&str, &str); 11] = [
    ("?", "help"),
    ("q", "quit"),
    ("↑↓", "select"),
    ("Enter", "details"),
    ("/", "filter"),
    ("s", "sort"),
    ("d", "drain"),
    ("c", "cordon"),
    ("u", "uncordon"),
    ("p", "pause"),
    ("m", "models"),
];

pub(super) fn draw(state: &State, theme: Theme, now: Duration, area: Rect, buffer: &mut Buffer) {
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let width = usize::from(area.width);
    line(state, theme, now, width).render(area, buffer);
}

fn line(state: &State, theme: Theme, now: Duration, width: usize) -> Line<'static> {
    if let Mode::Filter { .. } = state.mode {
        // The end of what is typed stays in sight.
        let typed = state.filter.chars().rev().take(width.saturating_sub(24)).collect::<Vec<_>>();
        return Line::from(vec![
            Span::styled("/", theme.strong()),
            Span::raw(typed.into_iter().rev().collect::<String>()),
            Span::styled(" ", theme.selected()),
            Span::styled("  Enter keep  Esc undo", theme.dim()),
        ]);
    }
    if let Some(notice) = state.notice(now) {
        let text = format!("{} {}", severity_sign(notice.severity), notice.text);
        let style = theme.severity(notice.severity).patch(theme.strong());
        return Line::styled(cut(text.trim_start(), width), style);
    }
    match state.link(now) {
        Link::Lost { lasted, why } => {
            let lasted = units::age(lasted.as_secs_f64());
            let text = format!("x No answer from {} for {lasted}: {why}", state.router);
            Line::styled(cut(&text, width), theme.error().patch(theme.strong()))
        }
        Link::Stale(age) => {
            let age = units::age(age.as_secs_f64());
            let text = format!("! No report from {} for {age}", state.router);
            Line::styled(cut(&text, width), theme.warning().patch(theme.strong()))
        }
        Link::Connecting | Link::Live => keys(theme, width),
    }
}

fn keys(theme: Theme, width: usize) -> Line<'static> {
    let parts = KEYS.map(|(key, meaning)| {
        Line::from(vec![
            Span::styled(key, theme.strong()),
            Span::styled(format!(" {meaning}"), theme.dim()),
        ])
    });
    join_fitting(parts, "  ", width)
}
