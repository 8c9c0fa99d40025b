//! The few top-level members of a JSON request body that routing asks for, without parsing the
//! rest of it.
//!
//! One pass, no recursion, and no allocation unless a wanted value is written with escapes. Strings
//! are skipped by a search for their end, containers by counting brackets, so that a prompt of
//! 64 KB costs some microseconds and a million nested brackets cost no stack.
//!
//! For every valid JSON text the answer is that of the server: vLLM reads bodies with Python's
//! `json.loads`, where the **last** of several members of the same name counts and escapes in
//! names are decoded like any other. Text that is seen not to be JSON gives no members at all, the
//! server will answer the 400; but only the outline is checked, so some invalid texts give members
//! all the same. UTF-16 and UTF-32, which `json.loads` would guess, are not read.

use alloc::borrow::Cow;
use alloc::string::String;

use memchr::memchr;

use crate::quoted::Quoted;

/// The members that routing asks for. A member of another type than the one here is as good as
/// absent: whether it is an error is for the server to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The model, or LoRA adapter, that the client asks for.
    pub model: Option<Cow<'a, str>>,
    /// Whether it wants events instead of one answer; JSON `true` or `false` only.
    pub stream: Option<bool>,
    /// The stored response that this one continues; it lives in the memory of one server.
    pub previous_response_id: Option<Cow<'a, str>>,
    /// The session that the client says this belongs to.
    pub session_id: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, name: &[u8], value: Value<'a>) {
        match name {
            b"model" => self.model = value.text(),
            b"stream" => self.stream = value.flag(),
            b"previous_response_id" => self.previous_response_id = value.text(),
            b"session_id" => self.session_id = value.text(),
            _ => {}
        }
    }
}

/// Longest name of a member above, if each of its characters is written as `\uXXXX`. A longer one
/// with escapes need not be decoded.
const NAME_ESCAPED_MAX: usize = "previous_response_id".len() * "\\uXXXX".len();

/// Reads the members of the object that `body` holds.
pub fn scan(body: &[u8]) -> Fields<'_> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    Scanner { rest: body }.document().unwrap_or_default()
}

/// A value, told apart only as far as needed.
enum Value<'a> {
    Text(Quoted<'a>),
    /// A number, a literal, or what takes its place in invalid JSON.
    Scalar(&'a [u8]),
    Container,
}

impl<'a> Value<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { decoded(text) } else { None }
    }

    fn flag(self) -> Option<bool> {
        match self {
            Self::Scalar(b"true") => Some(true),
            Self::Scalar(b"false") => Some(false),
            _ => None,
        }
    }
}

/// None if it is no UTF-8 or contains an escape that JSON does not know.
fn decoded(text: Quoted<'_>) -> Option<Cow<'_, str>> {
    let raw = core::str::from_utf8(text.raw).ok()?;
    if text.escaped { unescape(raw).map(Cow::Owned) } else { Some(Cow::Borrowed(raw)) }
}

/// What has not been read yet. Each method takes what it is named after off the front and returns
/// None if something else stands there.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn document(mut self) -> Option<Fields<'a>> {
        let mut fields = Fields::default();
        self.space();
        self.byte(b'{')?;
        self.space();
        if self.byte(b'}').is_none() {
            while self.member(&mut fields)? {}
        }
        self.space();
        self.rest.is_empty().then_some(fields)
    }

    /// One member and what follows it; whether that was a comma.
    fn member(&mut self, fields: &mut Fields<'a>) -> Option<bool> {
        self.space();
        let name = self.string()?;
        self.space();
        self.byte(b':')?;
        self.space();
        let value = self.value()?;
        if !name.escaped {
            fields.set(name.raw, value);
        } else if name.raw.len() <= NAME_ESCAPED_MAX {
            fields.set(decoded(name)?.as_bytes(), value);
        }
        self.space();
        let comma = self.byte(b',').is_some();
        if !comma {
            self.byte(b'}')?;
        }
        Some(comma)
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.rest.first()? {
            b'"' => self.string().map(Value::Text),
            b'{' | b'[' => self.container().map(|()| Value::Container),
            _ => self.scalar().map(Value::Scalar),
        }
    }

    fn string(&mut self) -> Option<Quoted<'a>> {
        self.byte(b'"')?;
        let (text, rest) = Quoted::read(self.rest)?;
        self.rest = rest;
        Some(text)
    }

    /// An object or array. In valid JSON brackets come in pairs of a kind, so counting is enough.
    fn container(&mut self) -> Option<()> {
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
                return Some(());
            }
        }
    }

    fn scalar(&mut self) -> Option<&'a [u8]> {
        let ends = |&byte: &u8| matches!(byte, b',' | b'}' | b']') || is_space(byte);
        let (scalar, rest) = self.rest.split_at(self.rest.iter().position(ends)?);
        self.rest = rest;
        (!scalar.is_empty()).then_some(scalar)
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[wanted])?;
        Some(())
    }

    fn space(&mut self) {
        let length = self.rest.iter().position(|&byte| !is_space(byte));
        self.rest = &self.rest[length.unwrap_or(self.rest.len())..];
    }
}

fn is_space(byte: u8) -> bool {
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

/// A lone surrogate, which Python keeps and a `str` cannot, becomes U+FFFD: it names no model.
fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        let character = match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (character, behind) = unicode_escape(rest)?;
                rest = behind;
                character
            }
            _ => return None,
        };
        text.push(character);
    }
    text.push_str(rest);
    Some(text)
}

/// Reads what follows `\u`, and the second half of a surrogate pair (RFC 8259, section 7).
fn unicode_escape(rest: &str) -> Option<(char, &str)> {
    let (first, rest) = four_hex_digits(rest)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    if let Some((second @ 0xDC00..=0xDFFF, behind)) =
        rest.strip_prefix("\\u").and_then(four_hex_digits)
        && first < 0xDC00
    {
        let joined = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return char::from_u32(joined).map(|character| (character, behind));
    }
    Some((char::REPLACEMENT_CHARACTER, rest))
}

fn four_hex_digits(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    // `from_str_radix` alone would take a plus sign.
    let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten().map(|unit| (unit, rest))
}

#[cfg(test)]
mod tests;
