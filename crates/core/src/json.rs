//! Just enough JSON to find things in it: no tree, no recursion, no allocation.
//!
//! Strings are skipped by a search for their end, containers by counting brackets, so that a body
//! of 64 KB is passed over in some microseconds and a million nested brackets cost no stack. Only
//! the outline is checked: valid JSON (RFC 8259) is read as it is meant, and some of what is not
//! JSON is read all the same.

#[cfg(test)]
pub(crate) mod spelling;
mod text;

use alloc::borrow::Cow;

use crate::quoted::Quoted;

pub(crate) use text::{decode, decoded};

/// Longest name of a member that anybody here asks for, if each of its characters is written as
/// `\uXXXX`. A longer one with escapes need not be decoded.
const NAME_ESCAPED_MAX: usize = "truncate_prompt_tokens".len() * "\\uXXXX".len();

/// A value, told apart only as far as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Text(Quoted<'a>),
    /// A number, a literal, or what takes its place in invalid JSON.
    Scalar(&'a [u8]),
    /// An object or an array, from bracket to bracket.
    Container(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { decoded(text) } else { None }
    }

    pub(crate) fn flag(self) -> Option<bool> {
        match self {
            Self::Scalar(b"true") => Some(true),
            Self::Scalar(b"false") => Some(false),
            _ => None,
        }
    }

    /// A whole number that is not negative, written without fraction or exponent.
    pub(crate) fn count(self) -> Option<u32> {
        let Self::Scalar(digits) = self else { return None };
        let all_digits = digits.iter().all(u8::is_ascii_digit);
        if all_digits { str::from_utf8(digits).ok()?.parse().ok() } else { None }
    }

    pub(crate) fn is_null(self) -> bool {
        self == Self::Scalar(b"null")
    }
}

/// Shows `visit` the members of the object that `text` is. None if it is none.
pub(crate) fn members<'a>(text: &'a [u8], mut visit: impl FnMut(&[u8], Value<'a>)) -> Option<()> {
    let mut scanner = Scanner { rest: text };
    scanner.all(b'{', b'}', |scanner| scanner.member(&mut visit))
}

/// Shows `visit` the elements of the array that `text` is. None if it is none.
pub(crate) fn elements<'a>(text: &'a [u8], mut visit: impl FnMut(Value<'a>)) -> Option<()> {
    let mut scanner = Scanner { rest: text };
    scanner.all(b'[', b']', |scanner| scanner.value().map(&mut visit))
}

/// What has not been read yet. Each method takes what it is named after off the front and returns
/// None if something else stands there.
pub(crate) struct Scanner<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// A container from `open` to `close`, and nothing behind it.
    fn all(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.space();
        self.byte(open)?;
        self.space();
        if self.byte(close).is_none() {
            loop {
                self.space();
                item(self)?;
                self.space();
                if self.byte(b',').is_none() {
                    break;
                }
            }
            self.byte(close)?;
        }
        self.space();
        self.rest.is_empty().then_some(())
    }

    fn member(&mut self, visit: &mut impl FnMut(&[u8], Value<'a>)) -> Option<()> {
        let name = self.string()?;
        self.space();
        self.byte(b':')?;
        self.space();
        let value = self.value()?;
        if !name.is_escaped() {
            visit(name.raw, value);
        } else if name.raw.len() <= NAME_ESCAPED_MAX {
            visit(decoded(name)?.as_bytes(), value);
        }
        Some(())
    }

    pub(crate) fn value(&mut self) -> Option<Value<'a>> {
        match self.rest.first()? {
            b'"' => self.string().map(Value::Text),
            b'{' | b'[' => self.container().map(Value::Container),
            _ => self.scalar().map(Value::Scalar),
        }
    }

    pub(crate) fn string(&mut self) -> Option<Quoted<'a>> {
        self.byte(b'"')?;
        let (text, rest) = Quoted::read(self.rest)?;
        self.rest = rest;
        Some(text)
    }

    /// An object or array. In valid JSON brackets come in pairs of a kind, so counting is enough.
    fn container(&mut self) -> Option<&'a [u8]> {
        let whole = self.rest;
        let mut depth = 0usize;
        loop {
            self.rest = &self.rest[structural(self.rest)?..];
            match self.rest[0] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ => depth -= 1, // not below 0: the first bracket opens, and 0 ends the loop
            }
            self.rest = &self.rest[1..];
            if depth == 0 {
                return Some(&whole[..whole.len() - self.rest.len()]);
            }
        }
    }

    fn scalar(&mut self) -> Option<&'a [u8]> {
        let ends = |&byte: &u8| matches!(byte, b',' | b'}' | b']') || is_space(byte);
        let (scalar, rest) = self.rest.split_at(self.rest.iter().position(ends)?);
        self.rest = rest;
        (!scalar.is_empty()).then_some(scalar)
    }

    pub(crate) fn byte(&mut self, wanted: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[wanted])?;
        Some(())
    }

    pub(crate) fn space(&mut self) {
        let length = self.rest.iter().position(|&byte| !is_space(byte));
        self.rest = &self.rest[length.unwrap_or(self.rest.len())..];
    }
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the next quote or bracket stands.
fn structural(text: &[u8]) -> Option<usize> {
    // In most containers it is near; in a prompt of token ids it is far, and there a loop without
    // a branch, which the compiler turns into vector instructions, is several times faster.
    const NEAR: usize = 16;
    const BLOCK: usize = 32;

    let near = &text[..text.len().min(NEAR)];
    if let Some(at) = near.iter().position(|&byte| is_structural(byte)) {
        return Some(at);
    }
    let (blocks, _) = text[near.len()..].as_chunks::<BLOCK>();
    let plain = |block: &&[u8; BLOCK]| !block.iter().fold(false, |hit, &b| hit | is_structural(b));
    let start = near.len() + BLOCK * blocks.iter().take_while(plain).count();
    text[start..].iter().position(|&byte| is_structural(byte)).map(|at| start + at)
}

fn is_structural(byte: u8) -> bool {
    // This bit is all that `[` and `{`, or `]` and `}`, differ in. Without it nothing else matches.
    let folded = byte | 0x20;
    (byte == b'"') | (folded == b'{') | (folded == b'}')
}
