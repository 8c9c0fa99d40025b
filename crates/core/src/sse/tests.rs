use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// An [`Event`] that owns its bytes: name, head, tail.
type Seen = (Vec<u8>, Vec<u8>, Vec<u8>);

/// The events of a stream that arrives in these chunks, and where its last block ended.
fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, usize) {
    let mut splitter = Splitter::default();
    let (mut events, mut arrived, mut boundary) = (Vec::new(), 0, 0);
    for chunk in chunks {
        let complete = splitter.feed(chunk, |event| {
            events.push((event.name.to_vec(), event.head.to_vec(), event.tail.to_vec()));
        });
        assert!(complete <= chunk.len());
        if complete > 0 {
            boundary = arrived + complete;
        }
        arrived += chunk.len();
        assert_eq!(splitter.pending(), arrived - boundary);
        assert_eq!(splitter.at_boundary(), arrived == boundary);
    }
    (events, boundary)
}

fn names_and_data(stream: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    split([stream.as_bytes()])
        .0
        .into_iter()
        .map(|(name, head, _)| (text(name), text(head)))
        .collect()
}

fn check(stream: &str, expect: &[(&str, &str)]) {
    let seen = names_and_data(stream);
    let seen: Vec<_> = seen.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
    assert_eq!(seen, expect, "{stream:?}");
}

/// The standard's algorithm, word by word, over a whole stream: (name, data) of each event and the
/// end of the last block.
fn reference(stream: &[u8]) -> (Vec<Seen>, usize) {
    let (mut events, mut boundary) = (Vec::new(), 0);
    let (mut name, mut data, mut any) = (Vec::new(), Vec::new(), false);
    let mut at = if stream.starts_with(BOM) { BOM.len() } else { 0 };
    while let Some(len) = stream[at..].iter().position(|b| matches!(b, b'\n' | b'\r')) {
        let line = &stream[at..at + len];
        at += len + if stream[at + len..].starts_with(b"\r\n") { 2 } else { 1 };
        if line.is_empty() {
            if any {
                events.push(kept(&name, &data));
            }
            (name, data, any) = (Vec::new(), Vec::new(), false);
            boundary = at;
            continue;
        }
        let mut halves = line.splitn(2, |&b| b == b':');
        let field = halves.next().unwrap();
        let value = halves.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                if any {
                    data.push(b'\n');
                }
                data.extend_from_slice(value);
                any = true;
            }
            _ => {}
        }
    }
    (events, boundary)
}

fn kept(name: &[u8], data: &[u8]) -> Seen {
    let head = data[..data.len().min(DATA_KEPT)].to_vec();
    let tail = data[data.len().saturating_sub(DATA_KEPT)..].to_vec();
    (name[..name.len().min(NAME_KEPT)].to_vec(), head, tail)
}

#[test]
fn an_event_ends_at_a_blank_line_of_any_kind() {
    for end in ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\r\n\n"] {
        let stream = ["data: a", end, "data: b", end].concat();
        check(&stream, &[("", "a"), ("", "b")]);
    }
}

#[test]
fn one_space_behind_the_colon_is_not_part_of_the_value() {
    check("data:a\n\ndata: a\n\ndata:  a\n\n", &[("", "a"), ("", "a"), ("", " a")]);
}

#[test]
fn lines_of_data_are_joined() {
    check("data: a\nid: 1\ndata\ndata: b\n\n", &[("", "a\n\nb")]);
}

#[test]
fn the_last_name_counts() {
    check("event: a\ndata: x\nevent: b\n\n", &[("b", "x")]);
    check("event: a\ndata: x\nevent\n\n", &[("", "x")]);
}

#[test]
fn a_block_without_data_is_no_event() {
    check(": keep-alive\n\n", &[]);
    check("event: ping\n\n\n\n", &[]);
    check("event: ping\n\ndata: x\n\n", &[("", "x")]);
}

#[test]
fn empty_data_is_an_event() {
    check("data\n\n", &[("", "")]);
    check("data:\n\n", &[("", "")]);
}

#[test]
fn field_names_are_compared_whole() {
    check("dat: a\ndatab: b\nDATA: c\n data: d\nevents: e\na_long_field_name: f\n\n", &[]);
}

#[test]
fn a_byte_order_mark_counts_only_at_the_start() {
    check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[("", "a")]);
}

#[test]
fn a_keep_alive_is_complete_without_an_event() {
    assert_eq!(split([&b": keep-alive\n\ndata: x"[..]]), (Vec::new(), 14));
}

#[test]
fn the_second_half_of_a_cut_line_end_is_not_pending() {
    let mut splitter = Splitter::default();
    assert_eq!(splitter.feed(b"data: a\r\n\r", |_| ()), 10);
    assert_eq!(splitter.feed(b"\n", |_| ()), 1);
    assert!(splitter.at_boundary());
}

#[test]
fn both_ends_of_long_data_are_kept() {
    let long: String = ('a'..='z').cycle().take(1001).collect();
    let (events, _) = split([["data: ", &long, "\n\n"].concat().as_bytes()]);
    assert_eq!(events, [kept(b"", long.as_bytes())]);
    assert_ne!(events[0].1, events[0].2);
}

/// Streams built of the pieces that matter, so that most of them contain events.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 14] = [
        "data: ",
        "data:",
        "data",
        "event: ",
        "event",
        ": keep-alive",
        ":",
        " ",
        "\u{feff}",
        "id: 1",
        "retry",
        "x",
        "{\"id\":\"chatcmpl-1\"}",
        "[DONE]",
    ];
    const ENDS: [&str; 6] = ["\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\r\r"];

    let piece = prop_oneof![
        4 => prop::sample::select(&WORDS).prop_map(|word| word.as_bytes().to_vec()),
        4 => prop::sample::select(&ENDS).prop_map(|end| end.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn a_whole_stream_is_split_as_the_standard_says(stream in streams()) {
        prop_assert_eq!(split([&stream[..]]), reference(&stream));
    }

    #[test]
    fn where_a_stream_is_cut_makes_no_difference(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let whole = split([&stream[..]]);
        for cut in 0..=stream.len() {
            prop_assert_eq!(&split([&stream[..cut], &stream[cut..]]), &whole);
        }
        prop_assert_eq!(&split(stream.chunks(1)), &whole);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&split(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]])), &whole);
    }

    #[test]
    fn any_bytes_are_survived(chunks in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..200), 0..8,
    )) {
        split(chunks.iter().map(Vec::as_slice));
    }
}
