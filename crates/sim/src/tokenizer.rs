//! A tokenizer without a learned vocabulary: any text, about four bytes a token, and back again.
//!
//! What matters for a simulated server is that texts and tokens agree as a real model's do:
//! `decode(encode(text)) == text`, and text that the server generated comes back as the very tokens
//! it was generated as, also when a client sends it as the beginning of a continued answer.

use std::sync::OnceLock;

use std::collections::HashMap;

use crate::words::{SPECIALS, WORDS};

/// A token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// Ends an answer; stands for no text.
pub const END: Token = Token(SPECIAL_BASE + SPECIALS.len() as u32);

/// Ids below are Unicode scalar values: every character is a token of its own.
const SPECIAL_BASE: u32 = 0x11_0000;
/// Two ids per word: without and with a space before it.
const WORD_BASE: u32 = 0x12_0000;
/// Ids from here are two to four ASCII characters, seven bits each, their count on top.
const PIECE_BASE: u32 = 1 << 28;
const PIECE_BYTES: usize = 4;

/// Splits a text into tokens.
pub fn encode(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 3);
    let mut rest = text;
    while !rest.is_empty() {
        let special = SPECIALS.iter().position(|special| rest.starts_with(special));
        let taken = match special {
            Some(index) => {
                tokens.push(Token(SPECIAL_BASE + index as u32));
                SPECIALS[index].len()
            }
            None => encode_run(rest, &mut tokens),
        };
        rest = &rest[taken..];
    }
    tokens
}

/// Encodes what `rest` begins with (a word, a run of other ASCII, or one character) and answers
/// its length in bytes.
fn encode_run(rest: &str, tokens: &mut Vec<Token>) -> usize {
    let bytes = rest.as_bytes();
    let spaced = usize::from(starts_spaced_word(bytes));
    let letters = bytes[spaced..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
    if letters > 0 {
        match word_index(&rest[spaced..spaced + letters]) {
            Some(index) => tokens.push(word_token(index, spaced == 1)),
            None => encode_pieces(&bytes[..spaced + letters], tokens),
        }
        return spaced + letters;
    }
    let other = other_ascii(rest);
    if other > 0 {
        encode_pieces(&bytes[..other], tokens);
        return other;
    }
    rest.chars().next().map_or(0, |c| {
        tokens.push(Token(u32::from(c)));
        c.len_utf8()
    })
}

/// A space directly before a letter belongs to the word, as in byte-pair vocabularies.
fn starts_spaced_word(bytes: &[u8]) -> bool {
    matches!(bytes, [b' ', letter, ..] if letter.is_ascii_alphabetic())
}

/// The length of the run of ASCII at the front that is neither word nor special token.
fn other_ascii(text: &str) -> usize {
    let bytes = text.as_bytes();
    (0..bytes.len())
        .find(|&i| {
            !bytes[i].is_ascii()
                || bytes[i].is_ascii_alphabetic()
                || starts_spaced_word(&bytes[i..])
                || (i > 0
                    && bytes[i] == b'<'
                    && SPECIALS.iter().any(|special| text[i..].starts_with(special)))
        })
        .unwrap_or(bytes.len())
}

fn encode_pieces(ascii: &[u8], tokens: &mut Vec<Token>) {
    tokens.extend(ascii.chunks(PIECE_BYTES).map(|piece| match piece {
        [one] => Token(u32::from(*one)),
        piece => {
            let bits = piece.iter().fold(0, |bits, b| (bits << 7) | u32::from(*b));
            Token((PIECE_BASE * (piece.len() as u32 - 1)) | bits)
        }
    }));
}

/// Appends a token's text. Answers false, appending nothing, if no such token exists.
pub fn decode_into(token: Token, text: &mut String) -> bool {
    match token.0 {
        END_ID => {}
        id @ SPECIAL_BASE..END_ID => text.push_str(SPECIALS[(id - SPECIAL_BASE) as usize]),
        id @ WORD_BASE..PIECE_BASE => {
            let Some(word) = WORDS.get((id - WORD_BASE) as usize / 2) else { return false };
            if id % 2 == 1 {
                text.push(' ');
            }
            text.push_str(word.text);
        }
        id if id >= PIECE_BASE => return decode_piece(id, text),
        id => match char::from_u32(id) {
            Some(c) => text.push(c),
            None => return false,
        },
    }
    true
}

const END_ID: u32 = END.0;

fn decode_piece(id: u32, text: &mut String) -> bool {
    let length = id / PIECE_BASE + 1;
    if length as usize > PIECE_BYTES {
        return false;
    }
    let characters = (0..length).rev().map(|i| char::from(((id >> (7 * i)) & 0x7f) as u8));
    text.extend(characters);
    true
}

/// The text of tokens, or the first one that does not exist.
pub fn decode(tokens: &[Token]) -> Result<String, Token> {
    let mut text = String::with_capacity(tokens.len() * PIECE_BYTES);
    match tokens.iter().find(|token| !decode_into(**token, &mut text)) {
        Some(unknown) => Err(*unknown),
        None => Ok(text),
    }
}

/// The token of a vocabulary word.
pub(crate) fn word_token(index: usize, spaced: bool) -> Token {
    Token(WORD_BASE + 2 * index as u32 + u32::from(spaced))
}

/// The vocabulary word that a token stands for.
pub(crate) fn token_word(token: Token) -> Option<usize> {
    let index = token.0.checked_sub(WORD_BASE)? as usize / 2;
    (index < WORDS.len()).then_some(index)
}

/// The token of a short ASCII text such as a full stop.
pub(crate) fn piece_token(text: &str) -> Option<Token> {
    let tokens = encode(text);
    (tokens.len() == 1).then(|| tokens[0])
}

fn word_index(word: &str) -> Option<usize> {
    static INDEX: OnceLock<HashMap<&str, usize>> = OnceLock::new();
    let index =
        INDEX.get_or_init(|| WORDS.iter().enumerate().map(|(i, word)| (word.text, i)).collect());
    index.get(word).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(text: &str) {
        let tokens = encode(text);
        assert_eq!(decode(&tokens).as_deref(), Ok(text), "{tokens:?}");
    }

    #[test]
    fn texts_survive_the_round_trip() {
        [
            "",
            " ",
            "hello  there",
            "the cache",
            " the\n\nThe",
            "a<|im_end|>\n<|",
            "naïve 世界 🙂",
            "\0",
        ]
        .into_iter()
        .for_each(round_trip);
    }

    #[test]
    fn english_is_about_four_bytes_a_token() {
        let text =
            "Please explain how a request reaches the server and waits in the queue. ".repeat(9);
        let bytes = text.len() as f64 / encode(&text).len() as f64;
        assert!((3.0..5.5).contains(&bytes), "{bytes}");
    }

    #[test]
    fn an_id_outside_of_the_vocabulary_is_refused() {
        for id in [0xd800, 9_999_999, SPECIAL_BASE + 100, u32::MAX] {
            assert_eq!(decode(&[Token(id)]), Err(Token(id)));
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_the_round_trip(text in any::<String>()) {
            round_trip(&text);
        }

        #[test]
        fn any_mix_of_words_and_markers_survives_the_round_trip(
            text in "( the|The|cache|<\\|im_end\\|>|<|\\n| |\\.|é){0,40}"
        ) {
            round_trip(&text);
        }
    }
}
