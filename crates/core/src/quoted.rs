//! Quoted strings in which a backslash takes the meaning from the character behind it: those of
//! JSON (RFC 8259, section 7), of labels in the Prometheus text format, and of parameters in HTTP
//! headers (RFC 9110, section 5.6.4). They differ in what the escapes mean, not in where they end.

use memchr::memchr2;

/// What stands between two quotes, as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a> {
    pub(crate) raw: &'a [u8],
    /// Whether there is a backslash in it.
    pub(crate) escaped: bool,
}

impl<'a> Quoted<'a> {
    /// Reads on from behind the opening quote; gives what follows the closing one as well.
    pub(crate) fn read(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (mut end, mut escaped) = (0, false);
        loop {
            end += memchr2(b'"', b'\\', text.get(end..)?)?;
            if text[end] == b'"' {
                return Some((Self { raw: &text[..end], escaped }, &text[end + 1..]));
            }
            escaped = true;
            end += 2; // the character behind a backslash is never the end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, bool, &str)>) {
        let read = Quoted::read(text.as_bytes());
        let read = read.map(|(quoted, rest)| (quoted.raw, quoted.escaped, rest));
        let expect = expect.map(|(raw, escaped, rest)| (raw.as_bytes(), escaped, rest.as_bytes()));
        assert_eq!(read, expect, "{text}");
    }

    #[test]
    fn a_string_ends_at_the_first_quote_that_is_not_escaped() {
        check(r#"a" b""#, Some(("a", false, r#" b""#)));
        check(r#"a\" b" c"#, Some((r#"a\" b"#, true, " c")));
        check(r#"a\\" b""#, Some((r"a\\", true, r#" b""#)));
        check(r#"""#, Some(("", false, "")));
    }

    #[test]
    fn a_string_without_an_end_is_none() {
        for text in ["", "a", r"a\", r#"a\""#, r"\\"] {
            check(text, None);
        }
    }
}
