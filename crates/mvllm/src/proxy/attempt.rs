//! One try at one server: send the request and wait for the first thing worth passing on.
//!
//! That is not the response head. vLLM sends `200` and the headers as soon as it has tokenised the
//! prompt, while the request still waits for its turn; a server that dies then has promised
//! everything and delivered nothing. So the head is held until the body has begun: the first event
//! of a stream, the first bytes of anything else, and all of a body that is short enough to hold.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use mvllm_core::attempt::{Failure, Replay, Verdict, judge};
use mvllm_core::choice::Candidate;
use mvllm_core::dialect::{Dialect, Ending, Progress};
use mvllm_core::route::Route;
use mvllm_core::snapshot::ServerView;
use mvllm_core::time::Timestamp;

use super::asked::RANK;
use super::data_thread::DataThread;
use super::headers;
use super::retry_after;
use super::silence::{Silence, TooSilent};
use super::stream::{AnswerStream, Origin, Sign, Step};
use crate::board::Published;
use crate::upstream::{ConnectError, IncomingAnswer, Lease, NoAnswer, Target, connect_driven};

/// A body that is not an event stream and at most this long is held until it is all there: its
/// client can use no part of it, and until then another server can be asked.
const WHOLE_MAX: usize = 1024 * 1024;

/// Keep-alive comments and announcements are held until the first event; a server that sends more
/// of them than this is taken at its word.
const HELD_MAX: usize = 1024 * 1024;

/// A request, ready to be sent as often as needed.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) route: Route,
    pub(super) upgrade: Option<HeaderValue>,
    /// The longest event that is waited for before any of it is passed on.
    pub(super) event_max: usize,
}

/// What the client is to get.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: Parts,
    pub(super) body: AnswerBody,
}

impl Answered {
    /// Whose answer it is.
    pub(super) fn server(&self) -> &Arc<ServerView> {
        match &self.body {
            AnswerBody::Stream(held) => &held.candidate.server,
            AnswerBody::Upgraded { candidate, .. } => &candidate.server,
        }
    }

    /// When the request was sent, if it is the server's engine that has answered.
    pub(super) fn proof_of_engine(&self) -> Option<Timestamp> {
        match &self.body {
            AnswerBody::Stream(held) => {
                (held.stream.sign() == Sign::Engine).then(|| held.silence.begun_at())
            }
            AnswerBody::Upgraded { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum AnswerBody {
    /// A response, of which the beginning is held.
    Stream(Box<Held>),
    /// 101: from here on the connection speaks another protocol.
    Upgraded { server: hyper::upgrade::OnUpgrade, lease: Lease, candidate: Candidate },
}

/// All that is needed to pass the rest of an answer on.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) stream: AnswerStream,
    pub(super) silence: Silence,
    pub(super) lease: Lease,
    pub(super) candidate: Candidate,
}

/// An attempt that brought nothing to pass on, unless nobody does better.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) detail: String,
    /// The server's own words, if it had any.
    pub(super) answer: Option<(Parts, Bytes)>,
}

impl Failed {
    fn new(failure: Failure, detail: &dyn Display) -> Self {
        Self { failure, detail: detail.to_string(), answer: None }
    }

    /// How long the server wants to be left alone, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let (head, _) = self.answer.as_ref()?;
        retry_after::asked_for(&head.headers, jiff::Timestamp::now())
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        let ours = error.is_our_own();
        Self::new(if ours { Failure::OwnLimit } else { Failure::Unreachable }, &error)
    }
}

impl From<TooSilent> for Failed {
    fn from(silence: TooSilent) -> Self {
        Self::new(Failure::Silent, &silence)
    }
}

impl Prepared {
    pub(super) fn replay(&self) -> Replay {
        Replay::of(self.route, self.method.as_str())
    }

