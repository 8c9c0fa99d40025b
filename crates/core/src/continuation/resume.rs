//! What to ask of another server so that it goes on where the first one stopped.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Api;
use super::align::Alignment;
use super::render;
use super::scribe::Scribe;
use super::terms::{CARRIED, RENEWED, Request, TextWay};
use crate::json_members::{elements, members, number, raw_string, unescaped};

/// How an answer is carried on.
#[derive(Debug, PartialEq, Eq)]
pub enum Resumption {
    /// All was said, but for this.
    End(Vec<u8>),
    /// Nothing was said: the request can be sent once more as it was.
    Again,
    /// The prompt's and the answer's token ids are the new prompt; which of them, the alignment
    /// finds out.
    Ids(Alignment),
    /// The text becomes a part of the request. This is to be asked of `/tokenize`, so that the new
    /// server's tokens can be told from the first one's.
    Text {
        /// The body of that question.
        question: Vec<u8>,
    },
}

/// Where one server's part of an answer ends and the next one's begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seam {
    /// The API of the next one's events.
    pub(super) api: Api,
    /// What the client has already of the next one's text.
    pub(super) overlap: String,
    /// How many events without a text the client has had of the next one's.
    pub(super) silent: usize,
    /// How many token ids of the answer, if they are known, stand before the seam.
    pub(super) ids: usize,
    /// How many tokens of the answer the next one has in its prompt.
    pub(super) kept: u64,
}

/// The request that carries an answer on.
#[derive(Debug, PartialEq, Eq)]
pub struct Continued {
    /// Where it goes.
    pub path: &'static str,
    /// What it says; none for the client's own words.
    pub body: Option<Vec<u8>>,
    /// Where its answer joins on.
    pub seam: Seam,
}

/// From which of the known tokens on the answer is generated anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// So many tokens of the answer are kept.
    pub ids: usize,
    /// What the client has of the text of the next ones.
    pub overlap: String,
}

impl Scribe {
    /// How the answer can be carried on; `body` is what the first server was asked. None if it
    /// cannot be.
    pub fn resumption(&self, body: &[u8]) -> Option<Resumption> {
        let (terms, transcript) = (&self.terms, &self.transcript);
        if !self.is_able() {
            return None;
        }
        if transcript.finished {
            return render::end(transcript, terms.usage).map(Resumption::End);
        }
        if transcript.text.is_empty() {
            return Some(Resumption::Again);
        }
        if transcript.knows_ids {
            return Alignment::begin(self, body).map(Resumption::Ids);
        }
        terms.by_text?;
        let request = Request::read(body)?;
        let mut question = Vec::from(&b"{"[..]);
        put_model(&mut question, &request);
        question.extend_from_slice(b"\"add_special_tokens\":false,\"prompt\":\"");
        question.extend_from_slice(&transcript.text);
        question.extend_from_slice(b"\"}");
        Some(Resumption::Text { question })
    }

    /// The client's own request, once more.
    pub fn again(&self) -> Continued {
        let api = self.terms.api;
        let seam = Seam { api, overlap: String::new(), silent: 0, ids: 0, kept: 0 };
        Continued { path: path_of(api), body: None, seam }
    }

    /// Whether it has to be known how long prompt and answer may be together: the client has set no
    /// limit, and the API by token ids has another default. The body of a question to `/tokenize`,
    /// whose answer tells.
    pub fn question_of_room(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.terms.max_tokens.is_some() {
            return None;
        }
        let mut question = Vec::from(&b"{"[..]);
        put_model(&mut question, &Request::read(body)?);
        question.extend_from_slice(b"\"prompt\":\"a\"}");
        Some(question)
    }

    /// The request by token ids. None if nothing is left to say.
    pub fn by_ids(&self, body: &[u8], cut: Cut, room: Option<&Tokenized>) -> Option<Continued> {
        let request = Request::read(body)?;
        let prompt = &self.transcript.prompt_ids;
        let kept = cut.ids as u64;
        let limit = match self.terms.max_tokens {
            Some(limit) => limit,
            None => room?.max_model_len.checked_sub(prompt.len() as u64)?,
        };
        let left = limit.checked_sub(kept).filter(|left| *left > 0)?;
        let mut new = Vec::with_capacity(6 * (prompt.len() + cut.ids) + 512);
        new.extend_from_slice(b"{\"prompt\":[");
        for (nth, id) in prompt.iter().chain(&self.transcript.ids[..cut.ids]).enumerate() {
            new.extend_from_slice(if nth > 0 { b"," } else { b"" });
            new.extend_from_slice(format!("{id}").as_bytes());
        }
        new.extend_from_slice(b"],\"stream\":true,\"return_token_ids\":true");
        let least = self.terms.min_tokens.saturating_sub(kept);
        new.extend_from_slice(format!(",\"max_tokens\":{left},\"min_tokens\":{least}").as_bytes());
        let carried = |name: &[u8]| CARRIED.iter().any(|carried| carried.as_bytes() == name);
        put_members(&mut new, &request, |name| carried(name) || name == b"stream_options");
        new.push(b'}');
        let Cut { ids, overlap } = cut;
        let seam = Seam { api: Api::Completions, overlap, silent: 0, ids, kept };
        Some(Continued { path: path_of(Api::Completions), body: Some(new), seam })
    }

