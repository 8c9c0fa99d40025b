//! `mvllm cordon`, `drain` and `uncordon`: the operator's word on a server, told to a running router.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Method;
use http::header::{HeaderValue, InvalidHeaderValue};
use serde::Deserialize;
use tokio::time::sleep;

use super::{complain, say};
use crate::config::ServerUrl;
use crate::upstream::{AskError, Question, Target, ask};

/// How long the router may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often `--wait` asks how much is left.
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct AdmissionArgs {
    /// The server, as it stands in servers.toml.
    server: String,
    /// The router.
    #[command(flatten)]
    router: RouterArgs,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    admission: AdmissionArgs,
    /// Wait until the server has no request of this router any more.
    #[arg(long)]
    wait: bool,
}

/// Where the router is, and how to prove that one may order it about.
#[derive(Debug, Args)]
pub(super) struct RouterArgs {
    /// The router to tell.
    #[arg(long, env = "MVLLM_URL", default_value = "http://127.0.0.1:8888")]
    pub(super) url: ServerUrl,
    /// admin_key of the router, where it has one.
    #[arg(long, env = "MVLLM_ADMIN_KEY", hide_env_values = true)]
    pub(super) admin_key: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{router} cannot be asked: {source}. Does mvllm run there?")]
    Ask { router: ServerUrl, source: AskError },
    #[error("{0}")]
    Refused(String),
    #[error("the admin key cannot be sent in a header: {0}")]
    Key(#[from] InvalidHeaderValue),
    #[error("the router's url is unusable: {0}")]
    Url(#[from] http::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Deserialize)]
struct Obeyed {
    admission: String,
    in_flight: u32,
}

/// Tells the router, once.
pub(super) fn order(verb: &str, args: &AdmissionArgs) -> ExitCode {
    finish(block_on(async {
        let obeyed = tell(verb, args).await?;
        say(&format!("{}: {}, in flight: {}", args.server, obeyed.admission, obeyed.in_flight));
        Ok(())
    }))
}

/// Tells the router to drain, and perhaps waits.
pub(super) fn drain(args: &DrainArgs) -> ExitCode {
    let server = &args.admission.server;
    finish(block_on(async {
        let mut told = None;
        loop {
            let obeyed = tell("drain", &args.admission).await?;
            if told != Some(obeyed.in_flight) {
                say(&format!("{server}: {}, in flight: {}", obeyed.admission, obeyed.in_flight));
                told = Some(obeyed.in_flight);
            }
            if !args.wait || obeyed.in_flight == 0 {
                return Ok(());
            }
            sleep(ASK_AGAIN).await;
        }
    }))
}

fn block_on(work: impl Future<Output = Result<(), OrderError>>) -> Result<(), OrderError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn finish(outcome: Result<(), OrderError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn tell(verb: &str, args: &AdmissionArgs) -> Result<Obeyed, OrderError> {
    let router = &args.router;
    let target = Target::new(&router.url)?;
    let server: String = form_urlencoded::byte_serialize(args.server.as_bytes()).collect();
    let path = format!("/admin/servers/{verb}?url={server}");
    let authorization = router.admin_key.as_ref();
    let authorization =
        authorization.map(|key| HeaderValue::try_from(format!("Bearer {key}"))).transpose()?;
    let question =
        Question { method: Method::POST, path: &path, authorization, body: Bytes::new() };
    let (status, body, _) = ask(&target, &question, PATIENCE)
        .await
        .map_err(|source| OrderError::Ask { router: router.url.clone(), source })?;
    let refused = || OrderError::Refused(refusal(status, &body));
    if !status.is_success() {
        return Err(refused());
    }
    serde_json::from_slice(&body).map_err(|_| refused())
}

/// The message of an error in OpenAI's shape, else the status.
fn refusal(status: http::StatusCode, body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match body["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the router answers {status}: is it mvllm, and not too old?"),
    }
}
