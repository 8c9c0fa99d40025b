//! `mvllm run`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{RunArgs, complain};
use crate::app::{App, Signals};
use crate::config::load;
use crate::listen::{listen, raise_open_files};
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
    let folder = Some(args.log_dir.as_path()).filter(|folder| *folder != Path::new("none"));
    let logging = logs::start(args.log_level, Destinations { console: true, folder });
    if !loaded.warnings.is_empty() {
        warn!("{}", loaded.warnings);
    }
    if args.reload {
        info!("--reload is always on: a changed configuration is applied without a restart");
    }
    info!("configuration: {}, servers: {}", path.display(), loaded.settings.servers.len());
    let events = logging.events.clone();
    drive(App::new(listener, path, loaded, events, fastrand::u64(..)))
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

/// SIGTERM and SIGINT: leave in good order; a second one: at once. SIGHUP: reload.
fn listen_to_signals(signals: &Signals) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut orders = signal(kind)?;
        let leave = Arc::clone(&signals.leave);
        tokio::spawn(async move {
            orders.recv().await;
            leave.notify_one();
            orders.recv().await;
            warn!("told twice: leaving at once");
            std::process::exit(130);
        });
    }
    let mut hangups = signal(SignalKind::hangup())?;
    let reload = Arc::clone(&signals.reload);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reload.notify_one();
        }
    });
    Ok(())
}
