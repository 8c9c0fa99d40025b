//! What the monitor knows, and what the person in front of it has chosen to see. No IO and no
//! clock: `now` is the time since the monitor was started.

mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::input::{Input, Keys, Pane, Step};
use super::source::{AdminCommand, News, Verb};
use crate::status::{ServerStatus, Severity, StatusReport};

pub(super) use rows::{Order, Row, SortBy};

/// Reports come at least once a second. One that is older than this is shown as old.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// How long the result of an order stays on the screen.
const NOTICE_LASTS: Duration = Duration::from_secs(10);

/// How far Page Up and Page Down go: less than the table of a terminal of 24 lines, so that a row
/// stays in sight.
const PAGE: isize = 8;

/// Longer filters are not typed by people.
const FILTER_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct State {
    /// How the router is called in messages.
    pub(super) router: String,
    pub(super) order: Order,
    /// Words that a row must contain.
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) lower: Lower,
    pub(super) models: Models,
    feed: Feed,
    /// While paused: the report that stays on the screen.
    held: Option<Arc<StatusReport>>,
    selection: Option<Selection>,
    detailed: bool,
    notice: Option<Notice>,
}

/// What the keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The filter is being typed; Esc brings back the one before.
    Filter {
        before: String,
    },
    /// The person is asked whether this is meant.
    Confirm(AdminCommand),
    Help,
}

/// How the part below the table is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lower {
    Both,
    Enlarged(Pane),
}

/// Whether the table has a column of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Models {
    Shown,
    Hidden,
}

/// How fresh the report on the screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link<'a> {
    Connecting,
    Live,
    /// The connection stands, and no report has come for so long.
    Stale(Duration),
    Lost {
        lasted: Duration,
        why: &'a str,
    },
}

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Order(AdminCommand),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) severity: Severity,
    pub(super) text: String,
    at: Duration,
}

#[derive(Debug)]
enum Feed {
    Connecting,
    Live { report: Arc<StatusReport>, received: Duration },
    Lost { last: Option<Arc<StatusReport>>, since: Duration, why: String },
}

/// The selected server by name, as rows move; by row where it is gone.
#[derive(Debug)]
struct Selection {
    url: String,
    row: usize,
}

impl State {
    pub(super) fn new(router: String, models: Models) -> Self {
        Self {
            router,
            order: Order::default(),
            filter: String::new(),
            mode: Mode::Browse,
            lower: Lower::Both,
            models,
            feed: Feed::Connecting,
            held: None,
            selection: None,
            detailed: false,
            notice: None,
        }
    }

    /// Takes in a key or news, and tells what is to be done about it.
    pub(super) fn apply(&mut self, input: Input, now: Duration) -> Option<Action> {
        match input {
            Input::Quit => return Some(Action::Quit),
            Input::News(news) => self.learn(news, now),
            Input::Select(step) => self.select(step),
            Input::Open => self.open(),
            Input::Back => self.back(),
            Input::NextSort => self.order.next(),
            Input::ReverseSort => self.order.reverse(),
            Input::EditFilter => self.mode = Mode::Filter { before: self.filter.clone() },
            Input::Type(letter) if self.filter.len() < FILTER_MAX => self.filter.push(letter),
            Input::Type(_) => {}
            Input::Erase => drop(self.filter.pop()),
            Input::EraseAll => self.filter.clear(),
            Input::Accept => self.mode = Mode::Browse,
            Input::Pause if self.held.is_some() => self.held = None,
            Input::Pause => self.held = self.latest().cloned(),
            Input::Ask(verb) => self.ask(verb, now),
            Input::Confirm => return self.confirm(now),
            Input::ToggleModels => self.models = self.models.toggled(),
            Input::Enlarge(pane) => self.lower = self.lower.toggled(pane),
            Input::Help => self.mode = Mode::Help,
        }
        None
    }

    pub(super) fn keys(&self) -> Keys {
        match self.mode {
            Mode::Browse => Keys::Commands,
            Mode::Filter { .. } => Keys::Text,
            Mode::Confirm(_) => Keys::YesOrNo,
            Mode::Help => Keys::AnyCloses,
        }
    }

    /// The report to draw: while paused, the held one.
    pub(super) fn report(&self) -> Option<&StatusReport> {
        self.held.as_ref().or_else(|| self.latest()).map(AsRef::as_ref)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn link(&self, now: Duration) -> Link<'_> {
        match &self.feed {
            Feed::Connecting => Link::Connecting,
            Feed::Live { received, .. } => match now.saturating_sub(*received) {
                age if age > STALE_AFTER => Link::Stale(age),
                _ => Link::Live,
            },
            Feed::Lost { since, why, .. } => Link::Lost { lasted: now.saturating_sub(*since), why },
        }
    }

