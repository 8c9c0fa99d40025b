//! The table of servers.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::Line;
use ratatui::widgets::{Scrollbar, ScrollbarOrientation, ScrollbarState, StatefulWidget, Widget};

use super::columns::{self, Column, Placed};
use super::theme::{Theme, sign, strike};
use crate::monitor::state::{Row, State};

/// The mark of the selected row, the sign of the server's state, and a gap.
const GUTTER: u16 = 3;

/// Lines that a table of so many rows would fill, its frame included.
pub(super) fn height(rows: usize) -> u16 {
    u16::try_from(rows.max(1)).unwrap_or(u16::MAX).saturating_add(3)
}

/// Draws into `inner` of the frame `panel`, whose right edge shows where one is in a long table.
pub(super) fn draw(
    rows: &[Row<'_>],
    state: &State,
    theme: Theme,
    panel: Rect,
    inner: Rect,
    buffer: &mut Buffer,
) {
    let Some(height) = inner.height.checked_sub(1).map(usize::from) else { return };
    let servers = state.report().map_or(&[][..], |report| &report.servers);
    let columns = columns::place(servers, state.models, inner.width.saturating_sub(GUTTER));
    draw_headings(&columns, state, theme, inner, buffer);
    if rows.is_empty() {
        let why = match state.filter.is_empty() {
            true => "No servers are configured".to_owned(),
            false => format!("No server matches \"{}\"", state.filter),
        };
        let area = Rect { y: inner.y + 1, height: height.min(1) as u16, ..inner };
        Line::styled(why, theme.dim()).centered().render(area, buffer);
        return;
    }
    let selected = state.selected(rows);
    let first = first_row(rows.len(), selected, height);
    for (nth, row) in rows.iter().enumerate().skip(first).take(height) {
        let y = inner.y + 1 + (nth - first) as u16;
        let area = Rect { y, height: 1, ..inner };
        draw_row(row, &columns, theme, area, buffer);
        if selected == Some(nth) {
            draw_selection(&columns, theme, area, buffer);
        }
    }
    draw_scrollbar(rows.len(), first, height, theme, panel, buffer);
}

/// The first row in sight: the selected one is kept in the middle.
fn first_row(rows: usize, selected: Option<usize>, height: usize) -> usize {
    let centred = selected.map_or(0, |selected| selected.saturating_sub(height / 2));
    centred.min(rows.saturating_sub(height))
}

fn draw_headings(
    columns: &[Placed],
    state: &State,
    theme: Theme,
    inner: Rect,
    buffer: &mut Buffer,
) {
    for column in columns {
        let sorted = !state.order.is_plain() && column.is_sorted_by(state.order.by);
        let style = match sorted {
            true => theme.strong().add_modifier(Modifier::UNDERLINED),
            false => theme.dim(),
        };
        let x = inner.x + GUTTER + column.x;
        buffer.set_stringn(x, inner.y, column.heading(), column.width.into(), style);
    }
}

fn draw_row(row: &Row<'_>, columns: &[Placed], theme: Theme, area: Rect, buffer: &mut Buffer) {
    let server = row.server;
    let colour = theme.server(server);
    buffer.set_stringn(area.x + 1, area.y, sign(server), 1, colour.patch(theme.strong()));
    let has_state = columns.iter().any(|placed| placed.column == Column::State);
    for placed in columns {
        let x = area.x + GUTTER + placed.x;
        // Of a server that gets nothing, why is worth more than how much.
        if placed.column == Column::History && !has_state {
            let room = usize::from(area.right().saturating_sub(x));
            if let Some(news) = columns::news(server, room) {
                buffer.set_stringn(x, area.y, news, room, colour);
                return;
            }
        }
        let style = match placed.column {
            Column::State => colour,
            Column::Models if server.models.is_empty() => theme.dim(),
            _ => colour.patch(strike(server)),
        };
        buffer.set_stringn(x, area.y, placed.cell(row), placed.width.into(), style);
    }
}

/// Marks the name only: reversed bars would be hard to read.
fn draw_selection(columns: &[Placed], theme: Theme, area: Rect, buffer: &mut Buffer) {
    buffer.set_stringn(area.x, area.y, ">", area.width.into(), theme.strong());
    if let Some(server) = columns.iter().find(|placed| placed.column == Column::Server) {
        let named = Rect { x: area.x + GUTTER + server.x, width: server.width, ..area };
        buffer.set_style(named.intersection(area), theme.selected());
    }
}

fn draw_scrollbar(
    rows: usize,
    first: usize,
    height: usize,
    theme: Theme,
    panel: Rect,
    buffer: &mut Buffer,
) {
    if rows <= height || height == 0 {
        return;
    }
    let edge = Rect { y: panel.y + 2, height: height as u16, ..panel };
    let mut place =
        ScrollbarState::new(rows - height + 1).position(first).viewport_content_length(height);
    Scrollbar::new(ScrollbarOrientation::VerticalRight)
        .begin_symbol(None)
        .end_symbol(None)
        .track_symbol(Some("│"))
        .track_style(theme.border())
        .thumb_symbol("█")
        .thumb_style(theme.border())
        .render(edge, buffer, &mut place);
}
