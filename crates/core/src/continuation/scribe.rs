//! Writes down what the client is told, and sees to it that it is told the right thing: takes out
//! of events what only the router asked for, and makes another server's events those of the first.

use alloc::vec::Vec;

use super::event::{Choice, Event, Part};
use super::frame::Frame;
use super::render::Renderer;
use super::resume::Seam;
use super::terms::Terms;
use super::transcript::Transcript;
use crate::json_members::unescaped;

/// What becomes of a block of a stream on its way to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed<'a> {
    /// It passes as it is.
    Same,
    /// It passes in these pieces, one after the other.
    Pieces([&'a [u8]; 3]),
    /// This passes in its stead.
    New(Vec<u8>),
    /// Nothing passes.
    Nothing,
}

/// Follows one answer, from server to server.
#[derive(Debug)]
pub struct Scribe {
    pub(super) terms: Terms,
    pub(super) transcript: Transcript,
    /// None for the first server.
    seam: Option<Seam>,
    /// What an ordinary event looks like.
    frame: Option<Frame>,
    begun: bool,
    /// Whether the transcript tells all that the client was told.
    intact: bool,
    /// Another server went on with something else.
    diverged: bool,
    /// The server's error and what followed: the client gets it if nobody goes on.
    withheld: Vec<u8>,
}

impl Scribe {
    /// Before the first event.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            transcript: Transcript::default(),
            seam: None,
            frame: None,
            begun: false,
            intact: true,
            diverged: false,
            withheld: Vec::new(),
        }
    }

    /// Takes a block of the stream, its blank line included.
    pub fn pass<'a>(&mut self, block: &'a [u8]) -> Passed<'a> {
        if !self.withheld.is_empty() {
            self.withheld.extend_from_slice(block);
            return Passed::Nothing;
        }
        if self.seam.is_none()
            && let Some(passed) = self.pass_ordinary(block)
        {
            return passed;
        }
        let api = self.seam.as_ref().map_or(self.terms.api, |seam| seam.api);
        match Event::read(block, api) {
            Event::Comment | Event::Done => Passed::Same,
            Event::Error if self.intact && self.begun => {
                self.withheld.extend_from_slice(block);
                Passed::Nothing
            }
            Event::Part(part) => match self.seam {
                None => self.pass_part(block, &part),
                Some(_) => self.pass_translated(block, &part),
            },
            Event::Error | Event::Strange => self.pass_strange(),
        }
    }

    /// Whether the answer can be carried on from here.
    pub fn is_able(&self) -> bool {
        let way = self.transcript.knows_ids || self.terms.by_text.is_some();
        self.begun && self.intact && !self.diverged && way
    }

    /// Whether another server has said what does not follow, or cannot be told to this client.
    pub fn has_diverged(&self) -> bool {
        self.diverged
    }

    /// About how many bytes are kept.
    pub fn weight(&self) -> usize {
        self.transcript.weight() + self.withheld.len()
    }

    /// What was withheld, if nobody goes on.
    pub fn withheld(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.withheld)
    }

    /// Stops writing. Gives what was withheld.
    pub fn give_up(&mut self) -> Vec<u8> {
        self.intact = false;
        self.transcript.forget();
        core::mem::take(&mut self.withheld)
    }

    /// Another server goes on, behind this seam.
    pub fn resume(&mut self, mut seam: Seam) {
        seam.silent = self.transcript.silent;
        self.transcript.cut_to(seam.ids);
        self.withheld.clear();
        self.seam = Some(seam);
    }

    /// As good as all events are like the one before, but for their text and tokens.
    fn pass_ordinary<'a>(&mut self, block: &'a [u8]) -> Option<Passed<'a>> {
        let found = self.frame.as_ref()?.matches(block)?;
        let ids = found.ids.as_ref().map(|at| &block[at.clone()]);
        if self.intact {
            self.transcript.add(&block[found.text], ids);
        }
        Some(match found.ids {
            Some(at) => Passed::Pieces([&block[..at.start], b"null", &block[at.end..]]),
            None => Passed::Same,
        })
    }

    fn pass_part<'a>(&mut self, block: &'a [u8], part: &Part) -> Passed<'a> {
        if !core::mem::replace(&mut self.begun, true) {
            self.transcript.begin(block, part);
        }
        let mut ids = None;
        match &part.choice {
            None => self.transcript.usage_told |= part.usage.is_some(),
            Some(choice) => {
                self.note(block, choice);
                if self.terms.by_ids && choice.is_empty() {
                    // With a parser for reasoning or tools vLLM sends an event without a delta only
                    // for the sake of the token ids.
                    return Passed::Nothing;
                }
                ids = choice.ids.clone();
                if self.frame.is_none() {
                    self.frame = Frame::of(block, part);
                }
            }
        }
        if !self.terms.by_ids {
            return Passed::Same;
        }
        let mut cuts: Vec<_> = ids.into_iter().chain(part.prompt_ids.clone()).collect();
        cuts.sort_unstable_by_key(|cut| cut.start);
        let (mut rest, mut passed) = (0, Vec::with_capacity(block.len()));
        for cut in cuts {
            passed.extend_from_slice(&block[rest..cut.start]);
            passed.extend_from_slice(b"null");
            rest = cut.end;
        }
        passed.extend_from_slice(&block[rest..]);
        Passed::New(passed)
    }

    fn note(&mut self, block: &[u8], choice: &Choice) {
        self.intact &= !choice.is_strange && !choice.is_empty();
        if !self.intact {
            return;
        }
        self.transcript.finished |= choice.finish.is_some();
        // Who introduces the speaker has no tokens to tell yet.
        if !choice.introduces || choice.ids.is_some() || choice.has_text() {
            let text = choice.text.clone().map_or(&b""[..], |at| &block[at]);
            self.transcript.add(text, choice.ids.clone().map(|at| &block[at]));
        }
    }

    /// Notes what another server said, in its own words.
    fn note_translated(&mut self, text: &[u8], ids: Option<&[u8]>) {
        if self.intact {
            self.transcript.add(text, ids);
        }
    }

    fn pass_strange<'a>(&mut self) -> Passed<'a> {
        self.intact = false;
        if self.seam.is_none() {
            return Passed::Same;
        }
        self.diverged = true;
        Passed::Nothing
    }

    fn pass_translated<'a>(&mut self, block: &'a [u8], part: &Part) -> Passed<'a> {
        let Some(choice) = &part.choice else {
            let told = part.usage.is_some();
            self.transcript.usage_told |= told;
            return if told { self.translate(block, part, &[]) } else { Passed::Nothing };
        };
        if choice.is_strange || choice.is_empty() {
            return self.pass_strange();
        }
        if choice.introduces && !choice.has_text() && choice.finish.is_none() {
            return Passed::Nothing;
        }
        let said = choice.text.clone().map_or(&b""[..], |at| &block[at]);
        let ids = choice.ids.clone().map(|at| &block[at]);
        self.transcript.finished |= choice.finish.is_some();
        if said.is_empty()
            && choice.finish.is_none()
            && let Some(seam) = self.seam.as_mut().filter(|seam| seam.silent > 0)
        {
            seam.silent -= 1;
            self.transcript.silent = self.transcript.silent.saturating_sub(1);
            self.note_translated(said, ids);
            return Passed::Nothing;
        }
        match self.seam.as_mut().map(|seam| seam.swallow(said)) {
            Some(Swallowed::None) => {
                self.note_translated(said, ids);
                self.translate(block, part, said)
            }
            Some(Swallowed::All) if choice.finish.is_none() => {
                self.note_translated(b"", ids);
                self.transcript.silent = 0;
                Passed::Nothing
            }
            Some(Swallowed::All) => self.translate(block, part, &[]),
            Some(Swallowed::But(rest)) => {
                self.note_translated(&rest, ids);
                self.translate(block, part, &rest)
            }
            Some(Swallowed::Mismatch) | None => self.pass_strange(),
        }
    }

    fn translate<'a>(&self, block: &[u8], part: &Part, text: &[u8]) -> Passed<'a> {
        let Some(seam) = &self.seam else { return Passed::Nothing };
        let frame = self.frame.as_ref();
        let renderer =
            Renderer { api: self.terms.api, envelope: &self.transcript.envelope, frame, seam };
        renderer.event(block, part, text).map_or(Passed::Nothing, Passed::New)
    }
}

