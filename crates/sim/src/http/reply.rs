//! Answers on their way out: whole bodies and event streams.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::{ApiError, Dialect};
use super::wire::Fate;
use crate::fault::Death;
use crate::request_log::OpenEntry;

/// The body of an answer. Dropping it before its end aborts whatever was to fill it.
#[derive(Debug)]
pub(crate) struct Reply {
    content: Content,
    /// Closed when the last byte is handed to the connection.
    entry: Option<(OpenEntry, StatusCode)>,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Stream { pieces: mpsc::Receiver<Piece>, fate: Fate, _writer: AbortOnDrop },
}

/// A part of a stream.
#[derive(Debug)]
enum Piece {
    Event(Bytes),
    Break(Break),
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug)]
enum Break {
    Close,
    Reset,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reply {
    /// Ties the request's entry in the log to this body.
    pub(crate) fn record(&mut self, entry: OpenEntry, status: StatusCode) {
        self.entry = Some((entry, status));
        self.close_entry_at_end();
    }

    fn whole(bytes: Bytes) -> Self {
        let content = Content::Whole((!bytes.is_empty()).then_some(bytes));
        Self { content, entry: None }
    }

    /// hyper does not ask again once a body says that it is at its end.
    fn close_entry_at_end(&mut self) {
        if self.is_end_stream() {
            self.close_entry();
        }
    }

    fn close_entry(&mut self) {
        if let Some((entry, status)) = self.entry.take() {
            entry.finish(status);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.content {
            Content::Whole(bytes) => bytes.take(),
            Content::Stream { pieces, fate, .. } => match ready!(pieces.poll_recv(cx)) {
                Some(Piece::Event(bytes)) => Some(bytes),
                Some(Piece::Break(how)) => {
                    match how {
                        Break::Close => fate.close(),
                        Break::Reset => fate.reset(),
                    }
                    // Nothing more to write: hyper flushes what it has, and that breaks the wire.
                    return Poll::Pending;
                }
                None => None,
            },
        };
        if bytes.is_none() {
            self.close_entry();
        }
        self.close_entry_at_end();
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Stream { .. } => SizeHint::default(),
        }
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// An answer of the given type.
pub(crate) fn text(content_type: &'static str, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Reply> {
    let mut response = text("application/json", body.to_string());
    *response.status_mut() = status;
    response
}

/// An error answer.
pub(crate) fn error(error: &ApiError, dialect: Dialect) -> Response<Reply> {
    json(error.status, &error.body(dialect))
}

/// The stream is over for its writer: the client left, or a fault said so.
#[derive(Debug)]
pub(crate) struct Over;

/// Where the events of a stream go.
#[derive(Debug)]
pub(crate) struct Events {
    pieces: mpsc::Sender<Piece>,
    on_failure: OnFailure,
    dies: Option<(u32, Death)>,
}

/// What becomes of a stream whose engine dies under it, as seen when the engine of a real vLLM 0.32 was
/// killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Chat and completions: an error as `data`, then `[DONE]`.
    ErrorThenDone,
    /// Messages: an event `error`, and nothing after.
    ErrorEvent,
    /// Responses: the connection is closed in the middle of the body.
    Cut,
}

/// How a stream is to be sent.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) on_failure: OnFailure,
    pub(crate) fate: Fate,
    /// After how many events the stream dies, and how.
    pub(crate) dies: Option<(u32, Death)>,
}

/// Answers with the events that `write` sends. The head goes out at once: as vLLM's, before the
/// request is scheduled.
pub(crate) fn stream<W, F>(delivery: Delivery, write: W) -> Response<Reply>
where
    W: FnOnce(Events) -> F,
    F: Future<Output = Result<(), Over>> + Send + 'static,
{
    let Delivery { on_failure, fate, dies } = delivery;
    // One event at a time: each leaves as a chunk of its own.
    let (pieces, received) = mpsc::channel(1);
    let writing = write(Events { pieces, on_failure, dies });
    let writer = tokio::spawn(async move {
        // `Over` or not, the stream has ended.
        let _ = writing.await;
    });
    let content = Content::Stream { pieces: received, fate, _writer: AbortOnDrop(writer) };
    let mut response = Response::new(Reply { content, entry: None });
    let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl Events {
    /// Sends `data: <value>`.
    pub(crate) async fn data(&mut self, value: &Value) -> Result<(), Over> {
        self.send(format!("data: {value}\n\n")).await
    }

    /// Sends an event with a name.
    pub(crate) async fn named(&mut self, name: &str, value: &Value) -> Result<(), Over> {
        self.send(format!("event: {name}\ndata: {value}\n\n")).await
    }

    /// Sends OpenAI's end of a stream.
    pub(crate) async fn done(&mut self) -> Result<(), Over> {
        self.send("data: [DONE]\n\n".to_owned()).await
    }

    async fn send(&mut self, event: String) -> Result<(), Over> {
        self.die_if_due().await?;
        self.push(Piece::Event(event.into())).await?;
        if let Some((left, _)) = &mut self.dies {
            *left -= 1;
        }
        self.die_if_due().await
    }

    async fn die_if_due(&mut self) -> Result<(), Over> {
        let Some((0, death)) = self.dies else { return Ok(()) };
        match death {
            Death::NoDone => {}
            Death::ErrorEvent => self.fail().await?,
            Death::Truncated => self.break_off(Break::Close).await?,
            Death::Reset => self.break_off(Break::Reset).await?,
        }
        Err(Over)
    }

    async fn fail(&self) -> Result<(), Over> {
        let message = ApiError::ENGINE_DEAD;
        match self.on_failure {
            OnFailure::ErrorThenDone => {
                // With spaces, unlike all other JSON of vLLM: this one is written by Python's
                // `json.dumps`, the others by pydantic.
                let error = format!(
                    r#"{{"error": {{"message": "{message}", "type": "InternalServerError", "param": null, "code": 500}}}}"#
                );
                self.push(Piece::Event(format!("data: {error}\n\n").into())).await?;
                self.push(Piece::Event("data: [DONE]\n\n".into())).await
            }
            OnFailure::ErrorEvent => {
                let error = serde_json::json!({ "type": "internal_error", "message": message });
                let event = serde_json::json!({ "type": "error", "error": error });
                self.push(Piece::Event(format!("event: error\ndata: {event}\n\n").into())).await
            }
            OnFailure::Cut => self.break_off(Break::Close).await,
        }
    }

    async fn break_off(&self, how: Break) -> Result<(), Over> {
        self.push(Piece::Break(how)).await?;
        // The body must not end before the connection is gone, which ends this task too.
        self.pieces.closed().await;
        Err(Over)
    }

    async fn push(&self, piece: Piece) -> Result<(), Over> {
        self.pieces.send(piece).await.map_err(|_| Over)
    }
}
