//! Carrying a streamed answer on after its server has died: the asking. What to ask, and how the
//! answers join, is the scribe's affair.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use mvllm_core::attempt::{Failure, Next};
use mvllm_core::choice::{Facts, Tried};
use mvllm_core::continuation::{
    Alignment, Continued, Cut, Mode, Resumption, Scribe, Step, Terms, Tokenized, detokenized,
    with_ids_asked_for,
};
use mvllm_core::route::Route;
use mvllm_core::snapshot::ServerView;

use super::asked::Asked;
use super::attempt::{AnswerBody, Held, Prepared, attempt};
use super::data_thread::DataThread;
use super::defeat::Defeats;
use super::dispatch::{Course, decide};
use super::kept::{Kept, OF_ONE_MAX};
use super::stream::EVENT_MAX;
use crate::traffic::Record;

/// Larger requests are not asked for token ids. A token is hardly ever less than a byte of it, and
/// takes up to eight in the answer's first event, which is to be taken out as a whole.
const ASKED_FOR_IDS_MAX: usize = OF_ONE_MAX / 8;

/// How many servers are asked a question about tokens: any of the same model can answer it, and one
/// that does not is one too many to wait for while a client waits.
const ASKED_MAX: usize = 2;

/// A request whose answer can be carried on.
#[derive(Debug)]
pub(super) struct Resumable {
    pub(super) prepared: Prepared,
    asked: Asked,
    tried: Tried,
    pub(super) kept: Kept,
}

/// That an answer is to be resumable: found out before the request is sent.
#[derive(Debug)]
pub(super) struct Intent {
    terms: Terms,
    kept: Kept,
}

impl Intent {
    /// If the answer to this request can be carried on; and the request as it is to be sent.
    pub(super) fn of(
        thread: &DataThread,
        mode: Mode,
        path: &str,
        body: Bytes,
    ) -> (Option<Self>, Bytes) {
        let mode = match mode {
            Mode::Exact if body.len() > ASKED_FOR_IDS_MAX => Mode::Text,
            mode => mode,
        };
        let Some(terms) = Terms::of(path, &body, mode) else { return (None, body) };
        let Some(kept) = Kept::begin(&thread.safeguards.kept, body.len()) else {
            return (None, body);
        };
        let asking = if terms.wants_ids() { with_ids_asked_for(&body) } else { None };
        let body = asking.map_or(body, |asking| {
            let mut share = thread.traffic.bodies.share();
            // In the stead of the client's, which had room.
            share.grow_to(asking.len(), usize::MAX);
            share.holds(asking)
        });
        (Some(Self { terms, kept }), body)
    }

    /// The longest event that is waited for.
    pub(super) fn event_max(this: Option<&Self>) -> usize {
        match this {
            Some(intent) if intent.terms.wants_ids() => OF_ONE_MAX,
            _ => EVENT_MAX,
        }
    }

    /// The answer is there, and is a stream.
    pub(super) fn begin(
        self,
        prepared: Prepared,
        asked: Asked,
        tried: Tried,
    ) -> (Box<Resumable>, Box<Scribe>) {
        let scribe = Box::new(Scribe::new(self.terms));
        (Box::new(Resumable { prepared, asked, tried, kept: self.kept }), scribe)
    }
}

/// An answer that goes on.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) held: Box<Held>,
    pub(super) request: Box<Resumable>,
}

/// Finds a server that goes on, if that is possible and allowed.
pub(super) async fn resume(
    thread: Arc<DataThread>,
    mut request: Box<Resumable>,
    mut scribe: Box<Scribe>,
    way: Resumption,
    (died, failure): (Arc<ServerView>, Failure),
    mut record: Record,
) -> (Record, Option<Resumed>) {
    record.failed(&died.spec.url, failure);
    request.tried.note(died.key, failure);
    let held = carry_on(&thread, &mut request, &mut scribe, way, failure, &mut record).await;
    let resumed = held.map(|mut held| {
        held.stream.follow(scribe);
        Resumed { held, request }
    });
    (record, resumed)
}

