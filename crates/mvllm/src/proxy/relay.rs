//! A server's answer on its way to the client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;
use mvllm_core::attempt::Failure;
use mvllm_core::choice::Candidate;
use mvllm_core::continuation::{Resumption, Scribe};
use mvllm_core::dialect::Ending as StreamEnding;
use mvllm_core::health::Fault;
use mvllm_core::ledger::Reservation;
use mvllm_core::snapshot::ServerView;
use tracing::{info, warn};

use super::attempt::Held;
use super::data_thread::DataThread;
use super::resume::{Resumable, Resumed, resume};
use super::silence::Silence;
use super::stream::{AnswerStream, Sign, Step};
use crate::traffic::{Continuation, Ending, Record};
use crate::upstream::Lease;

/// Tells hyper to break the connection instead of ending the body: the client must not take what
/// it got for all there is.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0}")]
pub(crate) struct Broken(&'static str);

impl Broken {
    /// Given up because the client took nothing of it.
    pub(super) fn unread() -> Self {
        Self("the client took nothing of it for too long")
    }
}

/// Passes chunks on as the client takes them. Owns the place at the server: it is given back when
/// the last byte has passed, or when the client leaves and hyper drops this.
#[derive(Debug)]
pub(crate) struct Relay {
    stream: AnswerStream,
    silence: Silence,
    state: State,
    server: Arc<ServerView>,
    thread: Arc<DataThread>,
    /// None while whoever looks for another server keeps it.
    record: Option<Record>,
    /// The request, as long as its answer could be carried on elsewhere. It can never be sent again
    /// as it is once something was said, only together with what was said.
    request: Option<Box<Resumable>>,
}

#[derive(Debug)]
enum State {
    /// The server is still sending. Dropping the lease closes the connection, which makes vLLM
    /// abort the request.
    Open { lease: Lease, reservation: Reservation },
    /// It died; another is being looked for.
    Resuming { search: Search, cut: Cut },
    /// All has been received; what is ready is still to be passed on.
    Complete,
    /// It broke; what is ready is to be passed on, and then the connection to be broken.
    Broken { why: &'static str, flushed: bool },
}

/// How an answer broke off.
#[derive(Debug)]
struct Cut {
    why: &'static str,
    /// The server's own words about it, which end the stream in its way.
    said: Vec<u8>,
}

struct Search(Pin<Box<dyn Future<Output = (Record, Option<Resumed>)> + Send>>);

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Search")
    }
}

impl Relay {
    /// With what it takes to carry the answer on, if that can be done.
    pub(super) fn new(
        held: Held,
        record: Record,
        thread: Arc<DataThread>,
        resumable: Option<(Box<Resumable>, Box<Scribe>)>,
    ) -> Self {
        let Held { mut stream, silence, lease, candidate } = held;
        let Candidate { server, reservation } = candidate;
        let state = State::Open { lease, reservation };
        let request = resumable.map(|(request, scribe)| {
            stream.follow(scribe);
            request
        });
        let record = Some(record);
        let mut relay = Self { stream, silence, state, server, thread, record, request };
        relay.settle_what_is_kept();
        relay.note_first_token();
        relay.note_completion();
        relay
    }

    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            if let Some(chunk) = self.stream.pop() {
                if let Some(record) = &mut self.record {
                    record.chunk_went(&chunk);
                }
                self.silence.rest();
                self.note_delivery();
                return Poll::Ready(Some(Ok(chunk)));
            }
            match &mut self.state {
                State::Open { .. } => ready!(self.poll_server(cx)),
                State::Resuming { search, .. } => {
                    let (record, resumed) = ready!(search.0.as_mut().poll(cx));
                    self.record = Some(record);
                    self.end_of_search(resumed);
                }
                State::Complete => {
                    self.note_delivery();
                    return Poll::Ready(None);
                }
                State::Broken { flushed: flushed @ false, .. } => {
                    // hyper forgets what it has not written yet when a body fails: let it write
                    // first.
                    *flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Broken { why, .. } => return Poll::Ready(Some(Err(Broken(why)))),
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Complete) && self.stream.buffered() == 0
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }

    fn poll_server(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream.poll_step(cx) {
            Poll::Pending => {
                ready!(self.silence.poll_exceeded(cx));
                self.cut(Fault::Silent, "the server fell silent");
            }
            Poll::Ready(Step::Bytes) => {
                let now = self.silence.broken_by(self.stream.sign());
                if let Some(record) = &mut self.record {
                    record.chunk_came(now);
                }
                if self.stream.has_diverged() {
                    self.break_off("what another server said did not follow");
                    return Poll::Ready(());
                }
                self.note_first_token();
                self.settle_what_is_kept();
                self.note_completion();
            }
            Poll::Ready(Step::End) => self.complete(),
            Poll::Ready(Step::Break(_)) => {
                self.cut(Fault::Reset, "the connection to the server broke");
            }
        }
        Poll::Ready(())
    }

