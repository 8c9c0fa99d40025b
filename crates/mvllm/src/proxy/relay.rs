//! A server's answer on its way to the client.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;
use mvllm_core::choice::Candidate;
use mvllm_core::dialect::Ending as StreamEnding;
use mvllm_core::health::Fault;
use mvllm_core::ledger::Reservation;
use mvllm_core::snapshot::ServerView;
use tracing::warn;

use super::attempt::Held;
use super::data_thread::DataThread;
use super::silence::Silence;
use super::stream::{AnswerStream, Step};
use crate::traffic::{Ending, Record};
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
    record: Record,
}

#[derive(Debug)]
enum State {
    /// The server is still sending. Dropping the lease closes the connection, which makes vLLM
    /// abort the request.
    Open { lease: Lease, _reservation: Reservation },
    /// All has been received; what is ready is still to be passed on.
    Complete,
    /// It broke; what is ready is to be passed on, and then the connection to be broken.
    Broken { why: &'static str, flushed: bool },
}

impl Relay {
    pub(super) fn new(held: Held, record: Record, thread: Arc<DataThread>) -> Self {
        let Held { stream, silence, lease, candidate } = held;
        let Candidate { server, reservation } = candidate;
        let state = State::Open { lease, _reservation: reservation };
        let mut relay = Self { stream, silence, state, server, thread, record };
        relay.note_completion();
        relay
    }

    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        loop {
            if let Some(chunk) = self.stream.pop() {
                self.record.chunk_went(&chunk);
                self.silence.rest();
                self.note_delivery();
                return Poll::Ready(Some(Ok(chunk)));
            }
            match &mut self.state {
                State::Open { .. } => ready!(self.poll_server(cx)),
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
                self.record.chunk_came(now);
                self.note_completion();
            }
            Poll::Ready(Step::End) => self.complete(),
            Poll::Ready(Step::Break(_)) => {
                self.cut(Fault::Reset, "the connection to the server broke");
            }
        }
        Poll::Ready(())
    }

    /// With a known length the last byte tells; nobody will ask for more.
    fn note_completion(&mut self) {
        if self.stream.is_complete() && matches!(self.state, State::Open { .. }) {
            self.complete();
        }
    }

    /// hyper does not ask again after the last byte of a known length.
    fn note_delivery(&mut self) {
        if self.is_done() {
            self.record.ends(Ending::Complete);
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
                self.release_connection();
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
        self.stream.append_cut_event(&format!("The answer broke off: {why}."));
        self.record.ends(Ending::Broken(why));
        self.state = State::Broken { why, flushed: false };
    }
}