async fn carry_on(
    thread: &Arc<DataThread>,
    request: &mut Resumable,
    scribe: &mut Scribe,
    way: Resumption,
    failure: Failure,
    record: &mut Record,
) -> Option<Box<Held>> {
    let Resumable { prepared: original, asked, tried, .. } = request;
    let (original, asked) = (&*original, &*asked);
    let published = Arc::clone(&thread.board.read());
    // Who holds what matters to stored responses only, and those are not carried on.
    let (prepared, facts, defeats) = (original, asked.facts(None), Defeats::default());
    let course = Course { thread, prepared, original, asked, facts, record, tried, defeats };
    if course.after(failure, &published) != Next::TryAnother {
        return None;
    }
    let model = asked.model.as_deref();
    let questions = Questions { thread, original, model, tried: course.tried.clone() };
    let Continued { path, body, seam } = questions.settle(scribe, way).await?;
    let prepared = on_path(original, path, body.map(Bytes::from));
    let answered = Course { prepared: &prepared, ..course }.run().await.ok()?;
    match answered.body {
        AnswerBody::Stream(held)
            if answered.head.status == StatusCode::OK && held.stream.has_events() =>
        {
            scribe.resume(seam);
            Some(held)
        }
        _ => None,
    }
}

/// The client's request with another path, and another body if there is one.
fn on_path(original: &Prepared, path: &'static str, body: Option<Bytes>) -> Prepared {
    Prepared {
        method: Method::POST,
        path: PathAndQuery::from_static(path),
        headers: original.headers.clone(),
        body: body.unwrap_or_else(|| original.body.clone()),
        route: Route::of(path, |_| true),
        upgrade: None,
        event_max: OF_ONE_MAX,
    }
}

/// Questions to servers of the same model about its tokens.
struct Questions<'a> {
    thread: &'a Arc<DataThread>,
    original: &'a Prepared,
    model: Option<&'a str>,
    tried: Tried,
}

impl Questions<'_> {
    async fn settle(mut self, scribe: &Scribe, way: Resumption) -> Option<Continued> {
        let body = &self.original.body;
        match way {
            Resumption::End(_) => None,
            Resumption::Again => Some(scribe.again()),
            Resumption::Text { question } => {
                let text = Tokenized::read(&self.ask("/tokenize", question).await?)?;
                scribe.by_text(body, &text)
            }
            Resumption::Ids(alignment) => {
                let cut = self.align(alignment).await?;
                let room = match scribe.question_of_room(body) {
                    Some(question) => Tokenized::read(&self.ask("/tokenize", question).await?),
                    None => None,
                };
                scribe.by_ids(body, cut, room.as_ref())
            }
        }
    }

    async fn align(&mut self, mut alignment: Alignment) -> Option<Cut> {
        let mut step = alignment.first();
        loop {
            step = match step {
                Step::Found(cut) => return Some(cut),
                Step::Lost => return None,
                Step::Ask(question) => {
                    let answer = self.ask("/detokenize", question).await?;
                    alignment.next(&detokenized(&answer)?)
                }
            }
        }
    }

    async fn ask(&mut self, path: &'static str, question: Vec<u8>) -> Option<Bytes> {
        let prepared = on_path(self.original, path, Some(question.into()));
        for _ in 0..ASKED_MAX {
            let published = Arc::clone(&self.thread.board.read());
            let facts = Facts { model: self.model, ..Facts::default() };
            let candidate = decide(self.thread, &published, &self.tried, &facts).ok()?;
            let server = candidate.server.key;
            if let Ok(answered) = attempt(self.thread, &prepared, candidate, &published).await
                && let AnswerBody::Stream(held) = answered.body
                && held.stream.is_complete()
            {
                let contents = held.stream.contents();
                held.lease.finish(self.thread.clock.now());
                return (answered.head.status == StatusCode::OK).then_some(contents);
            }
            self.tried.leave_out(server);
        }
        None
    }
}
