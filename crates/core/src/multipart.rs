//! One text field out of a `multipart/form-data` body (RFC 7578, over RFC 2046 section 5.1): the
//! model of an audio request, which may stand before or behind a file of many megabytes.
//!
//! Nothing is allocated or copied; the file is passed over by a search for the boundary. Where a
//! field is given several times the last one counts, as in the form parser under vLLM (Starlette's
//! `ImmutableMultiDict`); a part with a file name is a file, whatever its field name.

use arrayvec::ArrayVec;
use memchr::memmem::{self, Finder};

use crate::quoted::Quoted;

/// Longest boundary that is accepted. RFC 2046 allows 70 characters; 256 is the limit of the
/// parser under vLLM (`python_multipart`, `MAX_BOUNDARY_LENGTH`).
pub const BOUNDARY_MAX: usize = 256;
/// How many parts are looked at. The largest form in vLLM, of a transcription, has some 20 fields.
pub const PARTS_MAX: usize = 64;
/// Largest header block of a part; two headers of 4 KiB are what the parser under vLLM takes.
pub const HEADERS_MAX: usize = 8 * 1024;
/// Longest value that is handed out; a longer one names nothing.
pub const VALUE_MAX: usize = 1024;

/// What a boundary follows on: the line end before it belongs to it, and two hyphens.
const DELIMITER: &[u8] = b"\r\n--";

/// Value of the text field `name` in a body of this content type. None if there is none, or if it
/// is longer than [`VALUE_MAX`] or not UTF-8.
pub fn field<'a>(content_type: &str, body: &'a [u8], name: &str) -> Option<&'a str> {
    let delimiter = delimiter(content_type)?;
    let finder = Finder::new(&delimiter);
    let mut value = None;
    // The first delimiter has no line end to follow on, unless there is a preamble.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => &body[finder.find(body)? + delimiter.len()..],
    };
    for _ in 0..PARTS_MAX {
        // Two hyphens behind the boundary: this was the last one, what follows is an epilogue.
        if rest.starts_with(b"--") {
            break;
        }
        // "It is sufficient that the boundary appear in its entirety following the CRLF" (RFC 2046,
        // 5.1.1), whatever else its line holds. A part that nothing ends was cut off.
        let Some(end) = finder.find(rest) else { break };
        if let Some(part) = Part::of(&rest[..end])
            && part.is_text_field(name)
        {
            value = Some(part.content);
        }
        rest = &rest[end + delimiter.len()..];
    }
    value.filter(|value| value.len() <= VALUE_MAX).and_then(|value| str::from_utf8(value).ok())
}

/// CRLF, two hyphens and the boundary that the content type names.
fn delimiter(content_type: &str) -> Option<ArrayVec<u8, { DELIMITER.len() + BOUNDARY_MAX }>> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters.as_bytes(), b"boundary")?;
    let mut delimiter = ArrayVec::new();
    delimiter.try_extend_from_slice(DELIMITER).ok()?;
    for byte in boundary.unescaped() {
        delimiter.try_push(byte).ok()?;
    }
    (delimiter.len() > DELIMITER.len()).then_some(delimiter)
}

struct Part<'a> {
    headers: &'a [u8],
    content: &'a [u8],
}

impl<'a> Part<'a> {
    /// Takes what stands between two boundaries apart.
    fn of(between: &'a [u8]) -> Option<Self> {
        const BLANK_LINE: &[u8] = b"\r\n\r\n";

        let window = &between[..between.len().min(HEADERS_MAX)];
        // From the end of the boundary's own line, so that a part without headers has one too.
        let end = memmem::find(window, BLANK_LINE)?;
        Some(Self { headers: &between[..end], content: &between[end + BLANK_LINE.len()..] })
    }

    fn is_text_field(&self, name: &str) -> bool {
        let Some(disposition) = self.disposition() else { return false };
        let is_name = |value: Parameter<'_>| value.unescaped().eq(name.bytes());
        parameter(disposition, b"name").is_some_and(is_name)
            && parameter(disposition, b"filename").is_none()
            && parameter(disposition, b"filename*").is_none()
    }

    /// Parameters of the header `Content-Disposition: form-data` (RFC 7578, section 4.2).
    fn disposition(&self) -> Option<&'a [u8]> {
        self.headers.split(|&byte| byte == b'\n').find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let (header, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
            let (kind, parameters) = value.split_at(memchr::memchr(b';', value)?);
            (header.eq_ignore_ascii_case(b"content-disposition")
                && kind.trim_ascii().eq_ignore_ascii_case(b"form-data"))
            .then_some(&parameters[1..])
        })
    }
}

/// The value of a parameter, without its quotes.
#[derive(Clone, Copy)]
struct Parameter<'a> {
    raw: &'a [u8],
    quoted: bool,
}

impl<'a> Parameter<'a> {
    /// A backslash in a quoted value stands for the character behind it (RFC 9110, 5.6.4).
    fn unescaped(self) -> impl Iterator<Item = u8> + 'a {
        let mut bytes = self.raw.iter().copied();
        core::iter::from_fn(move || match bytes.next() {
            Some(b'\\') if self.quoted => bytes.next(),
            byte => byte,
        })
    }
}

/// Finds a parameter in `a=1; b="2"`, its name in any case.
fn parameter<'a>(mut rest: &'a [u8], name: &[u8]) -> Option<Parameter<'a>> {
    loop {
        let equals = rest.iter().position(|&byte| matches!(byte, b'=' | b';'))?;
        let found = rest[..equals].trim_ascii();
        let has_value = rest[equals] == b'=';
        rest = &rest[equals + 1..];
        if !has_value {
            continue;
        }
        let (value, behind) = parameter_value(rest)?;
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
}

fn parameter_value(text: &[u8]) -> Option<(Parameter<'_>, &[u8])> {
    let text = text.trim_ascii_start();
    let (value, behind) = match text.strip_prefix(b"\"") {
        Some(text) => {
            let (Quoted { raw, .. }, behind) = Quoted::read(text)?;
            (Parameter { raw, quoted: true }, behind)
        }
        None => {
            let end = memchr::memchr(b';', text).unwrap_or(text.len());
            (Parameter { raw: text[..end].trim_ascii_end(), quoted: false }, &text[end..])
        }
    };
    let next = memchr::memchr(b';', behind).map_or(behind.len(), |semicolon| semicolon + 1);
    Some((value, &behind[next..]))
}

#[cfg(test)]
mod tests;
