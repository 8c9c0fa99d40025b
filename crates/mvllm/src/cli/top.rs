//! `mvllm top`: the monitor of a router that runs elsewhere.

use std::process::ExitCode;

use clap::Args;

use super::admission::RouterArgs;
use super::complain;
use super::run::colours;
use crate::monitor::{self, MonitorError, Options, Source};

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    router: RouterArgs,
    /// Show the models of each server.
    #[arg(long, short)]
    model: bool,
}

#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error("the router's url is unusable: {0}")]
    Url(#[from] http::Error),
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub(super) fn top(args: &TopArgs) -> ExitCode {
    match show(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn show(args: &TopArgs) -> Result<(), TopError> {
    let source = Source::remote(&args.router.url, args.router.admin_key.as_deref())?;
    let options = Options { models: args.model, colours: colours() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ended = async {
            // Without a handler there is only the key to end it.
            let _ = super::run::told_to_end().await;
        };
        monitor::run(source, options, ended).await
    })?;
    Ok(())
}
