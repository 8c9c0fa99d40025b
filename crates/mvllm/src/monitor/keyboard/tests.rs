use proptest::prelude::*;

use super::*;

fn check(bytes: &[u8], expect: &[Key]) {
    let mut decoder = Decoder::default();
    let mut whole = decoder.decode(bytes);
    whole.extend(decoder.give_up());
    assert_eq!(whole, expect, "{bytes:?} at once");
    let mut pieces: Vec<Key> =
        bytes.iter().flat_map(|byte| decoder.decode(std::slice::from_ref(byte))).collect();
    pieces.extend(decoder.give_up());
    assert_eq!(pieces, expect, "{bytes:?} byte by byte");
}

#[test]
fn letters_are_themselves() {
    check(b"qS/?", &[Key::Char('q'), Key::Char('S'), Key::Char('/'), Key::Char('?')]);
    check("é模".as_bytes(), &[Key::Char('é'), Key::Char('模')]);
    check(b"\r\x7f\x03\x15", &[Key::Enter, Key::Backspace, Key::Ctrl('c'), Key::Ctrl('u')]);
}

#[test]
fn arrows_come_in_both_modes_of_the_cursor_keys() {
    check(b"\x1b[A\x1b[B\x1bOA\x1bOB", &[Key::Up, Key::Down, Key::Up, Key::Down]);
    check(b"\x1b[1;5A", &[Key::Up]);
}

#[test]
fn paging_keys_are_known_in_all_their_forms() {
    check(b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]);
    check(b"\x1b[H\x1b[1~\x1b[7~\x1bOH", &[Key::Home; 4]);
    check(b"\x1b[F\x1b[4~\x1b[8~\x1bOF", &[Key::End; 4]);
}

#[test]
fn an_esc_alone_is_the_key() {
    check(b"\x1b", &[Key::Esc]);
    check(b"\x1b\x1b", &[Key::Esc, Key::Esc]);
    check(b"\x1bq", &[Key::Esc, Key::Char('q')]);
}

#[test]
fn keys_without_a_use_are_passed_over_whole() {
    check(b"\x1b[15~\x1b[3~\x1b[Zq", &[Key::Char('q')]);
    check(b"\t\x00\xff\xc3(", &[Key::Char('(')]);
}

#[test]
fn what_never_ends_is_dropped() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&[b"\x1b[".as_slice(), &[b'1'; 100]].concat()), []);
    assert!(!decoder.is_amid_a_sequence());
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_and_few_are_kept(pieces: Vec<Vec<u8>>) {
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.decode(&piece);
            prop_assert!(decoder.pending.len() <= SEQUENCE_MAX);
        }
    }
}
