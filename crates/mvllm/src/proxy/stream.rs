//! The body of a server's answer as it comes in, sorted into what may be passed on and what not yet.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use mvllm_core::continuation::Scribe;
use mvllm_core::dialect::{Dialect, Ending, Progress, StreamWatch};

use super::scribed::Scribed;
use crate::upstream::IncomingAnswer;

/// An event that is longer is passed on in pieces; after that a break can no longer be told to the
/// client within the stream, only by breaking its connection.
pub(super) const EVENT_MAX: usize = 1024 * 1024;

/// An answer's body. Of an event stream only whole events become ready, so that a broken one can be
/// ended with an event of our own.
#[derive(Debug)]
pub(super) struct AnswerStream {
    incoming: IncomingAnswer,
    event_max: usize,
    scribed: Option<Scribed>,
    events: Option<Box<StreamWatch>>,
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    held_back: Vec<Bytes>,
    within_event: bool,
    ended: bool,
    origin: Origin,
    sign: Sign,
}

/// Who computed an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The engine, token by token.
    Engine,
    /// The server's HTTP process alone, which goes on answering while its engine hangs.
    FrontEnd,
}

/// What the latest bytes of an answer are a sign of; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    /// Somebody keeps the connection open: comments, and announcements of what is to come.
    Life,
    /// The server answers this request.
    Server,
    /// The engine gets on with its work.
    Engine,
}

/// What polling brought.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes, though perhaps none that may be passed on yet.
    Bytes,
    /// The body ended as HTTP has it.
    End,
    /// The body broke off.
    Break(hyper::Error),
}

impl AnswerStream {
    /// `event_dialect` is that of an event stream; other bodies have none. Events longer than
    /// `event_max` are not waited for.
    pub(super) fn new(
        incoming: IncomingAnswer,
        event_dialect: Option<Dialect>,
        origin: Origin,
        event_max: usize,
    ) -> Self {
        Self {
            incoming,
            event_max,
            scribed: None,
            events: event_dialect.map(|dialect| Box::new(StreamWatch::new(dialect))),
            ready: VecDeque::new(),
            ready_bytes: 0,
            held_back: Vec::new(),
            within_event: false,
            ended: false,
            origin,
            sign: Sign::Life,
        }
    }

    /// What the latest step was a sign of.
    pub(super) fn sign(&self) -> Sign {
        self.sign
    }