    /// The request by text, which is so many tokens long. None if nothing is left to say.
    pub fn by_text(&self, body: &[u8], text: &Tokenized) -> Option<Continued> {
        let request = Request::read(body)?;
        let kept = text.count;
        let mut new = Vec::with_capacity(body.len() + self.transcript.text.len() + 256);
        new.extend_from_slice(b"{\"stream\":true");
        match self.terms.by_text? {
            TextWay::Prompt => {
                let prompt = raw_string(request.get("prompt")?)?;
                for piece in [b",\"prompt\":\"", prompt, &self.transcript.text, b"\""] {
                    new.extend_from_slice(piece);
                }
            }
            TextWay::Message => {
                let at = request.span("messages")?;
                put_messages(&mut new, &body[at.start..at.end - 1]);
                new.extend_from_slice(b",{\"role\":\"assistant\",\"content\":\"");
                new.extend_from_slice(&self.transcript.text);
                new.extend_from_slice(b"\"}]");
            }
            TextWay::LastMessage => {
                let at = request.span("messages")?;
                let quote = end_of_last_content(body, at.clone())?;
                put_messages(&mut new, &body[at.start..quote]);
                new.extend_from_slice(&self.transcript.text);
                new.extend_from_slice(&body[quote..at.end]);
            }
        }
        if let Some(limit) = self.terms.max_tokens {
            let left = limit.checked_sub(kept).filter(|left| *left > 0)?;
            new.extend_from_slice(format!(",\"max_tokens\":{left}").as_bytes());
        }
        let least = self.terms.min_tokens.saturating_sub(kept);
        new.extend_from_slice(format!(",\"min_tokens\":{least}").as_bytes());
        let renewed = |name: &[u8]| RENEWED.iter().any(|renewed| renewed.as_bytes() == name);
        let kept_as_is = |name: &[u8]| matches!(name, b"stream_options" | b"tool_choice");
        put_members(&mut new, &request, |name| kept_as_is(name) || !renewed(name));
        new.push(b'}');
        let api = self.terms.api;
        let seam = Seam { api, overlap: String::new(), silent: 0, ids: 0, kept };
        Some(Continued { path: path_of(api), body: Some(new), seam })
    }
}

pub(super) fn path_of(api: Api) -> &'static str {
    match api {
        Api::Chat => "/v1/chat/completions",
        Api::Completions => "/v1/completions",
    }
}

/// The messages up to where the answer is put in, which the server is to go on with.
fn put_messages(new: &mut Vec<u8>, messages: &[u8]) {
    new.extend_from_slice(b",\"continue_final_message\":true,\"add_generation_prompt\":false");
    new.extend_from_slice(b",\"messages\":");
    new.extend_from_slice(messages);
}

/// Where the closing quote of the last message's content stands.
fn end_of_last_content(body: &[u8], messages: Range<usize>) -> Option<usize> {
    let last = elements(body, messages)?.pop()?;
    let content = members(body, last)?.into_iter().find(|member| member.name == b"content")?;
    Some(content.value.end - 1)
}

fn put_members(new: &mut Vec<u8>, request: &Request<'_>, wanted: impl Fn(&[u8]) -> bool) {
    for member in request.members.iter().filter(|member| wanted(member.name)) {
        for piece in [b",\"", member.name, b"\":", &request.body[member.value.clone()]] {
            new.extend_from_slice(piece);
        }
    }
}

/// The model that the request names, as the first member of a question.
pub(super) fn put_model(question: &mut Vec<u8>, request: &Request<'_>) {
    if let Some(model) = request.get("model") {
        for piece in [&b"\"model\":"[..], model, b","] {
            question.extend_from_slice(piece);
        }
    }
}

/// What `/tokenize` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokenized {
    /// How many tokens the text is.
    pub count: u64,
    /// How many tokens prompt and answer may have together.
    pub max_model_len: u64,
}

impl Tokenized {
    /// Reads the answer.
    pub fn read(answer: &[u8]) -> Option<Self> {
        let found = members(answer, 0..answer.len())?;
        let count = |name: &[u8]| {
            let member = found.iter().find(|member| member.name == name)?;
            number(&answer[member.value.clone()])
        };
        Some(Self { count: count(b"count")?, max_model_len: count(b"max_model_len")? })
    }
}

/// The text that `/detokenize` answers.
pub fn detokenized(answer: &[u8]) -> Option<Cow<'_, str>> {
    let found = members(answer, 0..answer.len())?;
    let prompt = found.into_iter().find(|member| member.name == b"prompt")?;
    unescaped(raw_string(&answer[prompt.value])?)
}
