//! Draws the state. Nothing is decided here but where things go and what a narrow screen leaves out.

mod chart;
mod columns;
mod details;
mod footer;
mod lower;
mod overlay;
mod panes;
#[cfg(test)]
mod picture;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod totals;
mod units;

use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph, Widget, Wrap};

use super::state::{Link, Mode, Row, State};
use crate::status::{HealthWord, ServerStatus, StatusReport};
use panes::{Chart, Panes, Wishes};

pub(crate) use theme::Colours;
pub(super) use theme::Theme;

/// Draws `state` as it is `now`, measured as the state does.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme, now: Duration) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    match state.report() {
        Some(report) => draw_report(report, state, theme, now, area, buffer),
        None => draw_nothing_yet(state, theme, now, area, buffer),
    }
    match &state.mode {
        Mode::Help => overlay::help(theme, area, buffer),
        Mode::Confirm(command) => {
            let server = state
                .report()
                .and_then(|report| report.servers.iter().find(|server| server.url == command.url));
            overlay::confirm(command, server, theme, area, buffer);
        }
        Mode::Browse | Mode::Filter { .. } => {}
    }
}

fn draw_report(
    report: &StatusReport,
    state: &State,
    theme: Theme,
    now: Duration,
    area: Rect,
    buffer: &mut Buffer,
) {
    let rows = state.rows();
    let detailed = state.detailed(&rows);
    let events = lower::events(report, detailed);
    let requests = lower::requests(report, detailed);
    let wishes = Wishes {
        panel: match detailed {
            Some(_) => details::HEIGHT,
            // Not of the rows shown: the screen is to rest while a filter is typed.
            None => table::height(report.servers.len()),
        },
        events: lower::height(events.len()),
        requests: lower::height(requests.len()),
        chart: if detailed.is_some() { Chart::No } else { Chart::IfRoom },
    };
    let panes = Panes::lay_out(area, &wishes, state.lower);
    let block = panel(report, &rows, detailed, state, theme, now, area.width);
    let inner = block.inner(panes.panel);
    block.render(panes.panel, buffer);
    match detailed {
        Some(server) => details::draw(server, theme, inner, buffer),
        None => table::draw(&rows, state, theme, panes.panel, inner, buffer),
    }
    totals::draw(report, theme, panes.totals, buffer);
    if panes.chart.height > 0 {
        let history = chart::fleet_history(&report.servers);
        chart::draw("Fleet usage", &history, theme, panes.chart, buffer);
    }
    lower::draw_events(&events, theme, panes.events, buffer);
    lower::draw_requests(&requests, theme, panes.requests, buffer);
    footer::draw(state, theme, now, panes.footer, buffer);
}

/// The frame around the table, with the title and the subtitle of 0.1.0.
fn panel<'a>(
    report: &StatusReport,
    rows: &[Row<'_>],
    detailed: Option<&'a ServerStatus>,
    state: &State,
    theme: Theme,
    now: Duration,
    width: u16,
) -> Block<'a> {
    // The corners, and two cells of border between the titles.
    let room = usize::from(width).saturating_sub(4);
    // "2026-11-23T16:36:45.123": the time of day.
    let time = report.time.get(11..19).unwrap_or("--:--:--");
    let remarks = remarks(state, detailed, now);
    let (corner, style) = match remarks.is_empty() {
        true => {
            let up = units::age(report.uptime_seconds);
            (format!(" mvllm {} · up {up} ", report.version), theme.dim())
        }
        false => (format!(" {} ", remarks.join(" · ")), theme.strong()),
    };
    let mut title = format!(" vLLM Router Monitor ({time}) ");
    let both_fit = |title: &str| text::width(title) + text::width(&corner) <= room;
    if !remarks.is_empty() && !both_fit(&title) {
        title = format!(" {time} ");
    }
    let corner = if both_fit(&title) { corner } else { String::new() };
    let subtitle = match detailed {
        Some(server) => format!(" {} ", server.url),
        None => subtitle(rows, report.servers.len(), room),
    };
    frame_of_panel(theme, state.link(now))
        .title_top(Line::styled(title, theme.strong()))
        .title_top(Line::styled(corner, style).right_aligned())
        .title_bottom(Line::from(subtitle).centered())
}

