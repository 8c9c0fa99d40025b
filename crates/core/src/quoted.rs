//! Quoted strings in which a backslash takes the meaning from the character behind it: those of
//! JSON (RFC 8259, section 7), of labels in the Prometheus text format, and of parameters in HTTP
//! headers (RFC 9110, section 5.6.4). They differ in what the escapes mean, not in where they end.

use memchr::memchr;

use crate::sixteen;

/// What stands between two quotes, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted<'a> {
    pub(crate) raw: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Reads on from behind the opening quote; gives what follows the closing one as well.
    ///
    /// The search is for quotes alone: text of many lines has a backslash in each of them, and a
    /// stop at each would cost several times the search.
    pub(crate) fn read(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut end = 0;
        loop {
            end += next_quote(&text[end..])?;
            // One backslash takes the meaning from the quote; two are a backslash that is meant.
            let backslashes = text[..end].iter().rev().take_while(|&&byte| byte == b'\\').count();
            if backslashes % 2 == 0 {
                return Some((Self { raw: &text[..end] }, &text[end + 1..]));
            }
            end += 1;
        }
    }

    /// Whether there is a backslash in it.
    pub(crate) fn is_escaped(self) -> bool {
        memchr(b'\\', self.raw).is_some()
    }
}

/// Most strings are names of members and other short words.
fn next_quote(text: &[u8]) -> Option<usize> {
    if let Some(near) = text.first_chunk() {
        let at = sixteen::before(b'"', near);
        if at < near.len() {
            return Some(at);
        }
    }
    memchr(b'"', text)
}

/// `text` as a JSON string, quotes included (RFC 8259, section 7).
pub(crate) fn json_string(text: &str) -> alloc::string::String {
    use core::fmt::Write;

    let mut json = alloc::string::String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..='\x1f' => {
                // Writing to a String cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, bool, &str)>) {
        let read = Quoted::read(text.as_bytes());
        let read = read.map(|(quoted, rest)| (quoted.raw, quoted.is_escaped(), rest));
        let expect = expect.map(|(raw, escaped, rest)| (raw.as_bytes(), escaped, rest.as_bytes()));
        assert_eq!(read, expect, "{text}");
    }

    #[test]
    fn a_string_ends_at_the_first_quote_that_is_not_escaped() {
        check(r#"a" b""#, Some(("a", false, r#" b""#)));
        check(r#"a\" b" c"#, Some((r#"a\" b"#, true, " c")));
        check(r#"a\\" b""#, Some((r"a\\", true, r#" b""#)));
        check(r#"\\\"" b"#, Some((r#"\\\""#, true, " b")));
        check(r#"""#, Some(("", false, "")));
    }

    #[test]
    fn a_string_without_an_end_is_none() {
        for text in ["", "a", r"a\", r#"a\""#, r"\\"] {
            check(text, None);
        }
    }
}
