//! The members of a request body that make up its prompt.

use super::content::{Write, Writer};
use crate::json::Value;

/// By name, in the order in which they are written: what stands at the beginning of a rendered
/// prompt first, wherever it stands in the body. Chat templates put tools before or into the system
/// prompt; a query is what all pairs of a reranking begin with.
const ORDER: [(&[u8], Write); 26] = [
    (b"chat_template", Writer::text),
    (b"chat_template_kwargs", Writer::json),
    (b"mm_processor_kwargs", Writer::json),
    (b"reasoning_effort", Writer::text),
    (b"reasoning", Writer::json),
    (b"tools", Writer::tools),
    (b"functions", Writer::tools),
    (b"system", Writer::system),
    (b"instructions", Writer::system),
    (b"instruction", Writer::text),
    (b"query", Writer::batch),
    (b"queries", Writer::batch),
    (b"text_1", Writer::batch),
    (b"data_1", Writer::batch),
    (b"documents", Writer::documents),
    (b"messages", Writer::batch),
    (b"prompt", Writer::batch),
    (b"input", Writer::input),
    (b"inputs", Writer::batch),
    (b"texts", Writer::batch),
    (b"images", Writer::batch),
    (b"token_ids", Writer::batch),
    (b"text_2", Writer::batch),
    (b"data_2", Writer::batch),
    (b"items", Writer::batch),
    (b"suffix", Writer::text),
];

/// What stands there, where it stands in the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Material<'a> {
    values: [Option<Value<'a>>; ORDER.len()],
}

impl<'a> Material<'a> {
    pub(crate) fn set(&mut self, name: &[u8], value: Value<'a>) {
        if let Some(at) = ORDER.iter().position(|(known, _)| *known == name) {
            self.values[at] = Some(value);
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        for (value, (_, write)) in self.values.iter().zip(ORDER) {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                write(writer, value);
            }
        }
    }
}
