//! Server-sent events, found in a stream of chunks that may be cut at any byte.
//!
//! Follows the WHATWG HTML standard, section 9.2.5 "Parsing an event stream" and 9.2.6
//! "Interpreting an event stream": lines end in LF, CR or CRLF, a line that starts with a colon is
//! a comment, a blank line ends an event, and a block without `data` is no event.
//!
//! The proxy never needs an event, only to know where it ends and what kind it is. So nothing is
//! collected: of each event a [`Splitter`] keeps the name and the two ends of the data, in arrays.

use arrayvec::ArrayVec;
use memchr::memchr2;

/// How many bytes of an event's name are kept. The longest that any dialect asks for is
/// `response.incomplete` (19); a name cut at 32 equals none of them.
pub const NAME_KEPT: usize = 32;
/// How many bytes of the start, and how many of the end, of an event's data are kept: enough for
/// `{"type":"error","error":{"type":"internal_error"` on one side and for
/// `"type":"ServiceUnavailableError","param":null,"code":503}}` on the other.
pub const DATA_KEPT: usize = 64;

/// Longest field name that matters (`event`, 5), one more to see that a name is longer, and a BOM.
const FIELD_KEPT: usize = 5 + 1 + BOM.len();
/// One leading byte order mark is not part of the stream (section 9.2.5).
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One event, as much of it as was kept. Depends on the bytes only, not on how they were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Value of the last `event` field, its first [`NAME_KEPT`] bytes; empty without one.
    pub name: &'a [u8],
    /// First [`DATA_KEPT`] bytes of the data; several `data` lines are joined by a LF.
    pub head: &'a [u8],
    /// Last [`DATA_KEPT`] bytes of the data; overlaps `head` when the data is short.
    pub tail: &'a [u8],
}

/// Finds the ends of events in a stream that arrives in chunks. Allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Splitter {
    line: Line,
    block: Block,
    pending: usize,
    after_cr: bool,
    bom_passed: bool,
}

impl Splitter {
    /// Takes the next chunk, reports each event that it ends, and returns how many bytes of the
    /// chunk belong to finished blocks (0: none ends here). What follows is the start of a block,
    /// to be held back until a later chunk ends it.
    ///
    /// Comments are blocks too, so keep-alives need not wait for the next event.
    pub fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) -> usize {
        let mut complete = 0;
        let mut at = self.skip_lf_of_a_cut_crlf(chunk);
        if at > 0 && self.pending == 0 {
            complete = at; // that LF belongs to the blank line which ended the block before
        }
        while at < chunk.len() {
            let Some(len) = memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.part_of_line(&chunk[at..]);
                break;
            };
            let end = at + len;
            self.part_of_line(&chunk[at..end]);
            at = end + 1;
            if chunk[end] == b'\r' {
                // A lone CR ends the line at once: to wait for a LF would hold back a whole event.
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.end_of_line(&mut on_event) {
                complete = at;
            }
        }
        self.pending = if complete > 0 { 0 } else { self.pending } + chunk.len() - complete;
        complete
    }

    /// Bytes since the last end of a block: what a relay of whole blocks is holding back.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether the stream stands between two blocks, so that an event may be put in here.
    pub fn at_boundary(&self) -> bool {
        self.pending == 0
    }

    fn skip_lf_of_a_cut_crlf(&mut self, chunk: &[u8]) -> usize {
        match chunk.first() {
            None => 0,
            Some(&first) => usize::from(core::mem::take(&mut self.after_cr) && first == b'\n'),
        }
    }

    fn part_of_line(&mut self, part: &[u8]) {
        match &mut self.line {
            Line::Field(name) => match field_end(name, part) {
                Some(colon) => {
                    push_up_to_full(name, &part[..colon]);
                    let field = Field::named(strip_bom(name, self.bom_passed));
                    self.start_value(field);
                    self.part_of_value(field, true, &part[colon + 1..]);
                }
                None if name.remaining_capacity() < part.len() => {
                    self.line = Line::Value { field: Field::Other, at_start: false };
                }
                None => push_up_to_full(name, part),
            },
            &mut Line::Value { field, at_start } => self.part_of_value(field, at_start, part),
        }
    }

    fn start_value(&mut self, field: Field) {
        self.line = Line::Value { field, at_start: true };
        match field {
            Field::Data => self.block.start_data_line(),
            Field::Event => self.block.name.clear(),
            Field::Other => {}
        }
    }

    fn part_of_value(&mut self, field: Field, at_start: bool, part: &[u8]) {
        let Some(&first) = part.first() else { return };
        // "If value starts with a U+0020 SPACE character, remove it from value" (9.2.6): one only.
        let value = if at_start && first == b' ' { &part[1..] } else { part };
        self.line = Line::Value { field, at_start: false };
        match field {
            Field::Data => self.block.push_data(value),
            Field::Event => push_up_to_full(&mut self.block.name, value),
            Field::Other => {}
        }
    }

    /// Ends the line; whether it was a blank one.
    fn end_of_line(&mut self, on_event: &mut impl FnMut(Event<'_>)) -> bool {
        let line = core::mem::take(&mut self.line);
        let bom_passed = core::mem::replace(&mut self.bom_passed, true);
        let Line::Field(name) = line else { return false };
        let name = strip_bom(&name, bom_passed);
        if name.is_empty() {
            if self.block.has_data {
                on_event(self.block.event());
            }
            self.block.clear();
            return true;
        }
        // A line without a colon is a field with an empty value.
        match Field::named(name) {
            Field::Data => self.block.start_data_line(),
            Field::Event => self.block.name.clear(),
            Field::Other => {}
        }
        false
    }
}