    /// The first token is out: its prompt keeps nobody waiting any more. Answers in one piece tell of
    /// no token but the last.
    fn note_first_token(&mut self) {
        let is_out = self.stream.has_events() && self.stream.sign() == Sign::Engine;
        if is_out && let State::Open { reservation, .. } = &mut self.state {
            reservation.first_token(self.thread.clock.now());
        }
    }

    /// Keeps no more than there is room for, and nothing that is of no use.
    fn settle_what_is_kept(&mut self) {
        let Some(request) = &mut self.request else { return };
        let kept = self.stream.kept_bytes();
        if !kept.is_some_and(|kept| request.kept.covers(request.prepared.body.len() + kept)) {
            self.stream.keep_no_more();
            self.request = None;
        }
    }

    /// With a known length the last byte tells; nobody will ask for more.
    fn note_completion(&mut self) {
        if self.stream.is_complete() && matches!(self.state, State::Open { .. }) {
            self.complete();
        }
    }

    /// hyper does not ask again after the last byte of a known length.
    fn note_delivery(&mut self) {
        if self.is_done()
            && let Some(record) = &mut self.record
        {
            record.ends(Ending::Complete);
        }
    }

    fn complete(&mut self) {
        match self.stream.ending() {
            StreamEnding::Cut => {
                self.cut(Fault::Reset, "the server ended the stream without finishing it");
            }
            StreamEnding::Failed(failure) if failure.blames_server() => {
                let dead = failure.engine_dead;
                let fault = if dead { Fault::EngineDead } else { Fault::ErrorEvent };
                self.thread.report_failure(self.server.key, fault);
                if !self.resumes(fault, "the server reported an error") {
                    self.stream.keep_no_more();
                    self.release_connection();
                }
            }
            StreamEnding::Failed(_) | StreamEnding::Complete => self.release_connection(),
        }
    }

    fn release_connection(&mut self) {
        if let State::Open { lease, .. } = std::mem::replace(&mut self.state, State::Complete) {
            lease.finish(self.thread.clock.now());
        }
    }

    fn cut(&mut self, fault: Fault, why: &'static str) {
        warn!(server = %self.server.spec.url, "an answer broke off: {why}");
        self.thread.report_failure(self.server.key, fault);
        if !self.resumes(fault, why) {
            self.break_off(why);
        }
    }

    fn break_off(&mut self, why: &'static str) {
        self.stream.append_cut_event(&format!("The answer broke off: {why}."));
        if let Some(record) = &mut self.record {
            record.ends(Ending::Broken(why));
        }
        self.state = State::Broken { why, flushed: false };
    }

    /// Begins to look for somebody who carries the answer on; false if that is impossible.
    fn resumes(&mut self, fault: Fault, why: &'static str) -> bool {
        let is_resumed = self.begins_to_resume(fault, why).is_some();
        if !is_resumed && self.stream.has_events() {
            self.thread.traffic.count_continuation(Continuation::Impossible);
        }
        is_resumed
    }

    fn begins_to_resume(&mut self, fault: Fault, why: &'static str) -> Option<()> {
        let request = self.request.take()?;
        let way = self.stream.able_scribe()?.resumption(&request.prepared.body)?;
        if let Resumption::End(events) = way {
            self.thread.traffic.count_continuation(Continuation::Ended);
            self.stream.append(events);
            self.state = State::Complete;
            return Some(());
        }
        let mut scribe = self.stream.take_scribe()?;
        let record = self.record.take()?;
        let said = scribe.withheld();
        let (thread, died) = (Arc::clone(&self.thread), Arc::clone(&self.server));
        let died = (died, failure(fault));
        let search = Search(Box::pin(resume(thread, request, scribe, way, died, record)));
        self.state = State::Resuming { search, cut: Cut { why, said } };
        Some(())
    }

    fn end_of_search(&mut self, resumed: Option<Resumed>) {
        let State::Resuming { cut, .. } = std::mem::replace(&mut self.state, State::Complete)
        else {
            return;
        };
        let Some(Resumed { held, request }) = resumed else {
            self.thread.traffic.count_continuation(Continuation::Failed);
            if cut.said.is_empty() {
                self.break_off(cut.why);
            } else {
                self.stream.append(cut.said);
            }
            return;
        };
        self.thread.traffic.count_continuation(Continuation::Resumed);
        let Held { stream, silence, lease, candidate } = *held;
        let Candidate { server, reservation } = candidate;
        info!(from = %self.server.spec.url, server = %server.spec.url, "an answer is carried on");
        (self.stream, self.silence, self.server) = (stream, silence, server);
        self.request = Some(request);
        self.state = State::Open { lease, reservation };
        self.settle_what_is_kept();
        self.note_completion();
    }
}

/// The end of an answer as the failure of an attempt.
fn failure(fault: Fault) -> Failure {
    match fault {
        Fault::Silent => Failure::Silent,
        Fault::EngineDead => Failure::EngineDead,
        Fault::ErrorEvent => Failure::ErrorEvent,
        _ => Failure::Lost,
    }
}
