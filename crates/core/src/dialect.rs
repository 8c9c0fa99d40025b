//! How a stream of each API says that it has begun, failed or ended.
//!
//! A vLLM server sends `200` and the headers before it schedules the request, so neither they nor
//! a keep-alive comment say that anything has been computed, and a connection that closes without
//! a fuss may still be a stream that broke. Only the events tell. What they are is taken from
//! vLLM 0.32 (files below `vllm/entrypoints/`):
//!
//! * chat completions, completions, transcriptions, translations and `/inference/v1/generate` end
//!   in `data: [DONE]`, **after an error too**: `data: {"error": {"message": …, "type": …,
//!   "param": null, "code": 500}}`, `code` being a number (`generate/base/serving.py`,
//!   `openai/*/serving.py`, `speech_to_text/base/serving.py`). Older versions wrote
//!   `{"object": "error", "message": …, "code": 400}` instead.
//! * messages end in `event: message_stop`; after `event: error` with `{"type":"error",
//!   "error":{"type":"internal_error", …}}` nothing follows (`anthropic/serving.py`).
//! * responses end in `event: response.completed`. They open with `response.created` and
//!   `response.in_progress` before the engine is asked. An error of the engine cannot be expressed
//!   in vLLM's own event types: the generator raises, and the stream is cut
//!   (`openai/responses/serving.py`). `response.failed`, `response.incomplete`, `response.queued`
//!   and `error` are in the API (OpenAI's `ResponseStreamEvent`), `response.cancelled` is not.

use alloc::format;
use alloc::vec::Vec;

use memchr::memmem;

use crate::attempt::speaks_of_dead_engine;
use crate::quoted::json_string;
use crate::sse::{Event, Splitter};

/// The conventions of a stream, by the path of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Nameless events, `[DONE]` at the end.
    OpenAi,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// OpenAI's `/v1/responses`, also when a stored response is read again.
    Responses,
    /// Anything else: its events have no meaning here, it ends when the server closes it.
    Opaque,
}

impl Dialect {
    /// Dialect of the answers to requests for `path`; a query string does not matter.
    pub fn of_path(path: &str) -> Self {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        match path {
            // `/invocations` (SageMaker) hands on to chat completions or completions.
            "/v1/chat/completions"
            | "/v1/completions"
            | "/v1/audio/transcriptions"
            | "/v1/audio/translations"
            | "/inference/v1/generate"
            | "/invocations" => Self::OpenAi,
            "/v1/messages" => Self::Messages,
            "/v1/responses" => Self::Responses,
            _ if path.starts_with("/v1/responses/") => Self::Responses,
            _ => Self::Opaque,
        }
    }

    fn kind(self, event: &Event<'_>) -> Kind {
        if self == Self::Opaque {
            return Kind::Output;
        }
        let first = first_member(event.head);
        if event.name == b"error" || first.is_some_and(is_error) {
            return Kind::Error;
        }
        // Clients of both APIs go by the `type` in the data; a server may leave out the name.
        let name = match first {
            Some((b"type", Value::Text(kind))) if event.name.is_empty() => kind,
            _ => event.name,
        };
        match (self, name) {
            (Self::OpenAi, _) if event.head.trim_ascii() == b"[DONE]" => Kind::End,
            (Self::Messages, b"message_stop") => Kind::End,
            (Self::Messages, b"ping") => Kind::KeepAlive,
            (Self::Responses, b"response.completed" | b"response.incomplete") => Kind::End,
            (Self::Responses, b"response.failed") => Kind::FailedEnd,
            (
                Self::Responses,
                b"response.created" | b"response.queued" | b"response.in_progress",
            ) => Kind::Announcement,
            _ => Kind::Output,
        }
    }
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet, or keep-alives only.
    Silent,
    /// The server has said that it took the request in, and nothing else. Only
    /// [`Dialect::Responses`] does so. While this has not been passed on, another server may still
    /// be asked, and it is no first token.
    Announced,
    /// The first output was seen.
    Started,
    /// An error event was seen. Nothing that follows makes the answer a success.
    Failed(Failure),
    /// The end of the answer was seen.
    Finished,
}

