//! One question over one connection, for commands that ask and end.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use super::connect::{ConnectError, Connection, connect};
use super::target::Target;

/// No answer to such a question is longer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the answer broke off or is not HTTP: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the path cannot be asked for: {0}")]
    Path(#[from] http::Error),
}

/// A question: method, path with query, the value of `Authorization` if there is one, and a body.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

impl<'a> Question<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, authorization: None, body: Bytes::new() }
    }
}

/// Asks over a connection of its own, which is then left open in the second part of the answer.
pub(crate) async fn ask(
    target: &Target,
    question: &Question<'_>,
    limit: Duration,
) -> Result<(StatusCode, Bytes, Connection), AskError> {
    let answer = async {
        let mut connection = connect(target, limit).await?;
        let (status, body) = ask_over(&mut connection, target, question).await?;
        Ok((status, body, connection))
    };
    timeout(limit, answer).await.unwrap_or(Err(AskError::TimedOut(limit)))
}

/// Asks over a connection that is there.
pub(crate) async fn ask_over(
    connection: &mut Connection,
    target: &Target,
    question: &Question<'_>,
) -> Result<(StatusCode, Bytes), AskError> {
    let broken = |error: hyper::Error| AskError::Broken(error.into());
    let path = question.path.parse().map_err(http::Error::from)?;
    let mut request = Request::new(Full::new(question.body.clone()));
    *request.method_mut() = question.method.clone();
    *request.uri_mut() = target.uri(&path)?;
    target.put_on(request.headers_mut());
    if let Some(authorization) = &question.authorization {
        request.headers_mut().insert(http::header::AUTHORIZATION, authorization.clone());
    }
    connection.sender.ready().await.map_err(broken)?;
    let response = connection.sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(AskError::Broken)?;
    Ok((head.status, body.to_bytes()))
}
