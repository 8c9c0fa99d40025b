//! Asks one server small questions over a connection that it keeps.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mvllm_core::health::Fault;
use tokio::time::timeout;

use crate::upstream::{ConnectError, Connection, Target, connect};

/// An answer longer than this is cut off there. A server with eight data-parallel ranks and ten
/// models stays under 1 MiB.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// By the server's fault.
    Fault(Fault),
    /// It was not asked: this machine is at a limit of its own.
    NotAsked,
}

#[derive(Debug)]
pub(super) struct Client {
    target: Arc<Target>,
    kept: Option<Connection>,
}

impl Client {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, kept: None }
    }

    /// `GET path`, answered whole within `limit`.
    pub(super) async fn get(
        &mut self,
        path: &'static str,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        self.ask(&Question { path, json: None }, limit).await
    }

    /// `POST path` with JSON, answered whole within `limit`.
    pub(super) async fn post(
        &mut self,
        path: &'static str,
        json: String,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        self.ask(&Question { path, json: Some(json.into()) }, limit).await
    }

    async fn ask(
        &mut self,
        question: &Question,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        // A request that is given up here takes its connection with it.
        timeout(limit, self.ask_somehow(question, limit))
            .await
            .unwrap_or(Err(Unanswered::Fault(Fault::Silent)))
    }

    async fn ask_somehow(
        &mut self,
        question: &Question,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        if let Some(connection) = self.kept.take() {
            // The server may have closed it meanwhile; then a new one decides.
            if let Ok(answer) = self.ask_over(connection, question).await {
                return Ok(answer);
            }
        }
        let connection = connect(&self.target, limit).await.map_err(|error| unconnected(&error))?;
        self.ask_over(connection, question).await
    }

    async fn ask_over(
        &mut self,
        mut connection: Connection,
        question: &Question,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        connection.sender.ready().await.map_err(|error| fault(&error))?;
        let request = self.request(question)?;
        let answer = connection.sender.send_request(request).await;
        let (head, body) = answer.map_err(|error| fault(&error))?.into_parts();
        let body = read(body).await.map_err(|error| fault(&error))?;
        if let Some(body) = body {
            self.kept = Some(connection);
            return Ok((head.status, body));
        }
        Err(Unanswered::Fault(Fault::Malformed))
    }

    fn request(&self, question: &Question) -> Result<Request<Full<Bytes>>, Unanswered> {
        let body = question.json.clone();
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        let path = PathAndQuery::from_static(question.path);
        *request.uri_mut() =
            self.target.uri(&path).map_err(|_| Unanswered::Fault(Fault::Malformed))?;
        let headers = request.headers_mut();
        self.target.put_on(headers);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        Ok(request)
    }
}

#[derive(Debug)]
struct Question {
    path: &'static str,
    /// With it, the question is a POST.
    json: Option<Bytes>,
}

/// The whole body; `None` if it is too long to be an honest answer.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
        if whole.len() > ANSWER_MAX {
            return Ok(None);
        }
    }
    Ok(Some(whole.freeze()))
}

fn fault(error: &hyper::Error) -> Unanswered {
    Unanswered::Fault(if error.is_parse() { Fault::Malformed } else { Fault::Reset })
}

fn unconnected(error: &ConnectError) -> Unanswered {
    if error.is_our_own() { Unanswered::NotAsked } else { Unanswered::Fault(Fault::Unreachable) }
}
