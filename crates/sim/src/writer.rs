//! The model: which token follows a text.
//!
//! A greedy language model is a function from all tokens so far to the next one. So is this: the
//! same prompt gets the same answer from every server, and an answer that was cut and is continued
//! elsewhere, from its token ids or from its text, goes on as if nothing had happened.

use std::sync::OnceLock;

use crate::kv_cache::mix;
use crate::tokenizer::{END, Token, decode_into, piece_token, token_word, word_token};
use crate::words::{Class, WORDS};

/// An answer has this many sentences on average: some hundred tokens, as chat answers have.
const SENTENCES: u64 = 14;

/// Reads tokens and says what comes next.
#[derive(Clone, Debug)]
pub struct Writer {
    context: u64,
    last: Option<Token>,
    before_last: Option<Token>,
}

/// May an answer end by itself?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// When the text is complete.
    Natural,
    /// Only at `max_tokens` (`ignore_eos`, or below `min_tokens`).
    Never,
}

impl Writer {
    /// A writer that has read nothing. Writers of different seeds are different models.
    pub fn new(seed: u64) -> Self {
        Self { context: mix(seed, 0x77), last: None, before_last: None }
    }

    /// Takes the next token of the text into account, whoever wrote it.
    pub fn read(&mut self, token: Token) {
        self.context = mix(self.context, u64::from(token.0));
        self.before_last = self.last.replace(token);
    }

    /// The token that follows what was read.
    pub fn next(&self, ending: Ending) -> Token {
        let class = self.last.and_then(word_class);
        let choice = self.context % 8;
        match class {
            Some(Class::Opening | Class::Determiner) if choice < 3 => self.word(Class::Adjective),
            Some(Class::Opening | Class::Determiner | Class::Adjective) => self.word(Class::Noun),
            Some(Class::Verb | Class::Preposition) => self.word(Class::Determiner),
            Some(Class::Noun) => match choice {
                0..3 => self.word(Class::Verb),
                3..5 => self.word(Class::Preposition),
                5 => punctuation().paragraph,
                _ => punctuation().stop,
            },
            None if ending == Ending::Natural && self.answer_is_complete() => END,
            None => self.word(Class::Opening),
        }
    }

    /// Only after a full stop behind a noun, which is where this model puts them: a prompt that
    /// happens to end in a full stop rarely gets an empty answer.
    fn answer_is_complete(&self) -> bool {
        let Punctuation { stop, paragraph } = punctuation();
        let at_stop = self.last == Some(stop) || self.last == Some(paragraph);
        let behind_noun = self.before_last.and_then(word_class) == Some(Class::Noun);
        at_stop && behind_noun && (self.context >> 8).is_multiple_of(SENTENCES)
    }

    /// A word of the class. It brings its own space, except on a new line. After a space too:
    /// `"a "` followed by `"word"` would be read back as `"a"`, `" word"`.
    fn word(&self, class: Class) -> Token {
        let first = WORDS.iter().position(|word| word.class == class).unwrap_or(0);
        let count = WORDS[first..].iter().take_while(|word| word.class == class).count();
        let index = first + ((self.context >> 16) % count as u64) as usize;
        word_token(index, !self.on_new_line())
    }

    fn on_new_line(&self) -> bool {
        let mut text = String::new();
        self.last.is_none_or(|token| decode_into(token, &mut text) && text.ends_with('\n'))
    }
}

fn word_class(token: Token) -> Option<Class> {
    token_word(token).map(|index| WORDS[index].class)
}

#[derive(Clone, Copy)]
struct Punctuation {
    stop: Token,
    /// One token with the full stop: `"."` followed by `"\n\n"` would be read back as one.
    paragraph: Token,
}

fn punctuation() -> Punctuation {
    static PUNCTUATION: OnceLock<Punctuation> = OnceLock::new();
    *PUNCTUATION.get_or_init(|| Punctuation {
        stop: piece_token(".").unwrap_or(END),
        paragraph: piece_token(".\n\n").unwrap_or(END),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::{decode, encode};

    fn write(prompt: &str, count: usize) -> Vec<Token> {
        let mut writer = Writer::new(0);
        encode(prompt).into_iter().for_each(|token| writer.read(token));
        let mut answer = Vec::new();
        while answer.len() < count {
            let token = writer.next(Ending::Natural);
            answer.push(token);
            if token == END {
                break;
            }
            writer.read(token);
        }
        answer
    }

    #[test]
    fn answers_end_by_themselves_after_some_hundred_tokens() {
        let lengths = (0..300).map(|i| write(&format!("question {i}\n"), 10_000).len());
        let mean = lengths.sum::<usize>() / 300;
        assert!((50..250).contains(&mean), "{mean}");
    }

    #[test]
    fn punctuation_is_one_token_each() {
        assert_ne!(punctuation().stop, END);
        assert_ne!(punctuation().paragraph, END);
    }

    proptest! {
        #[test]
        fn a_cut_answer_goes_on_as_it_would_have(prompt in ".{1,60}", cut in 0_usize..40) {
            let whole = write(&prompt, 60);
            let cut = cut.min(whole.len() - 1);
            let said = decode(&whole[..cut]).unwrap();
            let rest = write(&format!("{prompt}{said}"), 60 - cut);
            prop_assert_eq!(&whole[cut..], &rest[..]);
        }

        #[test]
        fn generated_text_is_read_back_as_the_tokens_it_was_written_as(prompt in ".{1,60}") {
            let mut tokens = encode(&prompt);
            tokens.extend(write(&prompt, 50).into_iter().filter(|token| *token != END));
            let text = decode(&tokens).unwrap();
            prop_assert_eq!(encode(&text), tokens);
        }
    }
}
