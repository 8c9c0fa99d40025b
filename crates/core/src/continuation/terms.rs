//! Whether a request's answer can be carried on, from the request's JSON alone.
//!
//! A field that is not known here rules it out: what it means for half an answer cannot be said.
//! Names and meanings are those of vLLM 0.32 (`openai/chat_completion/protocol.py`,
//! `openai/completion/protocol.py`), and those that OpenAI's clients send besides.

use alloc::vec::Vec;
use core::ops::Range;

use super::Mode;
use crate::json_members::{Member, elements, members, number, raw_string};

/// Mean the same for the rest of an answer as for all of it.
pub(super) const CARRIED: [&str; 24] = [
    "allowed_token_ids",
    "cache_salt",
    "frequency_penalty",
    "ignore_eos",
    "include_stop_str_in_output",
    "length_penalty",
    "logit_bias",
    "min_p",
    "model",
    "presence_penalty",
    "priority",
    "repetition_penalty",
    "request_id",
    "seed",
    "session_id",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop",
    "stop_token_ids",
    "temperature",
    "top_k",
    "top_p",
    "user",
    "vllm_xargs",
];

/// Made anew for the rest of an answer.
pub(super) const RENEWED: [&str; 11] = [
    "add_generation_prompt",
    "continue_final_message",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_tokens",
    "prompt",
    "return_token_ids",
    "stream",
    "stream_options",
    "tool_choice",
];

/// Say how the prompt is made of the request, or nothing at all to vLLM. Whoever goes on by text
/// needs them, whoever has the prompt's token ids does not.
const OF_THE_PROMPT: [&str; 20] = [
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "media_io_kwargs",
    "metadata",
    "mm_processor_kwargs",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_interval",
    "tools",
    "truncation_side",
    "verbosity",
    "web_search_options",
    "watermarking",
];

/// Harmless with this one value only, which is what they are without.
const ONLY_AS: [(&str, &str); 12] = [
    ("bad_words", "[]"),
    ("best_of", "1"),
    ("echo", "false"),
    ("include_reasoning", "true"),
    ("logprobs", "false"),
    ("n", "1"),
    ("return_prompt_text", "false"),
    ("return_tokens_as_token_ids", "false"),
    ("suffix", "\"\""),
    ("top_logprobs", "0"),
    ("use_beam_search", "false"),
    ("response_format", r#"{"type":"text"}"#),
];

/// Which API the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// How text so far becomes a part of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextWay {
    /// As a new last message, the assistant's.
    Message,
    /// At the end of the last message, which the answer continues already.
    LastMessage,
    /// At the end of the prompt.
    Prompt,
}

/// What matters of a request whose answer can be carried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub(super) api: Api,
    pub(super) by_ids: bool,
    pub(super) by_text: Option<TextWay>,
    pub(super) max_tokens: Option<u64>,
    pub(super) min_tokens: u64,
    pub(super) has_stops: bool,
    pub(super) usage: bool,
    pub(super) running_usage: bool,
}

/// The default of `max_tokens` of completions (`openai/completion/protocol.py`).
const COMPLETION_TOKENS: u64 = 16;

impl Terms {
    /// The terms of a request for `path`; none if its answer cannot be carried on.
    pub fn of(path: &str, body: &[u8], mode: Mode) -> Option<Self> {
        let api = match (path, mode) {
            (_, Mode::Off) => return None,
            ("/v1/chat/completions", _) => Api::Chat,
            ("/v1/completions", _) => Api::Completions,
            _ => return None,
        };
        let request = Request::read(body)?;
        if request.get("stream")? != b"true" || !request.is_plain() {
            return None;
        }
        let (usage, running_usage) = request.usage()?;
        let has_stops = request.has_stops();
        let by_ids = mode == Mode::Exact && request.get("return_token_ids").is_none();
        let terms = Self {
            api,
            by_ids: by_ids && request.is_all_text(api)?,
            by_text: request.text_way(api),
            max_tokens: request.max_tokens(api)?,
            min_tokens: request.get("min_tokens").map_or(Some(0), number)?,
            has_stops,
            usage,
            running_usage,
        };
        (terms.by_ids || terms.by_text.is_some()).then_some(terms)
    }

    /// Whether token ids are to be asked for.
    pub fn wants_ids(&self) -> bool {
        self.by_ids
    }
}

/// The body with the wish for token ids in it, and with nothing else changed.
pub fn with_ids_asked_for(body: &[u8]) -> Option<Vec<u8>> {
    let brace = body.iter().position(|&byte| byte == b'{')? + 1;
    let wish = br#""return_token_ids":true,"#;
    let mut asked = Vec::with_capacity(body.len() + wish.len());
    asked.extend_from_slice(&body[..brace]);
    asked.extend_from_slice(wish);
    asked.extend_from_slice(&body[brace..]);
    Some(asked)
}

/// The members of a request's body that are not null: null is as good as absent to vLLM.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) body: &'a [u8],
    pub(super) members: Vec<Member<'a>>,
}

