//! What an event of a streamed answer says, and where in it that stands.

use core::ops::Range;

use super::Api;
use crate::json_members::{Member, elements, members, number, raw_string};

/// Where an event's data begins.
pub(super) const DATA: &[u8] = b"data: ";
/// Ends an event. vLLM writes no other.
pub(super) const END: &[u8] = b"\n\n";
/// Ends an answer.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// An event, by what it means to a transcript.
#[derive(Debug)]
pub(super) enum Event {
    /// A comment.
    Comment,
    /// The end of the answer.
    Done,
    /// The server's error.
    Error,
    /// A part of the answer, or its usage.
    Part(Part),
    /// Anything else.
    Strange,
}

/// Where the members of an event stand that are of use.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where `"choices"` begins: before it stands what is the same in all events.
    pub(super) choices: usize,
    pub(super) choice: Option<Choice>,
    pub(super) usage: Option<Range<usize>>,
    pub(super) fingerprint: Option<Range<usize>>,
    pub(super) prompt_ids: Option<Range<usize>>,
}

/// The one choice of an event.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The text, as it is written between its quotes.
    pub(super) text: Option<Range<usize>>,
    /// It says who speaks.
    pub(super) introduces: bool,
    /// It holds what no plain text has: reasoning, tool calls, logprobs, a second choice.
    pub(super) is_strange: bool,
    /// The value of `token_ids`, a list.
    pub(super) ids: Option<Range<usize>>,
    pub(super) finish: Option<Range<usize>>,
    pub(super) stop_reason: Option<Range<usize>>,
}

impl Event {
    /// Reads a block with its blank line.
    pub(super) fn read(block: &[u8], api: Api) -> Self {
        if block == DONE {
            return Self::Done;
        }
        if block.first() == Some(&b':') {
            return Self::Comment;
        }
        let Some(line) = block.strip_suffix(END) else { return Self::Strange };
        let end = line.len();
        if !block.starts_with(DATA) || block[..end].iter().any(|b| matches!(b, b'\n' | b'\r')) {
            return Self::Strange;
        }
        let Some(found) = members(block, DATA.len()..end) else { return Self::Strange };
        if found.first().is_some_and(|member| member.name == b"error") {
            return Self::Error;
        }
        Part::read(block, &found, api).map_or(Self::Strange, Self::Part)
    }
}

impl Part {
    fn read(block: &[u8], found: &[Member<'_>], api: Api) -> Option<Self> {
        let mut part = Self::default();
        for Member { name, value } in found {
            let value = value.clone();
            match *name {
                b"choices" => {
                    part.choices = value.start - br#""choices":"#.len();
                    let choices = elements(block, value)?;
                    if choices.len() > 1 {
                        return None;
                    }
                    if let Some(choice) = choices.into_iter().next() {
                        let (choice, prompt_ids) = Choice::read(block, choice, api)?;
                        part.choice = Some(choice);
                        part.prompt_ids = part.prompt_ids.or(prompt_ids);
                    }
                }
                b"usage" if block[value.start] == b'{' => part.usage = Some(value),
                b"system_fingerprint" if block[value.start] == b'"' => {
                    part.fingerprint = Some(value);
                }
                b"prompt_token_ids" if block[value.start] == b'[' => part.prompt_ids = Some(value),
                _ => {}
            }
        }
        // Nothing is known of how else it might be written.
        block[..part.choices].starts_with(b"data: {").then_some(part)
    }
}

impl Choice {
    /// The choice, and the prompt's token ids where they are told with it.
    fn read(block: &[u8], choice: Range<usize>, api: Api) -> Option<(Self, Option<Range<usize>>)> {
        let (mut this, mut prompt_ids) = (Self::default(), None);
        for Member { name, value } in members(block, choice)? {
            let is_null = block[value.clone()] == *b"null";
            match name {
                b"index" => this.is_strange |= block[value] != *b"0",
                _ if is_null => {}
                b"delta" if api == Api::Chat => this.read_delta(block, value)?,
                b"text" if api == Api::Completions => {
                    this.text = Some(between_quotes(block, value)?);
                }
                b"finish_reason" => this.finish = Some(value),
                b"stop_reason" => this.stop_reason = Some(value),
                b"token_ids" => this.ids = Some(value),
                b"prompt_token_ids" => prompt_ids = Some(value),
                _ => this.is_strange = true,
            }
        }
        Some((this, prompt_ids))
    }

    fn read_delta(&mut self, block: &[u8], delta: Range<usize>) -> Option<()> {
        for Member { name, value } in members(block, delta)? {
            match (name, &block[value.clone()]) {
                (_, b"null" | b"[]") => {}
                (b"role", _) => self.introduces = true,
                (b"content", _) => self.text = Some(between_quotes(block, value)?),
                _ => self.is_strange = true,
            }
        }
        Some(())
    }
}

fn between_quotes(block: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    raw_string(&block[value.clone()])?;
    Some(value.start + 1..value.end - 1)
}

/// Token counts of a `usage`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl Usage {
    pub(super) fn read(block: &[u8], at: Range<usize>) -> Option<Self> {
        let found = members(block, at)?;
        let count = |name: &[u8]| {
            let member = found.iter().find(|member| member.name == name)?;
            number(&block[member.value.clone()])
        };
        Some(Self { prompt: count(b"prompt_tokens")?, completion: count(b"completion_tokens")? })
    }
}