/// What is left of a text behind what the client has of it already.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Swallowed {
    /// Nothing was to be swallowed.
    None,
    /// Nothing is left.
    All,
    /// This is left, written as in JSON.
    But(Vec<u8>),
    /// It is not what the client has.
    Mismatch,
}

impl Seam {
    /// Takes off the front of `said` what the client has already.
    fn swallow(&mut self, said: &[u8]) -> Swallowed {
        if self.overlap.is_empty() {
            return Swallowed::None;
        }
        let Some(said) = unescaped(said) else { return Swallowed::Mismatch };
        if let Some(left) = self.overlap.strip_prefix(&*said) {
            self.overlap = left.into();
            return Swallowed::All;
        }
        let Some(rest) = said.strip_prefix(&*self.overlap) else { return Swallowed::Mismatch };
        self.overlap.clear();
        let quoted = crate::quoted::json_string(rest);
        Swallowed::But(quoted.as_bytes()[1..quoted.len() - 1].to_vec())
    }
}

impl Choice {
    fn has_text(&self) -> bool {
        self.text.as_ref().is_some_and(|text| !text.is_empty())
    }

    /// It says nothing at all.
    fn is_empty(&self) -> bool {
        self.text.is_none() && !self.introduces && !self.is_strange && self.finish.is_none()
    }
}