    /// Who computes the answer, if it is a good one.
    fn origin_of(&self, status: StatusCode) -> Origin {
        let by_engine = self.method == Method::POST
            && status.is_success()
            && self.route.is_answered_by_engine(self.path.path());
        if by_engine { Origin::Engine } else { Origin::FrontEnd }
    }

    /// To be sent to `target`, and to that rank of it, if there is one to name.
    fn request(
        &self,
        target: &Target,
        rank: Option<u32>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.uri(&self.path)?;
        let mut headers = self.headers.clone();
        headers::for_server(&mut headers);
        target.put_on(&mut headers);
        if let Some(rank) = rank {
            headers.insert(RANK, HeaderValue::from(rank));
        }
        if let Some(protocol) = &self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Tries. The candidate's place is held by whatever comes of it.
pub(super) async fn attempt(
    thread: &Arc<DataThread>,
    prepared: &Prepared,
    candidate: Candidate,
    published: &Published,
) -> Result<Answered, Failed> {
    let Some(target) = published.targets.get(&candidate.server.key) else {
        return Err(Failed::new(Failure::Unreachable, &"the server has just been removed"));
    };
    let mut silence = Silence::begin(
        thread.clock,
        published.settings.tuning.request_timeout,
        Arc::clone(candidate.reservation.ledger()),
    );
    let limit = published.settings.tuning.connect_timeout;
    let keep_idle = published.settings.tuning.upstream_idle_timeout;
    let mut idle = thread.pool.take(candidate.server.key, keep_idle, thread.clock.now());
    loop {
        let reused = idle.is_some();
        let connection = match idle.take() {
            Some(connection) => connection,
            None => connect_driven(target, limit).await?,
        };
        let lease = Lease::new(candidate.server.key, connection, Arc::clone(&thread.pool));
        let rank = candidate.reservation.rank();
        match send(prepared, target, rank, lease, &mut silence).await {
            Ok((lease, response)) => {
                return receive(thread, prepared, candidate, silence, lease, response).await;
            }
            // The server closed the idle connection just as it was used (uvicorn does after 5 s).
            // Nothing of an answer was seen, so that is no failure of the server: once more on a
            // new connection.
            Err(SendFailed::Connection { unsent, .. })
                if reused && (unsent || prepared.replay() == Replay::Safe) => {}
            Err(SendFailed::Connection { error, .. }) => {
                let failure = if error.is_parse() { Failure::Malformed } else { Failure::Lost };
                return Err(Failed::new(failure, &error));
            }
            Err(SendFailed::Silent(silent)) => return Err(silent.into()),
            Err(SendFailed::Request(error)) => {
                return Err(Failed::new(Failure::Unreachable, &error));
            }
        }
    }
}

enum SendFailed {
    Connection { error: hyper::Error, unsent: bool },
    Silent(TooSilent),
    Request(http::Error),
}

async fn send(
    prepared: &Prepared,
    target: &Target,
    rank: Option<u32>,
    mut lease: Lease,
    silence: &mut Silence,
) -> Result<(Lease, Response<IncomingAnswer>), SendFailed> {
    let request = prepared.request(target, rank).map_err(SendFailed::Request)?;
    match silence.bound(lease.connection().send(request)).await {
        Ok(Ok(response)) => Ok((lease, response)),
        Ok(Err(NoAnswer { error, unsent })) => Err(SendFailed::Connection { error, unsent }),
        Err(silent) => Err(SendFailed::Silent(silent)),
    }
}

async fn receive(
    thread: &Arc<DataThread>,
    prepared: &Prepared,
    candidate: Candidate,
    mut silence: Silence,
    mut lease: Lease,
    mut response: Response<IncomingAnswer>,
) -> Result<Answered, Failed> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if prepared.upgrade.is_none() {
            let detail = "it changes to a protocol that nobody asked for";
            return Err(Failed::new(Failure::Malformed, &detail));
        }
        let server = hyper::upgrade::on(&mut response);
        lease.connection().becomes_independent();
        let (head, _) = response.into_parts();
        return Ok(Answered { head, body: AnswerBody::Upgraded { server, lease, candidate } });
    }
    // vLLM sends the head of a stream before its engine has heard of the request.
    silence.broken_by(Sign::Server);
    let (head, incoming) = response.into_parts();
    // The answer to HEAD has the headers of a stream and none of its events.
    let has_body = prepared.method != Method::HEAD;
    let events = event_dialect(&head, prepared.route.dialect()).filter(|_| has_body);
    let mut stream =
        AnswerStream::new(incoming, events, prepared.origin_of(head.status), prepared.event_max);
    if let Some(failure) = hold(&mut stream, &head, &mut silence).await? {
        let detail = format!("{} {failure:?}", head.status);
        let answer = stream.is_complete().then(|| (head, stream.contents()));
        if answer.is_some() {
            lease.finish(thread.clock.now());
        }
        return Err(Failed { failure, detail, answer });
    }
    let held = Held { stream, silence, lease, candidate };
    Ok(Answered { head, body: AnswerBody::Stream(Box::new(held)) })
}

/// Holds the answer until it is worth passing on. Some failure, if that never comes.
async fn hold(
    stream: &mut AnswerStream,
    head: &Parts,
    silence: &mut Silence,
) -> Result<Option<Failure>, Failed> {
    let status = head.status.as_u16();
    if status == 429 || status >= 500 {
        hold_while(stream, silence, |stream| stream.buffered() < WHOLE_MAX).await?;
        return Ok(match judge(status, &stream.contents()) {
            Verdict::Failed(failure) => Some(failure),
            Verdict::Deliver => None,
        });
    }
    if !stream.has_events() {
        let short = stream.exact_size().is_some_and(|size| size <= WHOLE_MAX as u64);
        hold_while(stream, silence, |stream| short || stream.buffered() == 0).await?;
        return Ok(None);
    }
    hold_while(stream, silence, |stream| !has_begun(stream) && stream.buffered() < HELD_MAX)
        .await?;
    match stream.progress() {
        Progress::Failed(failure) if !failure.after_output && failure.blames_server() => {
            hold_while(stream, silence, |stream| stream.buffered() < HELD_MAX).await?;
            let dead = failure.engine_dead;
            Ok(Some(if dead { Failure::EngineDead } else { Failure::ErrorEvent }))
        }
        _ if stream.is_complete() && stream.ending() == Ending::Cut => {
            Err(Failed::new(Failure::Lost, &"the stream ended before its first event"))
        }
        _ => Ok(None),
    }
}

fn has_begun(stream: &AnswerStream) -> bool {
    !matches!(stream.progress(), Progress::Silent | Progress::Announced)
}

async fn hold_while(
    stream: &mut AnswerStream,
    silence: &mut Silence,
    more: impl Fn(&AnswerStream) -> bool,
) -> Result<(), Failed> {
    while !stream.is_complete() && more(stream) {
        match silence.bound(stream.step()).await? {
            Step::Bytes | Step::End => {
                silence.broken_by(stream.sign());
            }
            Step::Break(error) => return Err(Failed::new(Failure::Lost, &error)),
        }
    }
    Ok(())
}

/// The dialect of an event stream; none of any other body, nor of one that is compressed, which
/// nobody can read on the way.
fn event_dialect(head: &Parts, dialect: Dialect) -> Option<Dialect> {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    let kind = head.headers.get(CONTENT_TYPE)?.as_bytes();
    let is_stream = kind.len() >= EVENT_STREAM.len()
        && kind[..EVENT_STREAM.len()].eq_ignore_ascii_case(EVENT_STREAM);
    let encoding = head.headers.get(CONTENT_ENCODING).map_or(&b"identity"[..], |e| e.as_bytes());
    let is_plain = encoding.eq_ignore_ascii_case(b"identity");
    (is_stream && is_plain && head.status.is_success()).then_some(dialect)
}
