//! The many spellings of one JSON text, for tests.

use std::format;
use std::string::String;
use std::vec::Vec;

use serde_json::Value as Json;

/// Decides on spellings; xorshift is random enough for that.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    pub(crate) fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n  ", "\t", "\r\n"][self.below(7)]
    }

    /// `text` as a JSON string, any character of it perhaps escaped though it need not be.
    pub(crate) fn string(&mut self, text: &str, body: &mut String) {
        body.push('"');
        let often = self.below(3);
        for character in text.chars() {
            let must = matches!(character, '"' | '\\' | '\0'..='\x1f');
            if must || self.below(10) < often {
                let units = &mut [0; 2];
                for unit in character.encode_utf16(units) {
                    *body += &format!("\\u{unit:04x}");
                }
            } else {
                body.push(character);
            }
        }
        body.push('"');
    }

    /// `value` in some spelling. Members of objects stand in any order, but for those within a
    /// value of one of the names `ordered`, which keep theirs.
    pub(crate) fn spell(&mut self, value: &Json, ordered: &[&str], body: &mut String) {
        match value {
            Json::Array(elements) => self.spell_all('[', ']', elements, body, |dice, at, body| {
                dice.spell(at, ordered, body);
            }),
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for at in (1..members.len()).rev().filter(|_| !ordered.is_empty()) {
                    members.swap(at, self.below(at + 1));
                }
                self.spell_all('{', '}', &members, body, |dice, (name, value), body| {
                    dice.string(name, body);
                    *body += dice.space();
                    body.push(':');
                    *body += dice.space();
                    let inner = if ordered.contains(&name.as_str()) { &[] } else { ordered };
                    dice.spell(value, inner, body);
                });
            }
            Json::String(text) => self.string(text, body),
            other => *body += &format!("{other}"),
        }
    }

    fn spell_all<T>(
        &mut self,
        open: char,
        close: char,
        items: &[T],
        body: &mut String,
        mut spell: impl FnMut(&mut Self, &T, &mut String),
    ) {
        body.push(open);
        for (at, item) in items.iter().enumerate() {
            *body += if at == 0 { "" } else { "," };
            *body += self.space();
            spell(self, item, body);
            *body += self.space();
        }
        body.push(close);
    }
}
