//! The few top-level members of a JSON request body that routing asks for, without parsing the
//! rest of it.
//!
//! One pass, no recursion, and no allocation unless a wanted value is written with escapes. For
//! every valid JSON text the answer is that of the server: vLLM reads bodies with Python's
//! `json.loads`, where the **last** of several members of the same name counts and escapes in
//! names are decoded like any other. Text that is seen not to be JSON gives no members at all, the
//! server will answer the 400; but only the outline is checked, so some invalid texts give members
//! all the same. UTF-16 and UTF-32, which `json.loads` would guess, are not read.

use alloc::borrow::Cow;

use crate::json::{Value, members};
use crate::prompt::Material;

/// The members that routing asks for. A member of another type than the one here is as good as
/// absent: whether it is an error is for the server to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The model, or LoRA adapter, that the client asks for.
    pub model: Option<Cow<'a, str>>,
    /// Whether it wants events instead of one answer; JSON `true` or `false` only.
    pub stream: Option<bool>,
    /// The stored response that this one continues; it lives in the memory of one server.
    pub previous_response_id: Option<Cow<'a, str>>,
    /// The session that the client says this belongs to.
    pub session_id: Option<Cow<'a, str>>,
    /// `max_tokens`, as in most APIs.
    pub max_tokens: Option<u32>,
    /// `max_completion_tokens`, which in chat comes before the older name.
    pub max_completion_tokens: Option<u32>,
    /// `max_output_tokens`, the name in Responses.
    pub max_output_tokens: Option<u32>,
    /// How many answers it wants: `n`.
    pub n: Option<u32>,
    /// What keeps its prompt apart from equal ones in the servers' caches.
    pub cache_salt: Option<Cow<'a, str>>,
    /// Whether the server is to cut the prompt to some length: `truncate_prompt_tokens`.
    pub truncates_prompt: bool,
    /// What the prompt is made of, not read yet.
    pub(crate) material: Material<'a>,
}

impl<'a> Fields<'a> {
    /// How many tokens each answer may have at most, as far as the request says.
    pub fn answer_tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens).or(self.max_output_tokens)
    }

    fn set(&mut self, name: &[u8], value: Value<'a>) {
        match name {
            b"model" => self.model = value.text(),
            b"stream" => self.stream = value.flag(),
            b"previous_response_id" => self.previous_response_id = value.text(),
            b"session_id" => self.session_id = value.text(),
            b"max_tokens" => self.max_tokens = value.count(),
            b"max_completion_tokens" => self.max_completion_tokens = value.count(),
            b"max_output_tokens" => self.max_output_tokens = value.count(),
            b"n" => self.n = value.count(),
            b"cache_salt" => self.cache_salt = value.text(),
            b"truncate_prompt_tokens" => self.truncates_prompt = !value.is_null(),
            _ => self.material.set(name, value),
        }
    }
}

/// Reads the members of the object that `body` holds.
pub fn scan(body: &[u8]) -> Fields<'_> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut fields = Fields::default();
    members(body, |name, value| fields.set(name, value)).map_or_else(Fields::default, |()| fields)
}

#[cfg(test)]
mod tests;
