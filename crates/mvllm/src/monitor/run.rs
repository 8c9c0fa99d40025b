//! The monitor's loop.
//!
//! It runs on a thread of its own with a runtime of its own. Writing to a terminal blocks for as
//! long as the terminal likes (a suspended ssh session: for ever), and the control thread, which
//! observes servers, must never wait for that.

use std::future::Future;
use std::io;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::input::{Input, meaning};
use super::keyboard::Keyboard;
use super::source::{Feed, Source};
use super::state::{Action, Models, State};
use super::terminal::{self, Screen};
use super::view::{self, Colours, Theme};

/// The clock and the ages on the screen move at least this often.
const REDRAW: Duration = Duration::from_secs(1);

/// How long the end of the monitor may take. Only a terminal that takes no output needs longer, and
/// a router that was told to stop does not wait for that.
const LEAVE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Whether the table begins with its column of models: `--model`.
    pub(crate) models: bool,
    pub(crate) colours: Colours,
}

/// Why the monitor has ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By `q` or Ctrl-C, which is a key while the monitor has the terminal.
    ByPerson,
    ByShutdown,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// Nothing has been written to it.
    #[error("standard error is not a terminal")]
    NoTerminal,
    #[error("the monitor cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
    #[error("the terminal is gone")]
    TerminalGone,
    #[error("the monitor has failed")]
    Panicked,
}

/// Shows the monitor until a person ends it or `shutdown` completes. Never blocks the runtime that
/// it is called on. Gives the terminal back also when this future is dropped.
pub(crate) async fn run(
    source: Source,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<Ended, MonitorError> {
    if !terminal::is_there() {
        return Err(MonitorError::NoTerminal);
    }
    let (leave, told_to_leave) = oneshot::channel();
    let (done, mut is_done) = oneshot::channel();
    thread::Builder::new().name("monitor".to_owned()).spawn(move || {
        let _ = done.send(show_on_this_thread(source, options, told_to_leave));
    })?;
    tokio::select! {
        outcome = &mut is_done => return outcome.unwrap_or(Err(MonitorError::Panicked)),
        () = shutdown => drop(leave),
    }
    match timeout(LEAVE_MAX, is_done).await {
        Ok(outcome) => outcome.unwrap_or(Err(MonitorError::Panicked)),
        Err(_) => Ok(Ended::ByShutdown),
    }
}

fn show_on_this_thread(
    source: Source,
    options: Options,
    leave: oneshot::Receiver<()>,
) -> Result<Ended, MonitorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(Monitor::new(source, options)?.show(leave));
    // Resolving a remote router's name may hang in a thread of the runtime; it is not waited for.
    runtime.shutdown_background();
    outcome
}

struct Monitor {
    source: Source,
    state: State,
    theme: Theme,
    screen: Screen,
    keyboard: Keyboard,
    started: Instant,
}

impl Monitor {
    fn new(source: Source, options: Options) -> io::Result<Self> {
        let models = if options.models { Models::Shown } else { Models::Hidden };
        Ok(Self {
            state: State::new(source.router(), models),
            source,
            theme: Theme::new(options.colours),
            screen: Screen::take()?,
            keyboard: Keyboard::open()?,
            started: Instant::now(),
        })
    }

    async fn show(self, mut leave: oneshot::Receiver<()>) -> Result<Ended, MonitorError> {
        let Self { source, mut state, theme, mut screen, mut keyboard, started } = self;
        let mut feed = source.open();
        let mut resized = signal(SignalKind::window_change())?;
        loop {
            screen.draw(|frame| view::draw(frame, &state, theme, started.elapsed()))?;
            let input = tokio::select! {
                _ = &mut leave => return Ok(Ended::ByShutdown),
                input = next_input(&mut feed, &mut keyboard, &mut resized, &state) => input?,
            };
            match input.and_then(|input| state.apply(input, started.elapsed())) {
                Some(Action::Quit) => return Ok(Ended::ByPerson),
                Some(Action::Order(command)) => feed.order(command),
                None => {}
            }
        }
    }
}

/// Waits for anything that changes the picture; `None` if that is only time or the size.
async fn next_input(
    feed: &mut Feed,
    keyboard: &mut Keyboard,
    resized: &mut Signal,
    state: &State,
) -> Result<Option<Input>, MonitorError> {
    let tick = Instant::now() + REDRAW;
    tokio::select! {
        news = feed.next() => Ok(Some(Input::News(news))),
        key = keyboard.next() => match key {
            Some(key) => Ok(meaning(key, state.keys())),
            None => Err(MonitorError::TerminalGone),
        },
        _ = resized.recv() => Ok(None),
        () = sleep_until(tick) => Ok(None),
    }
}
