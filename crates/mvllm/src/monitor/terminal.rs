//! The screen of standard error: taken, drawn on, and given back whatever happens.
//!
//! Standard error as in 0.1.0, so that standard output stays free for a pipe.

use std::io::{self, IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal, prelude::CrosstermBackend};

/// Whose the screen is. There is one terminal per process, and a panic in any thread must be able
/// to give it back. Changed only under the lock of standard error, which therefore puts frames,
/// panic messages and the change of screens in an order.
static HOLDER: AtomicU8 = AtomicU8::new(SHELL);
const SHELL: u8 = 0;
const MONITOR: u8 = 1;
/// Given back for a panic message; a monitor that lives on takes the screen again.
const INTERRUPTED: u8 = 2;

/// The screen while it is the monitor's. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Output>>,
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        give_back_before_panic_messages();
        let screen = Self { terminal: terminal()? };
        enter()?;
        Ok(screen)
    }

    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if HOLDER.load(Ordering::Acquire) == INTERRUPTED {
            enter()?;
            // A new one draws every cell. ratatui's `clear` would ask the terminal where the cursor
            // is, and the answer would be read by our keyboard.
            self.terminal = terminal()?;
        }
        self.terminal.draw(render)?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether there is a screen to take.
pub(super) fn is_there() -> bool {
    io::stderr().is_terminal()
}

/// Gives the screen back to the shell. For those who are about to end the process without
/// unwinding; harmless if there is nothing to give back.
pub(crate) fn restore() {
    let _order = io::stderr().lock();
    leave();
    HOLDER.store(SHELL, Ordering::Release);
}

fn terminal() -> io::Result<Terminal<CrosstermBackend<Output>>> {
    Terminal::new(CrosstermBackend::new(Output::default()))
}

fn enter() -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    enable_raw_mode()?;
    HOLDER.store(MONITOR, Ordering::Release);
    execute!(stderr, EnterAlternateScreen, Hide)
}

/// Leaves the alternate screen, if that is where we are; tells whether.
fn leave() -> bool {
    let held = HOLDER.swap(SHELL, Ordering::AcqRel) == MONITOR;
    if held {
        // Where the terminal itself is gone there is nothing to restore.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
    held
}

/// Makes panic messages readable: they appear on the shell's screen, where they also stay after the
/// monitor has ended. A panic in a data thread costs one request and not the monitor, which then
/// takes the screen again with its next frame.
fn give_back_before_panic_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Reentrant: the report may take it, too, and so may the panicking frame have.
            let _order = io::stderr().lock();
            let held = leave();
            report(panic);
            if held {
                HOLDER.store(INTERRUPTED, Ordering::Release);
            }
        }));
    });
}

/// Collects a frame, and writes it at once: nothing can come between its parts, and a terminal that
/// is slow shows no half of one.
#[derive(Debug, Default)]
struct Output {
    frame: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        // A frame that was made before a panic gave the screen back would land on the shell's.
        let outcome = match HOLDER.load(Ordering::Acquire) {
            MONITOR => stderr.write_all(&self.frame),
            _ => Ok(()),
        };
        self.frame.clear();
        outcome
    }
}
