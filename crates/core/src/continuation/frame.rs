//! What the events of one answer have in common. A server writes all of them alike, so whether one
//! is ordinary shows in a comparison of bytes, and no JSON need be read.

use alloc::vec::Vec;
use core::ops::Range;

use super::event::Part;
use crate::quoted::Quoted;

/// An ordinary event: all but its text and its token ids.
#[derive(Debug)]
pub(super) struct Frame {
    /// Up to the text, with its opening quote.
    head: Vec<u8>,
    /// From behind the closing quote up to the token ids; all the rest, if there are none.
    middle: Vec<u8>,
    /// From behind the token ids.
    tail: Vec<u8>,
    has_ids: bool,
}

/// Where in an ordinary event the changing parts stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) text: Range<usize>,
    pub(super) ids: Option<Range<usize>>,
}

impl Frame {
    /// The frame of an event, if it is ordinary: a text, no end, and nothing else that changes.
    pub(super) fn of(block: &[u8], part: &Part) -> Option<Self> {
        let choice = part.choice.as_ref()?;
        let text = choice.text.clone()?;
        let special = choice.introduces
            || choice.is_strange
            || choice.finish.is_some()
            || choice.stop_reason.is_some()
            || part.usage.is_some()
            || part.prompt_ids.is_some();
        let ids = choice.ids.clone();
        let in_order = ids.as_ref().is_none_or(|ids| ids.start > text.end);
        let (middle_end, tail) =
            ids.as_ref().map_or((block.len(), block.len()), |ids| (ids.start, ids.end));
        (!special && in_order).then(|| Self {
            head: block[..text.start].to_vec(),
            middle: block[text.end + 1..middle_end].to_vec(),
            tail: block[tail..].to_vec(),
            has_ids: ids.is_some(),
        })
    }

    pub(super) fn matches(&self, block: &[u8]) -> Option<Found> {
        let rest = block.strip_prefix(&self.head[..])?;
        let (text, rest) = Quoted::read(rest)?;
        let start = self.head.len();
        let text = start..start + text.raw.len();
        let rest = rest.strip_prefix(&self.middle[..])?;
        if !self.has_ids {
            return rest.is_empty().then_some(Found { text, ids: None });
        }
        let ids = rest.strip_suffix(&self.tail[..])?;
        let is_list =
            ids.len() >= 2 && ids[0] == b'[' && memchr::memchr(b']', ids)? + 1 == ids.len();
        let ids_start = block.len() - rest.len();
        let ids = ids_start..ids_start + ids.len();
        is_list.then_some(Found { text, ids: Some(ids) })
    }

    /// Writes an ordinary event without token ids.
    pub(super) fn put(&self, event: &mut Vec<u8>, text: &[u8]) {
        for piece in [&self.head, text, b"\"", &self.middle[..]] {
            event.extend_from_slice(piece);
        }
        if self.has_ids {
            event.extend_from_slice(b"null");
            event.extend_from_slice(&self.tail);
        }
    }

    /// Whether events of this server have a member `token_ids`, be it null.
    pub(super) fn names_ids(&self) -> bool {
        self.has_ids || memchr::memmem::find(&self.middle, b"\"token_ids\"").is_some()
    }
}