impl<'a> Request<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut members = members(body, 0..body.len())?;
        members.retain(|member| body[member.value.clone()] != *b"null");
        let mut names: Vec<_> = members.iter().map(|member| member.name).collect();
        names.sort_unstable();
        // Which of two counts is the server's to say.
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        (!twice).then_some(Self { body, members })
    }

    pub(super) fn span(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().find(|member| member.name == name.as_bytes())?;
        Some(member.value.clone())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.span(name).map(|at| &self.body[at])
    }

    fn is_plain(&self) -> bool {
        let known = |name: &[u8]| {
            let is = |known: &&str| known.as_bytes() == name;
            CARRIED.iter().chain(&RENEWED).chain(&OF_THE_PROMPT).any(is)
        };
        let harmless = |member: &Member<'_>| {
            let value = self.body[member.value.clone()].iter().filter(|b| !b.is_ascii_whitespace());
            ONLY_AS.iter().any(|(name, only)| {
                name.as_bytes() == member.name && value.clone().eq(only.as_bytes())
            })
        };
        let no_tools = self.get("tools").is_none_or(|tools| tools == b"[]")
            || self.get("tool_choice") == Some(br#""none""#);
        let whole_stops = !self.has_stops()
            || self.get("include_stop_str_in_output").is_none_or(|flag| flag == b"false");
        let ids = self.get("return_token_ids").is_none_or(|flag| flag == b"false");
        no_tools
            && whole_stops
            && ids
            && self.members.iter().all(|member| known(member.name) || harmless(member))
    }

    fn has_stops(&self) -> bool {
        self.get("stop").is_some_and(|stop| !matches!(stop, b"[]" | b"\"\""))
    }

    /// Whether usage is wanted at the end, and whether in every event.
    fn usage(&self) -> Option<(bool, bool)> {
        let Some(at) = self.span("stream_options") else { return Some((false, false)) };
        let (mut usage, mut running) = (false, false);
        for member in members(self.body, at)? {
            let flag = match &self.body[member.value] {
                b"true" => true,
                b"false" | b"null" => false,
                _ => return None,
            };
            match member.name {
                b"include_usage" => usage = flag,
                b"continuous_usage_stats" => running = flag,
                _ => {}
            }
        }
        Some((usage, usage && running))
    }

    fn max_tokens(&self, api: Api) -> Option<Option<u64>> {
        let asked = match api {
            Api::Chat => self.get("max_completion_tokens").or_else(|| self.get("max_tokens")),
            Api::Completions => self.get("max_tokens"),
        };
        match (asked, api) {
            (Some(asked), _) => number(asked).map(Some),
            (None, Api::Chat) => Some(None),
            (None, Api::Completions) => Some(Some(COMPLETION_TOKENS)),
        }
    }

    /// Whether the prompt's token ids are all there is of the prompt: images and the like are not
    /// in them. None where there is no prompt, or more than one.
    fn is_all_text(&self, api: Api) -> Option<bool> {
        match api {
            Api::Chat => {
                let messages = elements(self.body, self.span("messages")?)?;
                Some(messages.into_iter().all(|message| self.is_text_message(message)))
            }
            Api::Completions => {
                let prompt = self.get("prompt")?;
                let is_ids = prompt.first() == Some(&b'[')
                    && prompt.iter().all(|b| b.is_ascii_digit() || b" ,[]\t\r\n".contains(b))
                    && !prompt[1..].contains(&b'[');
                (is_ids || prompt.first() == Some(&b'"')).then_some(true)
            }
        }
    }

    fn is_text_message(&self, message: Range<usize>) -> bool {
        let Some(members) = members(self.body, message) else { return false };
        let is_text_part = |part: Range<usize>| match self.body.get(part.start) {
            Some(b'"') => true,
            _ => self.value_of(part, "type").is_some_and(|kind| kind == br#""text""#),
        };
        members.iter().filter(|member| member.name == b"content").all(|content| {
            match self.body[content.value.start] {
                b'"' | b'n' => true,
                _ => elements(self.body, content.value.clone())
                    .is_some_and(|parts| parts.into_iter().all(is_text_part)),
            }
        })
    }

    /// The value of a member of the object at `range`.
    fn value_of(&self, range: Range<usize>, name: &str) -> Option<&'a [u8]> {
        let members = members(self.body, range)?;
        let member = members.iter().find(|member| member.name == name.as_bytes())?;
        Some(&self.body[member.value.clone()])
    }

    fn text_way(&self, api: Api) -> Option<TextWay> {
        let flag = |name| self.get(name).map(|flag| flag == b"true");
        match api {
            Api::Completions => raw_string(self.get("prompt")?).map(|_| TextWay::Prompt),
            Api::Chat => {
                let last = elements(self.body, self.span("messages")?)?.pop()?;
                match (flag("continue_final_message"), flag("add_generation_prompt")) {
                    (Some(true), _) => {
                        raw_string(self.value_of(last, "content")?).map(|_| TextWay::LastMessage)
                    }
                    (_, Some(false)) => None,
                    _ => Some(TextWay::Message),
                }
            }
        }
    }
}