/// What is known of an error event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status that the event names or implies, if any.
    pub status: Option<u16>,
    /// Whether any output came before it. Without, another server may still be asked.
    pub after_output: bool,
    /// Whether the end of the answer was seen as well.
    pub ended: bool,
    /// Whether it says that the engine is dead, and with it the server.
    pub engine_dead: bool,
}

impl Failure {
    /// Whether another server might do better: the status is 5xx, or there is none to go by.
    pub fn blames_server(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

/// What a stream was when its server closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All of the answer was seen.
    Complete,
    /// The server reported an error; the client has been told.
    Failed(Failure),
    /// The end is missing; the client has to be told ([`StreamWatch::cut_event`]).
    Cut,
}

/// What one chunk brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// How many bytes of the chunk can be passed on, together with all that was held back before
    /// it if not 0. The rest is the start of an event, to be held back until it is whole, so that
    /// a broken stream can be ended with an event of our own.
    pub complete: usize,
}

/// Follows one stream. Allocates nothing, keeps about 250 bytes.
#[derive(Debug, Clone)]
pub struct StreamWatch {
    dialect: Dialect,
    splitter: Splitter,
    progress: Progress,
    events: u64,
}

impl StreamWatch {
    /// Before the first byte.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, splitter: Splitter::default(), progress: Progress::Silent, events: 0 }
    }

    /// Takes the next chunk, cut at any byte.
    pub fn feed(&mut self, chunk: &[u8]) -> Fed {
        let Self { dialect, splitter, progress, events } = self;
        let complete = splitter.feed(chunk, |event| {
            *events += 1;
            *progress = progress.after(dialect.kind(&event), &event);
        });
        // There is no event to end a broken opaque stream with, so nothing is gained by waiting.
        Fed { complete: if *dialect == Dialect::Opaque { chunk.len() } else { complete } }
    }

    /// How far the stream has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What it would mean if the stream were over now, without an error of the connection.
    pub fn ending(&self) -> Ending {
        match self.progress {
            Progress::Finished => Ending::Complete,
            Progress::Failed(failure) => Ending::Failed(failure),
            _ if self.dialect == Dialect::Opaque => Ending::Complete,
            _ => Ending::Cut,
        }
    }

    /// Bytes that [`Fed::complete`] has left out so far: what a relay holds back.
    pub fn pending(&self) -> usize {
        if self.dialect == Dialect::Opaque { 0 } else { self.splitter.pending() }
    }

    /// Events so far, which are not comments.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether the stream stands between two events.
    pub fn at_boundary(&self) -> bool {
        self.splitter.at_boundary()
    }

    /// The event that tells a client, in its own dialect, that the answer ends here unfinished
    /// (allocated). Nothing may follow it: an SDK would take `[DONE]` for a success. None for
    /// [`Dialect::Opaque`], where only breaking the connection is understood.
    pub fn cut_event(&self, message: &str) -> Option<Vec<u8>> {
        let message = json_string(message);
        let event = match self.dialect {
            // The shape of vLLM's own (`serve/engine/protocol.py`, ErrorInfo).
            Dialect::OpenAi => format!(
                "data: {{\"error\":{{\"message\":{message},\"type\":\"BadGatewayError\",\
                 \"param\":null,\"code\":502}}}}\n\n"
            ),
            // https://docs.anthropic.com/en/api/errors and .../messages-streaming
            Dialect::Messages => format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\
                 \"message\":{message}}}}}\n\n"
            ),
            // OpenAI's ResponseErrorEvent; its `code` is a string. Events are numbered from 0.
            Dialect::Responses => format!(
                "event: error\ndata: {{\"type\":\"error\",\"code\":\"server_error\",\
                 \"message\":{message},\"param\":null,\"sequence_number\":{}}}\n\n",
                self.events
            ),
            Dialect::Opaque => return None,
        };
        Some(event.into_bytes())
    }
}

