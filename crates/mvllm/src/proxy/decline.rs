//! Answers that mean another server, or another way of asking: "too long for me", "I do not have
//! that", "no such rank". To the client they would be errors of its own, and they are, as long as
//! nobody else would say otherwise.

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use mvllm_core::attempt::{Failure, speaks_of_length, speaks_of_rank};
use mvllm_core::choice::{Facts, Tried, has_more_room_elsewhere, may_be_held_elsewhere};
use mvllm_core::snapshot::{ServerView, Snapshot};
use mvllm_core::time::Timestamp;

use super::asked::Asked;
use super::attempt::{AnswerBody, Answered, Failed};

/// The request, and where else it may go.
pub(super) struct Elsewhere<'a> {
    pub(super) asked: &'a Asked,
    pub(super) facts: Facts<'a>,
    pub(super) fleet: &'a Snapshot,
    pub(super) tried: &'a Tried,
}

impl Elsewhere<'_> {
    /// What the answer says, if another server is to be asked, or this one in another way.
    pub(super) fn decline(&self, answered: &Answered, server: &ServerView) -> Option<Failure> {
        let Answered { head: Parts { status, .. }, body: AnswerBody::Stream(held) } = answered
        else {
            return None;
        };
        // A longer answer than is held is about something else.
        if !held.stream.is_complete() {
            return None;
        }
        match *status {
            StatusCode::NOT_FOUND if self.asked.stored.is_some() => {
                may_be_held_elsewhere(&self.facts, self.fleet, self.tried, server)
                    .then_some(Failure::NotHeld)
            }
            StatusCode::BAD_REQUEST => {
                let words = held.stream.contents();
                if held.candidate.reservation.rank().is_some()
                    && speaks_of_rank(status.as_u16(), &words)
                {
                    server.ledger.ranks.note_refused();
                    return Some(Failure::RankRefused);
                }
                let max_len = server.max_len(self.facts.model)?;
                let is_too_long = speaks_of_length(status.as_u16(), &words)
                    && has_more_room_elsewhere(&self.facts, self.fleet, self.tried, server);
                is_too_long.then_some(Failure::TooLong { max_len })
            }
            _ => None,
        }
    }
}

/// An answer that is no answer, so that it is the client's only if nobody has a better one.
pub(super) fn declined(answered: Answered, failure: Failure, now: Timestamp) -> Failed {
    let Answered { head, body } = answered;
    let contents = match body {
        AnswerBody::Stream(held) => {
            let contents = held.stream.contents();
            held.lease.finish(now);
            contents
        }
        AnswerBody::Upgraded { .. } => Bytes::new(),
    };
    let detail = format!("{} {failure:?}", head.status);
    Failed { failure, detail, answer: Some((head, contents)) }
}