fn frame_of_panel<'a>(theme: Theme, link: Link<'_>) -> Block<'a> {
    let style = match link {
        Link::Live | Link::Connecting => theme.border(),
        Link::Stale(_) => theme.warning(),
        Link::Lost { .. } => theme.error(),
    };
    Block::bordered().border_type(BorderType::Rounded).border_style(style).title_style(Style::new())
}

/// What of the choices of the person changes what the panel means.
fn remarks(state: &State, detailed: Option<&ServerStatus>, now: Duration) -> Vec<String> {
    let mut remarks = Vec::new();
    match state.link(now) {
        Link::Connecting | Link::Live => {}
        Link::Stale(age) => remarks.push(format!("OLD {}", units::age(age.as_secs_f64()))),
        Link::Lost { lasted, .. } => {
            remarks.push(format!("NO CONNECTION {}", units::age(lasted.as_secs_f64())));
        }
    }
    if state.is_paused() {
        remarks.push("PAUSED".to_owned());
    }
    if detailed.is_some() {
        return remarks;
    }
    if !state.filter.is_empty() {
        remarks.push(format!("/{}", state.filter));
    }
    if !state.order.is_plain() {
        let arrow = if state.order.is_ascending() { '▲' } else { '▼' };
        remarks.push(format!("by {} {arrow}", columns::sort_word(state.order.by)));
    }
    remarks
}

/// Sums over the rows shown. Servers that are out have nothing but their last figures, which would
/// make the fleet look busy.
fn subtitle(rows: &[Row<'_>], total: usize, room: usize) -> String {
    let servers = || {
        let servers = rows.iter().map(|row| row.server);
        servers.filter(|server| server.health != HealthWord::Unhealthy)
    };
    let sum = |figure: fn(&ServerStatus) -> u64| servers().map(figure).fold(0, u64::saturating_add);
    let running = sum(|server| server.running);
    let waiting = sum(|server| server.waiting);
    let capacity = sum(|server| u64::from(server.capacity));
    let usage = match capacity {
        0 => 0.0,
        capacity => running.saturating_add(waiting) as f64 / capacity as f64 * 100.0,
    };
    let shown = rows.len();
    let full = format!(
        " {shown}/{total} Servers | {running} Running | {waiting} Waiting | {usage:.1}% Usage "
    );
    let short = format!(" {shown}/{total} | {running} R | {waiting} W | {usage:.1}% ");
    let fitting = [full, short].into_iter().find(|subtitle| text::width(subtitle) <= room);
    fitting.unwrap_or_else(|| format!(" {usage:.1}% "))
}

fn draw_nothing_yet(state: &State, theme: Theme, now: Duration, area: Rect, buffer: &mut Buffer) {
    let link = state.link(now);
    let router = &state.router;
    let block = frame_of_panel(theme, link)
        .title_top(Line::styled(" vLLM Router Monitor ", theme.strong()))
        .title_bottom(Line::from(" q quit ").centered());
    let inner = block.inner(area);
    block.render(area, buffer);
    let lines = match link {
        Link::Lost { lasted, why } => vec![
            Line::styled(format!("No answer from {router}"), theme.error()),
            Line::from(why),
            Line::styled(
                format!("Trying again every second, for {} now", units::age(lasted.as_secs_f64())),
                theme.dim(),
            ),
        ],
        _ => vec![Line::from(Span::styled(format!("Waiting for {router} …"), theme.dim()))],
    };
    let height = lines.len() as u16;
    let middle = Rect {
        y: inner.y + inner.height.saturating_sub(height) / 2,
        height: inner.height.saturating_sub(inner.height.saturating_sub(height) / 2),
        ..inner
    };
    let text = Paragraph::new(lines).wrap(Wrap { trim: true }).alignment(Alignment::Center);
    text.render(middle, buffer);
}
