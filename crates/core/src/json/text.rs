//! What the characters of a JSON string mean.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use memchr::memchr;

use crate::quoted::Quoted;
use crate::sixteen;

/// None if it is no UTF-8 or contains an escape that JSON does not know.
pub(crate) fn decoded(text: Quoted<'_>) -> Option<Cow<'_, str>> {
    if !text.is_escaped() {
        return str::from_utf8(text.raw).ok().map(Cow::Borrowed);
    }
    let mut plain = Vec::with_capacity(text.raw.len());
    decode(text.raw, |piece| plain.extend_from_slice(piece))?;
    String::from_utf8(plain).ok().map(Cow::Owned)
}

/// After so many times sixteen bytes without an escape the next one is searched from afar, and
/// what lies before it is not copied.
const NEAR_MAX: u32 = 4;

/// Gives `take` what `raw` means, piece by piece. None if there is an escape that JSON does not
/// know.
pub(crate) fn decode(raw: &[u8], mut take: impl FnMut(&[u8])) -> Option<()> {
    let mut scratch = Scratch::new();
    let mut rest = raw;
    let mut plain = 0;
    while !rest.is_empty() {
        if plain == NEAR_MAX {
            scratch.give(&mut take);
            let (before, behind) = rest.split_at(memchr(b'\\', rest).unwrap_or(rest.len()));
            take(before);
            (rest, plain) = (behind, 0);
        }
        scratch.make_room(&mut take);
        rest = scratch.copy(rest);
        match rest.strip_prefix(b"\\") {
            Some(behind) => (rest, plain) = (scratch.escape(behind)?, 0),
            None => plain += 1,
        }
    }
    scratch.give(&mut take);
    Some(())
}

/// Short pieces, put together.
struct Scratch {
    bytes: [u8; Self::CAPACITY],
    filled: usize,
}

impl Scratch {
    /// A multiple of what `take` may work in, and not much to keep in the processor's cache.
    const CAPACITY: usize = 256;
    /// What one copy and one escape need.
    const ROOM: usize = 16 + 4;

    fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], filled: 0 }
    }

    fn make_room(&mut self, take: &mut impl FnMut(&[u8])) {
        if self.filled > Self::CAPACITY - Self::ROOM {
            self.give(take);
        }
    }

    fn give(&mut self, take: &mut impl FnMut(&[u8])) {
        if self.filled > 0 {
            take(&self.bytes[..self.filled]);
            self.filled = 0;
        }
    }

    /// Copies up to sixteen bytes, those before a backslash. Gives the rest.
    fn copy<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let at = if let Some(near) = text.first_chunk::<16>() {
            // All sixteen are copied, since that is one instruction; the first of them count.
            self.bytes[self.filled..self.filled + 16].copy_from_slice(near);
            sixteen::before(b'\\', near)
        } else {
            let at = text.iter().position(|&byte| byte == b'\\').unwrap_or(text.len());
            self.bytes[self.filled..self.filled + at].copy_from_slice(&text[..at]);
            at
        };
        self.filled += at;
        &text[at..]
    }

    /// Reads what follows a backslash. Gives the rest.
    fn escape<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let (&escape, rest) = text.split_first()?;
        let meaning = MEANINGS[usize::from(escape)];
        if meaning != 0 {
            self.bytes[self.filled] = meaning;
            self.filled += 1;
            return Some(rest);
        }
        let (character, rest) = unicode_escape(text.strip_prefix(b"u")?)?;
        self.filled += character.encode_utf8(&mut self.bytes[self.filled..]).len();
        Some(rest)
    }
}

/// Reads what follows `\u`, and the second half of a surrogate pair (RFC 8259, section 7). A lone
/// surrogate, which Python keeps and UTF-8 cannot express, becomes U+FFFD.
fn unicode_escape(rest: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = four_hex_digits(rest)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    if let Some((second @ 0xDC00..=0xDFFF, behind)) =
        rest.strip_prefix(b"\\u").and_then(four_hex_digits)
        && first < 0xDC00
    {
        let joined = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return char::from_u32(joined).map(|character| (character, behind));
    }
    Some((char::REPLACEMENT_CHARACTER, rest))
}

fn four_hex_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let value = digits.map(|digit| u32::from(HEX[usize::from(digit)]));
    let unit = value.iter().fold(0, |unit, value| unit << 4 | value);
    value.iter().all(|&value| value < 16).then_some((unit, rest))
}

/// Values of hexadecimal digits; of all else, what no digit is worth.
const HEX: [u8; 256] = {
    let mut values = [16; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// What a backslash makes of a character; 0 if nothing by itself. A table, since a processor that
/// guesses which of these comes next guesses wrong in every other line of a program.
const MEANINGS: [u8; 256] = {
    let mut meanings = [0; 256];
    let (from, to) = (b"\"\\/bfnrt", b"\"\\/\x08\x0c\n\r\t");
    let mut at = 0;
    while at < from.len() {
        meanings[from[at] as usize] = to[at];
        at += 1;
    }
    meanings
};
