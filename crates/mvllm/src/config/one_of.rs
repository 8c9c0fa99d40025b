//! The kind of value that is one of a few words.

use mvllm_core::continuation::Mode;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Kind, Misfit, Optional, misfit};

/// One of the words, the first being the default.
pub(super) struct OneOf<T: 'static>(&'static [(&'static str, T)]);

/// The words of `continue_streams`.
pub(super) const CONTINUE_STREAMS: OneOf<Mode> =
    OneOf(&[("exact", Mode::Exact), ("text", Mode::Text), ("off", Mode::Off)]);

impl<T: Clone + PartialEq> Kind for OneOf<T> {
    type Value = T;

    fn read(&self, found: &Spanned<DeValue<'_>>) -> Result<T, Vec<Misfit>> {
        let DeValue::String(text) = found.get_ref() else { return Err(misfit(self, found)) };
        let named = self.0.iter().find(|(word, _)| word == text);
        named.map(|(_, value)| value.clone()).ok_or_else(|| misfit(self, found))
    }

    fn show(&self, value: &T) -> String {
        let word = self.0.iter().find(|(_, of)| of == value).map(|(word, _)| *word);
        format!("\"{}\"", word.unwrap_or_default())
    }

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }

    fn example(&self) -> String {
        self.show(&self.default())
    }
}

impl<T: Clone + PartialEq> Optional for OneOf<T> {
    fn default(&self) -> T {
        self.0[0].1.clone()
    }
}