/// What an event means for the progress of its stream.
enum Kind {
    KeepAlive,
    Announcement,
    Output,
    Error,
    End,
    FailedEnd,
}

impl Progress {
    fn after(self, kind: Kind, event: &Event<'_>) -> Self {
        let failure = |ended| {
            let after_output = matches!(self, Self::Started | Self::Finished);
            let engine_dead =
                speaks_of_dead_engine(event.head) || speaks_of_dead_engine(event.tail);
            Self::Failed(Failure { status: error_status(event), after_output, ended, engine_dead })
        };
        match (self, kind) {
            (Self::Failed(first), Kind::End | Kind::FailedEnd) => {
                Self::Failed(Failure { ended: true, ..first })
            }
            (Self::Failed(_), _) => self,
            (_, Kind::Error) => failure(false),
            (_, Kind::FailedEnd) => failure(true),
            (_, Kind::End) => Self::Finished,
            (Self::Silent, Kind::Announcement) => Self::Announced,
            (Self::Silent | Self::Announced, Kind::Output) => Self::Started,
            _ => self,
        }
    }
}

/// The value of a JSON member, as far as it matters here.
#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a [u8]),
    Null,
    Other,
}

fn is_error((key, value): (&[u8], Value<'_>)) -> bool {
    match (key, value) {
        (b"error", Value::Null) => false,
        (b"error", _) => true,
        (b"object" | b"type", Value::Text(kind)) => kind == b"error",
        _ => false,
    }
}

/// First key and value of the object whose first bytes these are. Reads no escapes: none of the
/// names looked for contains any.
fn first_member(head: &[u8]) -> Option<(&[u8], Value<'_>)> {
    let (key, rest) = quoted(head.trim_ascii_start().strip_prefix(b"{")?)?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let value = match quoted(value) {
        Some((text, _)) => Value::Text(text),
        None if value.starts_with(b"null") => Value::Null,
        None => Value::Other,
    };
    Some((key, value))
}

fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    Some((&text[..end], &text[end + 1..]))
}

/// The types of Anthropic's errors (<https://docs.anthropic.com/en/api/errors>) and the one that
/// vLLM uses for all that goes wrong within a stream of messages.
const STATUS_OF_TYPE: [(&[u8], u16); 10] = [
    (b"\"internal_error\"", 500),
    (b"\"api_error\"", 500),
    (b"\"overloaded_error\"", 529),
    (b"\"timeout_error\"", 504),
    (b"\"rate_limit_error\"", 429),
    (b"\"invalid_request_error\"", 400),
    (b"\"authentication_error\"", 401),
    (b"\"permission_error\"", 403),
    (b"\"not_found_error\"", 404),
    (b"\"request_too_large\"", 413),
];

fn error_status(event: &Event<'_>) -> Option<u16> {
    status_member(event.head).or_else(|| status_member(event.tail)).or_else(|| {
        let named = |&&(name, _): &&(&[u8], u16)| memmem::find(event.head, name).is_some();
        STATUS_OF_TYPE.iter().find(named).map(|&(_, status)| status)
    })
}

/// Value of a `code` member anywhere in a piece of JSON. Within a string its quotes would be
/// escaped and not match, as a value it would not be followed by a colon.
fn status_member(json: &[u8]) -> Option<u16> {
    const KEY: &[u8] = b"\"code\"";
    let at = memmem::find(json, KEY)?;
    let value = json[at + KEY.len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    // A number that runs into the end of what was kept may have been longer.
    let digits = value.iter().position(|byte| !byte.is_ascii_digit())?;
    let status = core::str::from_utf8(&value[..digits]).ok()?.parse().ok()?;
    (100..=599).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests;
