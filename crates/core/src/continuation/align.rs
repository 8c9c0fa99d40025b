//! Which tokens of an answer the client has seen the whole text of. vLLM tells tokens at once and
//! their text later: a character may take several tokens, and what may become a stop string is held
//! back (`v1/engine/detokenizer.py`).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::resume::{Cut, put_model};
use super::scribe::Scribe;
use super::terms::Request;
use crate::json_members::unescaped;

/// More questions than this are not asked: enough for the longest stop strings that people use.
const QUESTIONS_MAX: usize = 24;

/// A search from the latest token backwards.
#[derive(Debug, PartialEq, Eq)]
pub struct Alignment {
    goal: Goal,
    ids: usize,
    least: usize,
    /// `{"model":…,"tokens":[…`, and where in it each of the last tokens ends.
    question: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Goal {
    /// The last text came with one token, and covers it: there is nothing to search for.
    Known,
    /// The text of the tokens is to end in this, which came with several tokens.
    EndsIn(String),
    /// The text of the tokens is to be a beginning of this, all that the client has.
    Begins(String),
}

/// What the search comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The answer goes on behind these tokens.
    Found(Cut),
    /// This body is to be asked of `/detokenize`, and its answer is to be told.
    Ask(Vec<u8>),
    /// Tokens and text do not fit together.
    Lost,
}

impl Alignment {
    pub(super) fn begin(scribe: &Scribe, body: &[u8]) -> Option<Self> {
        let transcript = &scribe.transcript;
        let spoken = transcript.spoken;
        let text = |from: usize| unescaped(&transcript.text[from..]).map(|text| text.to_string());
        let (goal, ids, least) = if scribe.terms.has_stops {
            (Goal::Begins(text(0)?), transcript.ids.len(), 0)
        } else if spoken.latest == 1 {
            (Goal::Known, spoken.ids, spoken.ids)
        } else {
            let goal = Goal::EndsIn(text(spoken.text_at)?);
            (goal, spoken.ids, spoken.ids.saturating_sub(spoken.latest))
        };
        let mut question = Vec::from(&b"{"[..]);
        let mut ends = Vec::with_capacity(ids + 1);
        if goal != Goal::Known {
            put_model(&mut question, &Request::read(body)?);
            question.extend_from_slice(b"\"tokens\":[");
            ends.push(question.len());
            for (nth, id) in transcript.ids[..ids].iter().enumerate() {
                question.extend_from_slice(if nth > 0 { b"," } else { b"" });
                question.extend_from_slice(id.to_string().as_bytes());
                ends.push(question.len());
            }
        }
        let least = least.max(ids.saturating_sub(QUESTIONS_MAX));
        Some(Self { goal, ids, least, question, ends })
    }

    /// What to do first.
    pub fn first(&self) -> Step {
        match self.goal {
            Goal::Known => Step::Found(Cut { ids: self.ids, overlap: String::new() }),
            _ => self.ask(),
        }
    }

    /// What to do after `text` was the answer.
    pub fn next(&mut self, text: &str) -> Step {
        let overlap = match &self.goal {
            Goal::Begins(told) => told.strip_prefix(text),
            Goal::EndsIn(told) => text.ends_with(&**told).then_some(""),
            Goal::Known => Some(""),
        };
        // Half a character is shown so.
        let is_whole = !text.ends_with(char::REPLACEMENT_CHARACTER);
        if let Some(overlap) = overlap.filter(|_| is_whole) {
            return Step::Found(Cut { ids: self.ids, overlap: overlap.into() });
        }
        if self.ids <= self.least {
            return Step::Lost;
        }
        self.ids -= 1;
        self.ask()
    }

    fn ask(&self) -> Step {
        let mut question = self.question[..self.ends[self.ids]].to_vec();
        question.extend_from_slice(b"]}");
        Step::Ask(question)
    }
}
