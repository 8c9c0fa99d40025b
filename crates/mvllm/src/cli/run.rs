//! `mvllm run`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{RunArgs, complain};
use crate::app::{App, Signals};
use crate::config::load;
use crate::listen::{listen, raise_open_files};
use crate::monitor::{self, Colours, Options};
use crate::screen::Screen;
use crate::telemetry::logs::{self, Destinations};

pub(super) fn run(args: RunArgs) -> ExitCode {
    let path = Arc::from(args.config);
    let loaded = match load(&path) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.to_string());
            return ExitCode::FAILURE;
        }
    };
    let listener = match listen(&args.host, args.port) {
        Ok(listener) => listener,
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
    drive(App::new(listener, path, loaded, events, screen, fastrand::u64(..)))
}

/// Runs `app` until a signal ends it.
pub(super) fn drive(app: App) -> ExitCode {
    let outcome =
        tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            raise_open_files();
            let outcome = runtime.block_on(async {
                let signals = Signals::default();
                listen_to_signals(&signals)?;
                info!("listening on http://{}", app.address()?);
                app.run(signals).await
            });
            // A read of the configuration may hang on a network mount; it is not waited for.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
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
fn listen_to_signals(signals: &Signals) -> io::Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let leave = Arc::clone(&signals.leave);
    tokio::spawn(async move {
        for nth in 1.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 1 {
                monitor::restore();
                warn!("told twice: leaving at once");
                std::process::exit(130);
            }
            leave.notify_one();
        }
    });
    let mut hangups = signal(SignalKind::hangup())?;
    let reload = Arc::clone(&signals.reload);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reload.notify_one();
        }
    });
    Ok(())
}
