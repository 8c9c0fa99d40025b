//! The canonical form of a prompt's parts, written into a chain.
//!
//! Members that reach the model are written in an order of their own, behind marks that no text
//! contains; all others are passed over. Among these are the ids of tool calls, which are made up
//! anew in each conversation and which most chat templates leave out, and `cache_control`, which
//! clients move along with every turn. What the members of this or that object mean is not known
//! here is written as it stands, without white space and escapes.
//!
//! Whatever comes behind a message begins with a mark of its own, and nothing ends with one: so a
//! conversation that goes on begins with all that it was before.

use super::chain::{Chain, IDS};
use crate::dialect::Dialect;
use crate::json::{Value, decode, elements, is_space, members};
use crate::quoted::Quoted;
use crate::sixteen;

/// Writes one part of a prompt.
pub(super) type Write = fn(&mut Writer, Value<'_>);

/// Members of an object that are written, in this order.
type Table = [(&'static [u8], Write)];

/// Largest [`Table`].
const TABLE_MAX: usize = 16;

/// A message of chat or Messages, or an item of Responses.
const MESSAGE: &Table = &[
    (b"role", Writer::text),
    (CONTENT, Writer::content),
    (b"name", Writer::text),
    (b"reasoning", Writer::text),
    (b"reasoning_content", Writer::text),
    (b"tool_calls", Writer::calls),
    (b"function_call", Writer::function_call),
    (b"summary", Writer::content),
    (b"arguments", Writer::text),
    (b"output", Writer::content),
];

const CONTENT: &[u8] = b"content";

/// A part of a message's content. `text` comes first, and so has no mark: content that is one text
/// is the same prompt as that text itself.
const PART: &Table = &[
    (b"text", Writer::text),
    (b"thinking", Writer::text),
    (b"reasoning", Writer::text),
    (b"refusal", Writer::text),
    (b"image_url", Writer::media),
    (b"image", Writer::media),
    (b"source", Writer::media),
    (b"input_audio", Writer::media),
    (b"audio_url", Writer::media),
    (b"video_url", Writer::media),
    (b"file", Writer::media),
    (b"file_data", Writer::media),
    (b"name", Writer::text),
    (b"input", Writer::json),
    (CONTENT, Writer::inner_content),
];

/// A part of a tool's result, which is itself a part.
const INNER_PART: &Table = &[
    (b"text", Writer::text),
    (b"image_url", Writer::media),
    (b"image", Writer::media),
    (b"source", Writer::media),
];

/// Where an image, a clip or a file is, or what it is.
const MEDIA: &Table = &[
    (b"url", Writer::text),
    (b"data", Writer::text),
    (b"file_data", Writer::text),
    (b"file_id", Writer::text),
];

const TOOL: &Table = &[
    (b"type", Writer::text),
    (b"function", Writer::function),
    (b"name", Writer::text),
    (b"description", Writer::text),
    (b"parameters", Writer::json),
    (b"input_schema", Writer::json),
];

const FUNCTION: &Table =
    &[(b"name", Writer::text), (b"description", Writer::text), (b"parameters", Writer::json)];

const CALL: &Table = &[
    (b"function", Writer::function_call),
    (b"name", Writer::text),
    (b"arguments", Writer::text),
    (b"custom", Writer::json),
];

const FUNCTION_CALL: &Table = &[(b"name", Writer::text), (b"arguments", Writer::text)];

/// How the text begins by which Claude Code names itself at the head of its system prompt. It is
/// another with each request, and vLLM leaves it out (vllm/entrypoints/anthropic/serving.py).
const ATTRIBUTION: &[u8] = b"x-anthropic-billing-header";

/// Prompts that stand in arrays of arrays stand no deeper: a batch of conversations.
const BATCH_DEPTH_MAX: u32 = 1;

/// What parts begin with; in a chain behind a byte that UTF-8 never has. Members of a [`Table`]
/// have marks from [`MEMBER`] on.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Message,
    Part,
    Tool,
    Call,
    Prompt,
    TextEnd,
}

const NO_UTF8: u8 = 0xFF;
const MEMBER: u8 = 0x40;

/// Writes parts of a prompt.
#[derive(Debug)]
pub(super) struct Writer {
    chain: Chain,
    dialect: Dialect,
    prompts: u32,
}

impl Writer {
    pub(super) fn new(chain: Chain, dialect: Dialect) -> Self {
        Self { chain, dialect, prompts: 0 }
    }

    /// What was written, and of how many prompts it is: of several, if they are a batch.
    pub(super) fn finish(self) -> (Chain, u32) {
        (self.chain, self.prompts)
    }

    /// A text; what is none is written all the same.
    pub(super) fn text(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.string(text),
            other => self.json(other),
        }
    }

    /// Any value, its members in the order in which they stand: so they come into prompts.
    pub(super) fn json(&mut self, value: Value<'_>) {
        let mut rest = match value {
            Value::Text(text) => return self.quoted(text),
            Value::Scalar(raw) | Value::Container(raw) => raw,
        };
        while let Some(at) = rest.iter().position(|&byte| byte == b'"' || is_space(byte)) {
            self.chain.text(&rest[..at]);
            let (before, behind) = rest.split_at(at + 1);
            rest = behind;
            if before.ends_with(b"\"") {
                let Some((text, behind)) = Quoted::read(rest) else { return };
                self.quoted(text);
                rest = behind;
            }
        }
        self.chain.text(rest);
    }

    pub(super) fn tools(&mut self, value: Value<'_>) {
        self.each(value, |writer, tool| {
            writer.mark(Mark::Tool);
            writer.object(tool, TOOL);
        });
    }

    /// A system prompt outside the messages, as if it were the first of them.
    pub(super) fn system(&mut self, value: Value<'_>) {
        self.mark(Mark::Message);
        self.chain.text(b"system");
        self.mark_member(1);
        self.parts(value, |part| !is_attribution(part));
    }

    /// What a Responses request asks, which may be the text of a message.
    pub(super) fn input(&mut self, value: Value<'_>) {
        if self.dialect != Dialect::Responses || !matches!(value, Value::Text(_)) {
            return self.prompts_in(value, BATCH_DEPTH_MAX);
        }
        self.begin_prompt();
        self.mark(Mark::Message);
        self.chain.text(b"user");
        self.mark_member(1);
        self.text(value);
    }

    /// A text, token ids, a conversation, or a batch of these.
    pub(super) fn batch(&mut self, value: Value<'_>) {
        self.prompts_in(value, BATCH_DEPTH_MAX);
    }

    /// Documents to answer from, or to be ranked: then each is the end of a prompt of its own.
    pub(super) fn documents(&mut self, value: Value<'_>) {
        self.begin_prompt();
        self.each(value, |writer, document| {
            writer.mark(Mark::Part);
            writer.text(document);
        });
    }

    fn prompts_in(&mut self, value: Value<'_>, depth: u32) {
        let Value::Container(raw) = value else {
            self.begin_prompt();
            return self.text(value);
        };
        let first = raw.get(1..).and_then(|rest| rest.iter().find(|&&byte| !is_space(byte)));
        match (raw.first(), first) {
            (Some(b'['), Some(b'0'..=b'9')) => {
                self.begin_prompt();
                self.token_ids(raw);
            }
            (Some(b'['), Some(b'{')) => {
                self.begin_prompt();
                self.each(value, Self::message);
            }
            (Some(b'['), _) if depth > 0 => {
                self.each(value, |writer, prompt| writer.prompts_in(prompt, depth - 1));
            }
            _ => {
                self.begin_prompt();
                self.object(value, MESSAGE);
            }
        }
    }

    fn message(&mut self, value: Value<'_>) {
        self.mark(Mark::Message);
        self.object(value, MESSAGE);
    }

    fn content(&mut self, value: Value<'_>) {
        self.parts(value, |_| true);
    }

    fn parts(&mut self, value: Value<'_>, is_wanted: fn(Value<'_>) -> bool) {
        if let Value::Text(text) = value {
            return self.string(text);
        }
        let mut is_first = true;
        self.each(value, |writer, part| {
            if is_wanted(part) {
                if !core::mem::take(&mut is_first) {
                    writer.mark(Mark::Part);
                }
                writer.part(part, PART);
            }
        });
    }

    fn inner_content(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.string(text),
            other => self.each(other, |writer, part| {
                writer.mark(Mark::Part);
                writer.part(part, INNER_PART);
            }),
        }
    }

    fn part(&mut self, value: Value<'_>, table: &Table) {
        match value {
            Value::Text(text) => self.string(text),
            other => self.object(other, table),
        }
    }

    fn media(&mut self, value: Value<'_>) {
        let mut contents = Self::new(Chain::digesting(), self.dialect);
        contents.part(value, MEDIA);
        self.chain.media(contents.chain.digest());
    }

    fn function(&mut self, value: Value<'_>) {
        self.object(value, FUNCTION);
    }

    fn calls(&mut self, value: Value<'_>) {
        self.each(value, |writer, call| {
            writer.mark(Mark::Call);
            writer.object(call, CALL);
        });
    }

    fn function_call(&mut self, value: Value<'_>) {
        self.object(value, FUNCTION_CALL);
    }

    /// The members that `table` names. What is no object is written as it stands.
    fn object(&mut self, value: Value<'_>, table: &Table) {
        let mut found = [None; TABLE_MAX];
        let Value::Container(raw) = value else { return self.json(value) };
        let read = members(raw, |name, value| {
            if let Some(at) = table.iter().position(|(known, _)| *known == name) {
                found[at] = Some(value);
            }
        });
        if read.is_none() {
            return self.json(value);
        }
        for ((value, (_, write)), at) in found.iter().zip(table).zip(0..) {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                self.mark_member(at);
                write(self, value);
            }
        }
    }

    /// The elements of an array. What is none is written as it stands.
    fn each(&mut self, value: Value<'_>, mut write: impl FnMut(&mut Self, Value<'_>)) {
        match value {
            Value::Container(raw) if raw.starts_with(b"[") => {
                // A broken array is the server's to refuse; what of it was read does no harm.
                let _ = elements(raw, |element| write(self, element));
            }
            other => self.json(other),
        }
    }

    /// The numbers in `raw`, sixteen at a time.
    fn token_ids(&mut self, raw: &[u8]) {
        let mut block = [0; IDS];
        let mut filled = 0;
        let mut rest = raw;
        while let Some(at) = rest.iter().position(u8::is_ascii_digit) {
            (block[filled], rest) = token_id(&rest[at..]);
            filled += 1;
            if filled == block.len() {
                self.chain.tokens(&block);
                filled = 0;
            }
        }
        self.chain.tokens(&block[..filled]);
    }

    /// A text within what is written as it stands, where it must be told from what is around it.
    fn quoted(&mut self, text: Quoted<'_>) {
        self.chain.text(b"\"");
        self.string(text);
        self.mark(Mark::TextEnd);
    }

    fn string(&mut self, text: Quoted<'_>) {
        if !text.is_escaped() {
            return self.chain.text(text.raw);
        }
        // What follows an escape that JSON does not know is the server's to refuse.
        let _ = decode(text.raw, |piece| self.chain.text(piece));
    }

    fn begin_prompt(&mut self) {
        if self.prompts > 0 {
            self.mark(Mark::Prompt);
        }
        self.prompts += 1;
    }

    fn mark(&mut self, mark: Mark) {
        self.chain.text(&[NO_UTF8, mark as u8]);
    }

    /// The mark of a member of a [`Table`]. The first one has none.
    fn mark_member(&mut self, at: u8) {
        if at > 0 {
            self.chain.text(&[NO_UTF8, MEMBER + at]);
        }
    }
}

/// A number that `text` begins with. One that is too large is no token id, and means nothing.
fn token_id(text: &[u8]) -> (u32, &[u8]) {
    if let Some((id, length)) = text.first_chunk().and_then(sixteen::digits) {
        return (id, &text[length..]);
    }
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let add = |id: u32, digit: &u8| id.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
    (digits.iter().fold(0, add), rest)
}

fn is_attribution(part: Value<'_>) -> bool {
    let Value::Container(raw) = part else { return false };
    let mut found = false;
    let _ = members(raw, |name, value| {
        if name == b"text" {
            found = matches!(value, Value::Text(text) if text.raw.starts_with(ATTRIBUTION));
        }
    });
    found
}
