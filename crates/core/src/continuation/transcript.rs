//! What the client has been told so far.

use alloc::vec::Vec;

use super::event::Part;
use crate::json_members::token_ids;

/// The answer so far: its text and, where the server tells them, the tokens of prompt and answer.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// What the client's events have in common, from the brace on.
    pub(super) envelope: Vec<u8>,
    /// As it is written between quotes in JSON.
    pub(super) text: Vec<u8>,
    pub(super) prompt_ids: Vec<u32>,
    pub(super) ids: Vec<u32>,
    /// The latest event that had a text.
    pub(super) spoken: Spoken,
    /// How many events without a text the client has had since then.
    pub(super) silent: usize,
    /// Whether the answer's tokens are known, all of them.
    pub(super) knows_ids: bool,
    pub(super) finished: bool,
    pub(super) usage_told: bool,
}

/// Up to where the text covers the tokens, as far as that can be seen from the events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken {
    /// How many tokens there were with the latest text.
    pub(super) ids: usize,
    /// How many of these came with it.
    pub(super) latest: usize,
    /// Where its text begins.
    pub(super) text_at: usize,
}

impl Transcript {
    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        self.envelope.len() + self.text.len() + 4 * (self.prompt_ids.len() + self.ids.len())
    }

    /// The first event. Tells whether the server gives token ids.
    pub(super) fn begin(&mut self, block: &[u8], part: &Part) {
        self.envelope.extend_from_slice(&block[super::event::DATA.len()..part.choices]);
        let prompt = part.prompt_ids.clone().and_then(|at| token_ids(&block[at]));
        self.knows_ids = prompt.is_some();
        self.prompt_ids = prompt.unwrap_or_default();
    }

    /// A part of the answer: its text as written, and its tokens.
    pub(super) fn add(&mut self, text: &[u8], ids: Option<&[u8]>) {
        let before = self.ids.len();
        match ids {
            _ if !self.knows_ids => {}
            Some(ids) => self.knows_ids = self.add_ids(ids),
            None => self.knows_ids = false,
        }
        if !text.is_empty() {
            let text_at = self.text.len();
            self.text.extend_from_slice(text);
            let latest = self.ids.len() - before;
            self.spoken = Spoken { ids: self.ids.len(), latest, text_at };
            self.silent = 0;
        } else {
            self.silent += 1;
        }
    }

    /// Another server goes on behind so many tokens, whose text the client has.
    pub(super) fn cut_to(&mut self, ids: usize) {
        self.ids.truncate(ids);
        self.spoken = Spoken { ids, latest: 1, text_at: self.text.len() };
    }

    /// Gives the memory back; what all events have in common is still needed.
    pub(super) fn forget(&mut self) {
        let envelope = core::mem::take(&mut self.envelope);
        *self = Self { envelope, ..Self::default() };
    }

    /// Takes in a list such as `[12,345]`; whether it is one.
    fn add_ids(&mut self, list: &[u8]) -> bool {
        let Some(digits) = list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]")) else {
            return false;
        };
        if digits.is_empty() {
            return true;
        }
        let (mut id, mut any) = (0_u32, false);
        for &byte in digits {
            match byte {
                b'0'..=b'9' => {
                    let Some(next) =
                        id.checked_mul(10).and_then(|id| id.checked_add(u32::from(byte - b'0')))
                    else {
                        return false;
                    };
                    (id, any) = (next, true);
                }
                b',' if any => {
                    self.ids.push(id);
                    (id, any) = (0, false);
                }
                b' ' => {}
                _ => return false,
            }
        }
        self.ids.push(id);
        any
    }
}