    pub(super) fn notice(&self, now: Duration) -> Option<&Notice> {
        self.notice.as_ref().filter(|notice| now.saturating_sub(notice.at) < NOTICE_LASTS)
    }

    /// The servers that the filter lets through, in the chosen order.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        self.report()
            .map_or_else(Vec::new, |report| rows::rows(&report.servers, &self.filter, self.order))
    }

    /// Which of `rows` is selected.
    pub(super) fn selected(&self, rows: &[Row<'_>]) -> Option<usize> {
        let selection = self.selection.as_ref()?;
        let found = rows.iter().position(|row| row.server.url == selection.url);
        found.or_else(|| Some(selection.row.min(rows.len().checked_sub(1)?)))
    }

    /// The server whose details are to be drawn in place of the table.
    pub(super) fn detailed<'a>(&self, rows: &[Row<'a>]) -> Option<&'a ServerStatus> {
        let row = self.selected(rows).filter(|_| self.detailed)?;
        rows.get(row).map(|row| row.server)
    }

    fn latest(&self) -> Option<&Arc<StatusReport>> {
        match &self.feed {
            Feed::Connecting => None,
            Feed::Live { report, .. } => Some(report),
            Feed::Lost { last, .. } => last.as_ref(),
        }
    }

    fn learn(&mut self, news: News, now: Duration) {
        match news {
            News::Report(report) => self.feed = Feed::Live { report, received: now },
            News::Lost { why } => {
                let since = match self.feed {
                    Feed::Lost { since, .. } => since,
                    _ => now,
                };
                self.feed = Feed::Lost { last: self.latest().cloned(), since, why };
            }
            News::Answered { command, outcome } => {
                let AdminCommand { verb, url } = command;
                self.notice = Some(match outcome {
                    Ok(()) => Notice::new(Severity::Info, format!("{} {url}", verb.past()), now),
                    Err(error) => {
                        let text = format!("{url} was not {}: {error}", verb.participle());
                        Notice::new(Severity::Error, text, now)
                    }
                });
            }
        }
    }

    fn select(&mut self, step: Step) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let row = match (self.selected(&rows), step) {
            (_, Step::First) => 0,
            (_, Step::Last) => last,
            (None, Step::Down | Step::PageDown) => 0,
            (None, Step::Up | Step::PageUp) => last,
            (Some(row), Step::Up) => row.saturating_sub(1),
            (Some(row), Step::Down) => (row + 1).min(last),
            (Some(row), Step::PageUp) => row.saturating_add_signed(-PAGE),
            (Some(row), Step::PageDown) => row.saturating_add_signed(PAGE).min(last),
        };
        let url = rows[row].server.url.clone();
        self.selection = Some(Selection { url, row });
    }

    fn open(&mut self) {
        if self.selected(&self.rows()).is_none() {
            self.select(Step::First);
        }
        self.detailed = self.selection.is_some();
    }

    /// One step back to the plain table.
    fn back(&mut self) {
        match &mut self.mode {
            Mode::Filter { before } => self.filter = std::mem::take(before),
            Mode::Browse if self.detailed => self.detailed = false,
            Mode::Browse if !self.filter.is_empty() => self.filter.clear(),
            Mode::Browse if self.lower != Lower::Both => self.lower = Lower::Both,
            Mode::Browse => self.selection = None,
            Mode::Confirm(_) | Mode::Help => {}
        }
        self.mode = Mode::Browse;
    }

    fn ask(&mut self, verb: Verb, now: Duration) {
        let rows = self.rows();
        match self.selected(&rows).and_then(|row| rows.get(row)) {
            Some(row) => {
                let url = row.server.url.clone();
                self.mode = Mode::Confirm(AdminCommand { verb, url });
            }
            None => {
                let text = "Select a server first, with the arrow keys".to_owned();
                self.notice = Some(Notice::new(Severity::Warning, text, now));
            }
        }
    }

    fn confirm(&mut self, now: Duration) -> Option<Action> {
        let Mode::Confirm(command) = std::mem::replace(&mut self.mode, Mode::Browse) else {
            return None;
        };
        let text = format!("Asked the router to {} {}", command.verb, command.url);
        self.notice = Some(Notice::new(Severity::Info, text, now));
        Some(Action::Order(command))
    }
}

impl Notice {
    fn new(severity: Severity, text: String, at: Duration) -> Self {
        Self { severity, text, at }
    }
}

impl Models {
    fn toggled(self) -> Self {
        match self {
            Self::Shown => Self::Hidden,
            Self::Hidden => Self::Shown,
        }
    }
}

impl Lower {
    fn toggled(self, pane: Pane) -> Self {
        if self == Self::Enlarged(pane) { Self::Both } else { Self::Enlarged(pane) }
    }
}
