//! Who gets which part of the screen.

use ratatui::layout::{Constraint, Layout, Rect};

use crate::monitor::input::Pane;
use crate::monitor::state::Lower;

/// The parts of the screen; those for which there is no room are empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Panes {
    pub(super) panel: Rect,
    pub(super) totals: Rect,
    pub(super) chart: Rect,
    pub(super) events: Rect,
    pub(super) requests: Rect,
    pub(super) footer: Rect,
}

/// How many lines each part could fill.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) panel: u16,
    pub(super) events: u16,
    pub(super) requests: u16,
    /// Only where the others leave enough.
    pub(super) chart: Chart,
}

/// Whether there is a chart of the fleet's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chart {
    IfRoom,
    No,
}

/// From this width on, events and requests stand side by side.
const SIDE_BY_SIDE: u16 = 150;

/// A frame, headings and one row: less is no table.
const PANEL_MIN: u16 = 4;

/// A heading and three lines are worth their place; less is not.
const LOWER_MIN: u16 = 4;

/// The chart is for large screens: it comes after so many lines of events and requests.
const LOWER_BEFORE_CHART: u16 = 12;
/// With the heading.
const CHART_MIN: u16 = 6;
const CHART_MAX: u16 = 16;

/// What the panel may always have before events and requests get anything.
const PANEL_FIRST: u16 = 8;

impl Panes {
    pub(super) fn lay_out(area: Rect, wishes: &Wishes, lower: Lower) -> Self {
        let footer = u16::from(area.height > PANEL_MIN);
        let totals = u16::from(area.height > PANEL_MIN + 2);
        let rest = area.height - footer - totals;
        let chart = match (wishes.chart, lower) {
            (Chart::IfRoom, Lower::Both) => chart(rest, wishes),
            _ => 0,
        };
        let rest = rest - chart;
        let abreast = area.width >= SIDE_BY_SIDE;
        let (events, requests) = match lower {
            Lower::Enlarged(Pane::Events) => (enlarged(rest), 0),
            Lower::Enlarged(Pane::Requests) => (0, enlarged(rest)),
            Lower::Both => both(rest, wishes, abreast),
        };
        let both = lower == Lower::Both;
        let below = if both && abreast { events.max(requests) } else { events + requests };
        let [panel, totals, chart, below, footer] = Layout::vertical([
            Constraint::Length(rest - below),
            Constraint::Length(totals),
            Constraint::Length(chart),
            Constraint::Length(below),
            Constraint::Length(footer),
        ])
        .areas(area);
        let [events, requests] = if both && abreast {
            // Requests have the longer lines.
            Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)])
                .spacing(2)
                .areas(below)
        } else {
            Layout::vertical([Constraint::Length(events), Constraint::Length(requests)])
                .areas(below)
        };
        Self { panel, totals, chart, events, requests, footer }
    }
}

fn chart(rest: u16, wishes: &Wishes) -> u16 {
    let below = wishes.events.saturating_add(wishes.requests).min(LOWER_BEFORE_CHART);
    let others = wishes.panel.saturating_add(below);
    match rest.saturating_sub(others) {
        ..CHART_MIN => 0,
        // Even, for the heading and an odd number of lines.
        room => room.min(CHART_MAX) & !1,
    }
}

fn enlarged(rest: u16) -> u16 {
    rest.saturating_sub((rest / 3).max(PANEL_MIN))
}

/// The heights of events and requests. The panel goes first up to [`PANEL_FIRST`], then these up to
/// [`LOWER_MIN`] each, then the panel up to its wish, then these again; what nobody wishes for is
/// the panel's.
fn both(rest: u16, wishes: &Wishes, abreast: bool) -> (u16, u16) {
    let room = rest.saturating_sub(wishes.panel.clamp(PANEL_MIN, PANEL_FIRST));
    let free = rest.saturating_sub(wishes.panel);
    if abreast {
        let granted = room.min(LOWER_MIN).max(free);
        let granted = if granted < LOWER_MIN.min(wishes.events) { 0 } else { granted };
        return (granted.min(wishes.events), granted.min(wishes.requests));
    }
    // Few lines of both are worth more than many of one, but events tell why.
    let events_least = wishes.events.min(LOWER_MIN);
    if room < events_least {
        return (0, 0);
    }
    let requests_least = wishes.requests.min(LOWER_MIN);
    if room < events_least + requests_least {
        return (room.min(wishes.events).max(events_least), 0);
    }
    let more = free.saturating_sub(events_least + requests_least);
    let requests_more = (wishes.requests - requests_least).min(more / 2);
    let events_more = (wishes.events - events_least).min(more - requests_more);
    let requests_more = (wishes.requests - requests_least).min(more - events_more);
    (events_least + events_more, requests_least + requests_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heights(height: u16, panel: u16, events: u16, requests: u16, lower: Lower) -> [u16; 5] {
        let wishes = Wishes { panel, events, requests, chart: Chart::IfRoom };
        let panes = Panes::lay_out(Rect::new(0, 0, 80, height), &wishes, lower);
        [panes.panel, panes.chart, panes.events, panes.requests, panes.footer]
            .map(|area| area.height)
    }

    #[test]
    fn a_small_fleet_leaves_room_for_events_and_requests() {
        assert_eq!(heights(24, 11, 30, 11, Lower::Both), [11, 0, 6, 5, 1]);
    }

    #[test]
    fn a_large_fleet_leaves_them_a_few_lines() {
        assert_eq!(heights(24, 203, 30, 11, Lower::Both), [14, 0, 4, 4, 1]);
    }

    #[test]
    fn what_nobody_needs_is_the_panels() {
        assert_eq!(heights(50, 11, 6, 3, Lower::Both), [23, 16, 6, 3, 1]);
    }

    #[test]
    fn a_low_screen_has_events_only_and_a_tiny_one_the_table() {
        assert_eq!(heights(15, 11, 30, 11, Lower::Both), [8, 0, 5, 0, 1]);
        assert_eq!(heights(9, 11, 30, 11, Lower::Both), [7, 0, 0, 0, 1]);
        assert_eq!(heights(5, 11, 30, 11, Lower::Both), [4, 0, 0, 0, 1]);
        assert_eq!(heights(1, 11, 30, 11, Lower::Both), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn an_enlarged_pane_has_two_thirds() {
        assert_eq!(heights(24, 11, 30, 3, Lower::Enlarged(Pane::Requests)), [7, 0, 0, 15, 1]);
    }
}
