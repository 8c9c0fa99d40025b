//! A router elsewhere, asked over HTTP.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{AdminCommand, AdminError, News};
use crate::config::url::ServerUrl;
use crate::status::StatusReport;
use crate::upstream::{Connection, Target, connect};

const INTERVAL: Duration = Duration::from_secs(1);

/// For connecting and for an answer. A router answers from memory; what takes longer than this is
/// the network, and the person should know.
const PATIENCE: Duration = Duration::from_secs(3);

/// A report of a thousand servers with two minutes of history is about 1.5 MB.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Why there is no report, or a command was not carried out; for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("{0}")]
    Address(#[from] http::Error),
    #[error("{reason}")]
    Unreachable { reason: String },
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("its answer is longer than {ANSWER_MAX} bytes, or was cut off")]
    Unreadable,
    #[error("it wants an admin key (--admin-key), or another one")]
    Unauthorized,
    #[error("it knows no {path}: is it mvllm 0.2 or later?")]
    Unknown { path: &'static str },
    #[error("it answered {status}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused { status: StatusCode, reason: String },
    #[error("its answer is no status report: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// How to reach the router.
#[derive(Debug)]
pub(crate) struct RemoteRouter {
    /// Its url as it was given.
    pub(super) name: String,
    target: Target,
    authorization: Option<HeaderValue>,
}

impl RemoteRouter {
    pub(super) fn new(url: &ServerUrl, admin_key: Option<&str>) -> Result<Self, http::Error> {
        let authorization = admin_key.map(authorization).transpose()?;
        Ok(Self { name: url.to_string(), target: Target::new(url)?, authorization })
    }

    async fn connect(&self) -> Result<Connection, RemoteError> {
        let connection = connect(&self.target, PATIENCE).await;
        connection.map_err(|error| RemoteError::Unreachable { reason: error.to_string() })
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Full<Bytes>>, RemoteError> {
        let path = PathAndQuery::try_from(path).map_err(http::Error::from)?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = self.target.uri(&path)?;
        self.target.put_on(request.headers_mut());
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }
}

fn authorization(admin_key: &str) -> Result<HeaderValue, http::Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {admin_key}"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks for a report once a second, until nobody listens.
pub(super) async fn report(router: Arc<RemoteRouter>, news: mpsc::Sender<News>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = news.closed() => return,
        }
        let news_now = match fetch(&router, &mut kept).await {
            Ok(report) => News::Report(Arc::new(report)),
            Err(error) => News::Lost { why: error.to_string() },
        };
        if news.send(news_now).await.is_err() {
            return;
        }
    }
}

/// Passes commands to the router, and its answers back.
pub(super) async fn pass_on(
    mut commands: mpsc::UnboundedReceiver<AdminCommand>,
    router: Arc<RemoteRouter>,
    news: mpsc::Sender<News>,
) {
    while let Some(command) = commands.recv().await {
        let outcome = order(&router, &command).await.map_err(AdminError::from);
        if news.send(News::Answered { command, outcome }).await.is_err() {
            return;
        }
    }
}

/// The latest report, over the connection of the last time where that still stands.
async fn fetch(
    router: &RemoteRouter,
    kept: &mut Option<Connection>,
) -> Result<StatusReport, RemoteError> {
    const PATH: &str = "/status";
    let mut connection = match kept.take().filter(|kept| !kept.sender.is_closed()) {
        Some(connection) => connection,
        None => router.connect().await?,
    };
    let request = router.request(Method::GET, PATH)?;
    let (status, body) = ask(&mut connection, request).await?;
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(RemoteError::Unknown { path: PATH }),
        _ => return Err(refusal(status, &body)),
    }
    let report = serde_json::from_slice(&body)?;
    *kept = Some(connection);
    Ok(report)
}

async fn order(router: &RemoteRouter, command: &AdminCommand) -> Result<(), RemoteError> {
    let mut connection = router.connect().await?;
    let url: String = byte_serialize(command.url.as_bytes()).collect();
    let path = format!("/admin/servers/{}?url={url}", command.verb);
    let (status, body) = ask(&mut connection, router.request(Method::POST, &path)?).await?;
    if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
}

async fn ask(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), RemoteError> {
    let exchange = async {
        connection.sender.ready().await?;
        let answer = connection.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|_| RemoteError::Unreadable)?.to_bytes()))
    };
    timeout(PATIENCE, exchange).await.unwrap_or(Err(RemoteError::TimedOut(PATIENCE)))
}

fn refusal(status: StatusCode, body: &[u8]) -> RemoteError {
    /// An error in OpenAI's form, which mvllm's own errors have.
    #[derive(Deserialize)]
    struct Body {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        message: String,
    }
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return RemoteError::Unauthorized;
    }
    let reason =
        serde_json::from_slice(body).map_or(String::new(), |body: Body| body.error.message);
    RemoteError::Refused { status, reason }
}
