//! From an engine's tokens to an answer's text: decoding, stop strings, usage.

use std::mem;

use serde_json::{Value, json};

use crate::driver::{Generation, News};
use crate::engine::FinishReason;
use crate::tokenizer::{Token, decode_into};

/// The answer to one request, as it is being written.
#[derive(Debug)]
pub(crate) struct Answer {
    generation: Generation,
    choices: Vec<Choice>,
    stops: Vec<String>,
    stalled: bool,
    pub(crate) usage: Usage,
}

/// The part of a choice that is decoded but not sent yet.
#[derive(Clone, Debug, Default)]
struct Choice {
    text: String,
    tokens: Vec<Token>,
    finished: bool,
}

/// What is new about one choice.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(crate) choice: usize,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) finish: Option<Finish>,
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finish {
    pub(crate) reason: FinishReason,
    /// The stop string that ended it.
    pub(crate) stop: Option<String>,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) completion: usize,
    pub(crate) cached: usize,
    /// Prompt tokens in full blocks that were not cached before.
    pub(crate) newly_cached: usize,
}

impl Answer {
    pub(crate) fn new(
        generation: Generation,
        choices: usize,
        stops: Vec<String>,
        usage: Usage,
    ) -> Self {
        let choices = vec![Choice::default(); choices];
        Self { generation, choices, stops, stalled: false, usage }
    }

    /// The next piece; `None` when all choices are finished.
    pub(crate) async fn next(&mut self) -> Option<Delta> {
        if self.stalled {
            return std::future::pending().await;
        }
        loop {
            match self.generation.next().await? {
                // Of several choices vLLM reports the last one's.
                News::Scheduled { choice, cached_tokens } if choice + 1 == self.choices.len() => {
                    self.usage.cached = cached_tokens;
                    self.usage.newly_cached = self.usage.newly_cached.saturating_sub(cached_tokens);
                }
                News::Scheduled { .. } => {}
                News::Token { choice, token, finish } => {
                    if let Some(delta) = self.take(choice, token, finish) {
                        return Some(delta);
                    }
                }
            }
        }
    }

    /// Nothing more will come, though the engine goes on.
    pub(crate) fn stall(&mut self) {
        self.stalled = true;
    }

    /// Everything at once: one finished delta for each choice.
    pub(crate) async fn whole(&mut self) -> Vec<Delta> {
        let empty =
            |choice| Delta { choice, text: String::new(), tokens: Vec::new(), finish: None };
        let mut whole: Vec<_> = (0..self.choices.len()).map(empty).collect();
        while let Some(delta) = self.next().await {
            let choice = &mut whole[delta.choice];
            choice.text.push_str(&delta.text);
            choice.tokens.extend(delta.tokens);
            choice.finish = choice.finish.take().or(delta.finish);
        }
        whole
    }

    fn take(
        &mut self,
        index: usize,
        token: Option<Token>,
        finish: Option<FinishReason>,
    ) -> Option<Delta> {
        let choice = &mut self.choices[index];
        if choice.finished {
            return None;
        }
        self.usage.completion += 1;
        if let Some(token) = token {
            decode_into(token, &mut choice.text);
            choice.tokens.push(token);
        }
        let mut finish = finish.map(|reason| Finish { reason, stop: None });
        if let Some(stop) = cut_at_stop(&mut choice.text, &self.stops) {
            finish = Some(Finish { reason: FinishReason::Stop, stop: Some(stop) });
            self.generation.finish(index);
        }
        choice.finished = finish.is_some();
        let text = match choice.finished {
            true => mem::take(&mut choice.text),
            false => take_safe(&mut choice.text, &self.stops),
        };
        if text.is_empty() && finish.is_none() {
            return None;
        }
        Some(Delta { choice: index, text, tokens: mem::take(&mut choice.tokens), finish })
    }
}

/// Cuts the text before the first stop string in it.
fn cut_at_stop(text: &mut String, stops: &[String]) -> Option<String> {
    let found = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    let (at, stop) = found.min_by_key(|(at, _)| *at)?;
    text.truncate(at);
    Some(stop.clone())
}

/// Takes what cannot be the beginning of a stop string: all but the last characters.
fn take_safe(text: &mut String, stops: &[String]) -> String {
    let held = stops.iter().map(|stop| stop.len().saturating_sub(1)).max().unwrap_or(0);
    let mut at = text.len().saturating_sub(held);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let rest = text.split_off(at);
    mem::replace(text, rest)
}

impl Usage {
    /// `usage` of chat answers.
    pub(crate) fn chat(&self) -> Value {
        self.details(json!({
            "cached_tokens": self.cached,
            "created_cache_tokens": self.newly_cached,
            "multimodal_tokens": null,
        }))
    }

    /// `usage` of completions: there vLLM leaves the created ones out.
    pub(crate) fn completions(&self) -> Value {
        self.details(json!({
            "cached_tokens": self.cached,
            "created_cache_tokens": null,
            "multimodal_tokens": null,
        }))
    }

    fn details(&self, prompt_tokens_details: Value) -> Value {
        let mut usage = self.running();
        if let Some(usage) = usage.as_object_mut() {
            usage.insert("prompt_tokens_details".to_owned(), prompt_tokens_details);
            // Last, as in vLLM.
            usage.shift_remove("completion_tokens_details");
            usage.insert("completion_tokens_details".to_owned(), Value::Null);
        }
        usage
    }

    /// `usage` in the middle of a stream (`continuous_usage_stats`).
    pub(crate) fn running(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "completion_tokens_details": null,
        })
    }

    /// `usage` at the end of a stream, with the given details.
    pub(crate) fn last(&self, prompt_tokens_details: &Value) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "prompt_tokens_details": prompt_tokens_details,
        })
    }
}

impl Finish {
    /// `finish_reason` in OpenAI's words.
    pub(crate) fn openai(&self) -> &'static str {
        match self.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }

    /// `stop_reason` in Anthropic's words.
    pub(crate) fn anthropic(&self) -> &'static str {
        match (self.reason, &self.stop) {
            (FinishReason::Length, _) => "max_tokens",
            (FinishReason::Stop, Some(_)) => "stop_sequence",
            (FinishReason::Stop, None) => "end_turn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_before_the_earliest_stop_string() {
        let mut text = "one two three".to_owned();
        let stops = ["three".to_owned(), " two".to_owned()];
        assert_eq!(cut_at_stop(&mut text, &stops).as_deref(), Some(" two"));
        assert_eq!(text, "one");
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back() {
        let mut text = "héllo wor".to_owned();
        assert_eq!(take_safe(&mut text, &["world".to_owned()]), "héllo");
        assert_eq!(text, " wor");
        assert_eq!(take_safe(&mut text, &[]), " wor");
        let mut cut = "né".to_owned();
        assert_eq!(take_safe(&mut cut, &["xy".to_owned()]), "n");
    }
}