    pub(super) async fn step(&mut self) -> Step {
        std::future::poll_fn(|cx| self.poll_step(cx)).await
    }

    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.ended = true;
                self.sign = self.sign.max(Sign::Server);
                self.release();
                Poll::Ready(Step::End)
            }
            Some(Err(error)) => Poll::Ready(Step::Break(error)),
            Some(Ok(frame)) => {
                // Trailers do not travel: no vLLM API has any.
                if let Ok(data) = frame.into_data() {
                    self.take_in(data);
                }
                Poll::Ready(Step::Bytes)
            }
        }
    }

    /// From here on, and for what is ready, the scribe says what is passed on.
    pub(super) fn follow(&mut self, scribe: Box<Scribe>) {
        if self.within_event {
            return;
        }
        self.scribed = Some(Scribed::new(scribe));
        let ready: Vec<Bytes> = self.ready.drain(..).collect();
        self.ready_bytes = 0;
        let blocks = match &ready[..] {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        self.make_ready_as_scribed(blocks);
    }

    /// The scribe, if there is one and it knows how to go on.
    pub(super) fn able_scribe(&mut self) -> Option<&mut Scribe> {
        let scribed = self.scribed.as_mut().filter(|scribed| scribed.scribe.is_able())?;
        Some(&mut scribed.scribe)
    }

    /// Ends the scribe's work here.
    pub(super) fn take_scribe(&mut self) -> Option<Box<Scribe>> {
        self.scribed.take().map(|scribed| scribed.scribe)
    }

    /// How much is kept of the answer to be able to carry it on; none if that is out of the question.
    pub(super) fn kept_bytes(&self) -> Option<usize> {
        let scribe = &self.scribed.as_ref()?.scribe;
        scribe.is_able().then(|| scribe.weight())
    }

    /// Lets go of what is kept.
    pub(super) fn keep_no_more(&mut self) {
        let withheld = self.scribed.as_mut().map(|scribed| scribed.scribe.give_up());
        self.make_ready(withheld.unwrap_or_default().into());
    }

    /// Whether this is the rest of an answer, and does not follow.
    pub(super) fn has_diverged(&self) -> bool {
        self.scribed.as_ref().is_some_and(|scribed| scribed.scribe.has_diverged())
    }

    /// Adds events of our own.
    pub(super) fn append(&mut self, events: Vec<u8>) {
        self.held_back.clear();
        self.make_ready(events.into());
    }

    /// The next bytes that may be passed on.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.ready.pop_front()?;
        self.ready_bytes -= chunk.len();
        Some(chunk)
    }

    /// A copy of all that is held, for who must read it before anybody else does.
    pub(super) fn contents(&self) -> Bytes {
        match (&self.held_back[..], self.ready.len()) {
            ([], 0) => Bytes::new(),
            ([], 1) => self.ready[0].clone(),
            _ => self.ready.iter().chain(&self.held_back).flatten().copied().collect(),
        }
    }

    /// Whether the body is a stream of events.
    pub(super) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// The length of the whole body, if the server has said it.
    pub(super) fn exact_size(&self) -> Option<u64> {
        self.incoming.size_hint().exact().map(|rest| rest + self.ready_bytes as u64)
    }

    /// How much waits to be passed on, or for the rest of its event.
    pub(super) fn buffered(&self) -> usize {
        self.ready_bytes + self.held_back.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether the last byte has come in.
    pub(super) fn is_complete(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    /// How far an event stream has come; any other body counts as begun with its first byte.
    pub(super) fn progress(&self) -> Progress {
        match &self.events {
            Some(events) => events.progress(),
            None if self.ready.is_empty() => Progress::Silent,
            None => Progress::Started,
        }
    }

    /// What an end without an error of the connection means at this point.
    pub(super) fn ending(&self) -> Ending {
        self.events.as_ref().map_or(Ending::Complete, |events| events.ending())
    }

    /// Makes ready the event that tells the client, in its API's terms, that the stream broke.
    /// Whatever is left of an unfinished event is dropped.
    pub(super) fn append_cut_event(&mut self, message: &str) {
        self.held_back.clear();
        let event = self.events.as_ref().and_then(|events| events.cut_event(message));
        if let Some(event) = event.filter(|_| !self.within_event) {
            self.make_ready(event.into());
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.events.is_some() {
            return SizeHint::default();
        }
        self.exact_size().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn take_in(&mut self, mut data: Bytes) {
        let output = match self.origin {
            Origin::Engine => Sign::Engine,
            Origin::FrontEnd => Sign::Server,
        };
        let Some(events) = &mut self.events else {
            self.sign = output;
            return self.make_ready(data);
        };
        let before = events.events();
        let complete = events.feed(&data).complete;
        self.sign = match events.progress() {
            Progress::Silent | Progress::Announced => Sign::Life,
            _ if events.events() == before => Sign::Life,
            Progress::Failed(_) => Sign::Server,
            Progress::Started | Progress::Finished => output,
        };
        let too_long = events.pending() > self.event_max;
        let theirs = matches!(events.progress(), Progress::Failed(why) if !why.blames_server());
        if complete > 0 {
            let whole = data.split_to(complete);
            self.make_ready_whole(whole);
            self.within_event = false;
        }
        if theirs {
            // Another server would say the same.
            self.keep_no_more();
        }
        if !data.is_empty() {
            self.held_back.push(data);
        }
        if too_long {
            self.keep_no_more();
            self.scribed = None;
            self.release();
            self.within_event = true;
        }
    }

    fn release(&mut self) {
        for part in std::mem::take(&mut self.held_back) {
            self.make_ready(part);
        }
    }

    /// Makes ready what ends with the end of an event.
    fn make_ready_whole(&mut self, end: Bytes) {
        if self.scribed.is_none() {
            self.release();
            return self.make_ready(end);
        }
        if self.held_back.is_empty() {
            return self.make_ready_as_scribed(end);
        }
        self.held_back.push(end);
        let blocks = self.held_back.concat().into();
        self.held_back.clear();
        self.make_ready_as_scribed(blocks);
    }

    fn make_ready_as_scribed(&mut self, blocks: Bytes) {
        let passed = match &mut self.scribed {
            Some(scribed) => scribed.pass(blocks),
            None => blocks,
        };
        self.make_ready(passed);
    }

    fn make_ready(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.ready_bytes += data.len();
            self.ready.push_back(data);
        }
    }
}
