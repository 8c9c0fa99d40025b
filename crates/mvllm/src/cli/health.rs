//! `mvllm health`: whether a router is alive, as an exit status. For container health checks, which
//! then need neither a shell nor curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::complain;
use crate::config::ServerUrl;
use crate::upstream::{AskError, Question, Target, ask};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The router to ask.
    #[arg(long, env = "MVLLM_URL", default_value = "http://127.0.0.1:8888")]
    url: ServerUrl,
    /// Also fail if no server can be sent requests.
    #[arg(long)]
    ready: bool,
}

#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("unusable url: {0}")]
    Url(#[from] http::Error),
    #[error("it answers {0}")]
    Status(http::StatusCode),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    match look(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {}: {error}", args.url));
            ExitCode::FAILURE
        }
    }
}

fn look(args: &HealthArgs) -> Result<(), Unwell> {
    let target = Target::new(&args.url)?;
    let path = if args.ready { "/readyz" } else { "/livez" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, _, _) = runtime.block_on(ask(&target, &Question::get(path), PATIENCE))?;
    if status.is_success() { Ok(()) } else { Err(Unwell::Status(status)) }
}
