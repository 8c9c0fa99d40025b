//! Where the members of a JSON object stand in a text, so that a text can be changed in one place
//! and stay as it is everywhere else.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use crate::json::{Scanner, decoded};
use crate::quoted::Quoted;

/// A member: its name as written, and where in the text its value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Range<usize>,
}

/// The members of the object that `range` of `text` holds. None if it is no object, and for names
/// with escapes, which nobody writes who means well.
pub(crate) fn members(text: &[u8], range: Range<usize>) -> Option<Vec<Member<'_>>> {
    let end = range.end;
    let mut scanner = Scanner { rest: text.get(range)? };
    let mut found = Vec::new();
    scanner.space();
    scanner.byte(b'{')?;
    scanner.space();
    if scanner.byte(b'}').is_some() {
        return Some(found);
    }
    loop {
        scanner.space();
        let name = scanner.string()?;
        scanner.space();
        scanner.byte(b':')?;
        if name.is_escaped() {
            return None;
        }
        found.push(Member { name: name.raw, value: value(&mut scanner, end)? });
        if scanner.byte(b',').is_none() {
            scanner.byte(b'}')?;
            return Some(found);
        }
    }
}

/// Where the elements of the array stand that `range` of `text` holds.
pub(crate) fn elements(text: &[u8], range: Range<usize>) -> Option<Vec<Range<usize>>> {
    let end = range.end;
    let mut scanner = Scanner { rest: text.get(range)? };
    let mut found = Vec::new();
    scanner.space();
    scanner.byte(b'[')?;
    scanner.space();
    if scanner.byte(b']').is_some() {
        return Some(found);
    }
    loop {
        found.push(value(&mut scanner, end)?);
        if scanner.byte(b',').is_none() {
            scanner.byte(b']')?;
            return Some(found);
        }
    }
}

/// A list of token ids.
pub(crate) fn token_ids(list: &[u8]) -> Option<Vec<u32>> {
    let list = list.strip_prefix(b"[")?.strip_suffix(b"]")?;
    if list.trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    list.split(|&byte| byte == b',').map(|id| number(id.trim_ascii())).collect()
}

/// A whole number that is not negative.
pub(crate) fn number<T: core::str::FromStr>(digits: &[u8]) -> Option<T> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
}

/// What stands between the quotes of a string, as written.
pub(crate) fn raw_string(value: &[u8]) -> Option<&[u8]> {
    let (text, rest) = Quoted::read(value.strip_prefix(b"\"")?)?;
    rest.is_empty().then_some(text.raw)
}

/// The text that is written so between quotes.
pub(crate) fn unescaped(raw: &[u8]) -> Option<Cow<'_, str>> {
    decoded(Quoted { raw })
}

fn value(scanner: &mut Scanner<'_>, end: usize) -> Option<Range<usize>> {
    scanner.space();
    let start = end - scanner.rest.len();
    scanner.value()?;
    let value = start..end - scanner.rest.len();
    scanner.space();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn shown<'a>(text: &'a str, member: &Member<'a>) -> (&'a str, &'a str) {
        (core::str::from_utf8(member.name).unwrap(), &text[member.value.clone()])
    }

    #[test]
    fn values_are_found_where_they_stand() {
        let text = r#" { "a" : [1, {"b":2}] ,"c":"x\"}", "d":-1.5e3}"#;
        let found = members(text.as_bytes(), 0..text.len()).unwrap();
        let found: Vec<_> = found.iter().map(|member| shown(text, member)).collect();
        assert_eq!(found, [("a", r#"[1, {"b":2}]"#), ("c", r#""x\"}""#), ("d", "-1.5e3")]);
        let list = elements(text.as_bytes(), 9..text.len()).unwrap();
        assert_eq!(
            list.iter().map(|at| &text[at.clone()]).collect::<Vec<_>>(),
            ["1", r#"{"b":2}"#]
        );
    }

    #[test]
    fn what_is_no_object_or_has_odd_names_has_no_members() {
        for text in ["", "[]", "{", r#"{"a"}"#, r#"{"\u0061":1}"#, r#"{"a":1,}"#] {
            assert_eq!(members(text.as_bytes(), 0..text.len()), None, "{text}");
        }
        assert_eq!(members(b"{}", 0..2), Some(vec![]));
        assert_eq!(elements(b"[ ]", 0..3), Some(vec![]));
        assert_eq!(members(b"{}", 0..9), None);
    }

    #[test]
    fn ids_are_whole_numbers() {
        assert_eq!(token_ids(b"[1, 22,333]"), Some(vec![1, 22, 333]));
        assert_eq!(token_ids(b"[]"), Some(vec![]));
        for list in ["null", "[1,]", "[-1]", "[1.0]", "[+1]", "[99999999999]"] {
            assert_eq!(token_ids(list.as_bytes()), None, "{list}");
        }
    }
}
