//! An event stream as the scribe lets it pass.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use mvllm_core::continuation::{Passed, Scribe};

/// What an event needs that is not passed on as it came is taken from pieces of this size: a few
/// events of vLLM. Each piece is used again as soon as its events have been written.
const PIECE: usize = 2 * 1024;

/// A scribe at work.
#[derive(Debug)]
pub(super) struct Scribed {
    pub(super) scribe: Box<Scribe>,
    changed: BytesMut,
}

impl Scribed {
    pub(super) fn new(scribe: Box<Scribe>) -> Self {
        Self { scribe, changed: BytesMut::new() }
    }

    /// What the client gets of whole blocks; empty if nothing.
    pub(super) fn pass(&mut self, blocks: Bytes) -> Bytes {
        let (mut at, mut is_changed) = (0, false);
        while at < blocks.len() {
            let end = memmem::find(&blocks[at..], b"\n\n").map_or(blocks.len(), |end| at + end + 2);
            let block = &blocks[at..end];
            let passed = self.scribe.pass(block);
            if !is_changed && passed != Passed::Same {
                is_changed = true;
                self.make_room(blocks.len());
                self.changed.extend_from_slice(&blocks[..at]);
            }
            match passed {
                Passed::Same if is_changed => self.changed.extend_from_slice(block),
                Passed::Same | Passed::Nothing => {}
                Passed::Pieces(pieces) => {
                    pieces.iter().for_each(|piece| self.changed.extend_from_slice(piece));
                }
                Passed::New(block) => self.changed.extend_from_slice(&block),
            }
            at = end;
        }
        if is_changed { self.changed.split().freeze() } else { blocks }
    }

    fn make_room(&mut self, length: usize) {
        // Null in the place of an empty list is the most that is added, and rare.
        if self.changed.capacity() < length {
            self.changed.reserve(length.max(PIECE));
        }
    }
}
