//! `mvllm run`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::entrance::entrance;
use super::{RunArgs, complain};
use crate::app::{App, ORDERS, Signals};
use crate::config::load;
use crate::leave::{Left, Order};
use crate::listen::raise_open_files;
use crate::monitor::{self, Colours, Options};
use crate::screen::Screen;
use crate::telemetry::logs::{self, Destinations};

/// The exit status of a router that broke requests off because time was up. Neither 1, a start that
/// failed, nor 2, a wrong command line.
const BROKEN_OFF: u8 = 3;

/// The exit status of a router that was told twice, as of a program that Ctrl-C has killed.
const AT_ONCE: u8 = 130;

pub(super) fn run(args: RunArgs) -> ExitCode {
    // First of all, while there is but one thread.
    let entrance = entrance(&args);
    let path = Arc::from(args.config);
    let loaded = match load(&path) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.to_string());
            return ExitCode::FAILURE;
        }
    };
    let entrance = match entrance {
        Ok(entrance) => entrance,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let screen = Screen::chosen(args.console, Options { models: args.model, colours: colours() });
    let console = matches!(screen, Screen::Lines);
    let folder = Some(args.log_dir.as_path()).filter(|folder| *folder != Path::new("none"));
    let logging = logs::start(args.log_level, Destinations { console, folder });
    if !loaded.warnings.is_empty() {
        warn!("{}", loaded.warnings);
    }
    if args.reload {
        info!("--reload is always on: a changed configuration is applied without a restart");
    }
    info!("configuration: {}, servers: {}", path.display(), loaded.settings.servers.len());
    let events = logging.events.clone();
    drive(App::new(entrance, path, loaded, events, screen, fastrand::u64(..)))
}

/// Runs `app` until a signal ends it.
pub(super) fn drive(app: App) -> ExitCode {
    let outcome =
        tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            raise_open_files();
            let outcome = runtime.block_on(async {
                let signals = listen_to_signals()?;
                info!("listening on http://{}", app.address()?);
                app.run(signals).await
            });
            // A read of the configuration may hang on a network mount; it is not waited for.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(Left::Finished) => ExitCode::SUCCESS,
        Ok(Left::BrokenOff(count)) => {
            complain(&format!("time was up: {count} requests were broken off"));
            ExitCode::from(BROKEN_OFF)
        }
        Ok(Left::AtOnce) => ExitCode::from(AT_ONCE),
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What the environment says of colours.
pub(super) fn colours() -> Colours {
    let variable = |name| std::env::var(name).ok();
    Colours::asked_for(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn told_to_end() -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// SIGTERM and SIGINT: leave in good order; a second one: at once. SIGHUP: reload.
fn listen_to_signals() -> io::Result<Signals> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (leaving, leave) = mpsc::channel(ORDERS);
    let orders = leaving.clone();
    tokio::spawn(async move {
        for nth in 1.. {
            let order = tokio::select! {
                _ = terminate.recv() => Order::Supervisor,
                _ = interrupt.recv() => Order::Person,
            };
            if nth > 1 {
                monitor::restore();
                warn!("told twice: leaving at once");
                std::process::exit(AT_ONCE.into());
            }
            // If so many wait already, this one says nothing new.
            let _ = orders.try_send(order);
        }
    });
    let mut hangups = signal(SignalKind::hangup())?;
    let reload = Arc::new(Notify::new());
    let hung_up = Arc::clone(&reload);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            hung_up.notify_one();
        }
    });
    Ok(Signals { leave, leaving, reload })
}