/// How far into a line the chunks have come.
#[derive(Debug, Clone)]
enum Line {
    /// Before the colon; the name so far.
    Field(ArrayVec<u8, FIELD_KEPT>),
    /// Behind the colon.
    Value { field: Field, at_start: bool },
}

impl Default for Line {
    fn default() -> Self {
        Self::Field(ArrayVec::new())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    /// `id`, `retry`, comments (their name is empty) and what the standard says to ignore.
    Other,
}

impl Field {
    fn named(name: &[u8]) -> Self {
        match name {
            b"data" => Self::Data,
            b"event" => Self::Event,
            _ => Self::Other,
        }
    }
}

/// What is kept of the lines since the last blank one.
#[derive(Debug, Clone, Default)]
struct Block {
    has_data: bool,
    name: ArrayVec<u8, NAME_KEPT>,
    head: ArrayVec<u8, DATA_KEPT>,
    tail: ArrayVec<u8, DATA_KEPT>,
}

impl Block {
    fn start_data_line(&mut self) {
        if core::mem::replace(&mut self.has_data, true) {
            self.push_data(b"\n");
        }
    }

    fn push_data(&mut self, part: &[u8]) {
        push_up_to_full(&mut self.head, part);
        let kept = &part[part.len().saturating_sub(DATA_KEPT)..];
        let overflow = (self.tail.len() + kept.len()).saturating_sub(DATA_KEPT);
        self.tail.drain(..overflow);
        push_up_to_full(&mut self.tail, kept);
    }

    fn event(&self) -> Event<'_> {
        Event { name: &self.name, head: &self.head, tail: &self.tail }
    }

    fn clear(&mut self) {
        self.has_data = false;
        self.name.clear();
        self.head.clear();
        self.tail.clear();
    }
}

/// Where in `part` the field name ends, if the name so far and the rest fit what is kept.
fn field_end(so_far: &[u8], part: &[u8]) -> Option<usize> {
    let room = FIELD_KEPT - so_far.len();
    part.iter().take(room).position(|&byte| byte == b':')
}

fn strip_bom(name: &[u8], bom_passed: bool) -> &[u8] {
    if bom_passed { name } else { name.strip_prefix(BOM).unwrap_or(name) }
}

fn push_up_to_full<const N: usize>(kept: &mut ArrayVec<u8, N>, part: &[u8]) {
    let room = kept.remaining_capacity().min(part.len());
    // Cannot fail: `room` is what is left. The Result is the only way in that is a memcpy.
    let _ = kept.try_extend_from_slice(&part[..room]);
}

#[cfg(test)]
mod tests;
