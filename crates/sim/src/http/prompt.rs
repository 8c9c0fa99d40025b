//! Prompts: the chat template and the many shapes of content.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::problem;

/// What follows a rendered conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The assistant begins a message.
    New,
    /// The assistant goes on with the last message (`continue_final_message`).
    Continued,
    /// Nothing (`add_generation_prompt: false`).
    None,
}

/// Renders a conversation after the ChatML template.
pub(crate) fn render(messages: &[Value], tools: Option<&Value>, turn: Turn) -> String {
    let mut prompt = String::new();
    if let Some(tools) = tools {
        prompt.push_str(&format!("<|im_start|>system\n{tools}<|im_end|>\n"));
    }
    for (index, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        prompt.push_str(&format!("<|im_start|>{role}\n"));
        prompt.push_str(&content_text(message.get("content")));
        if let Some(calls) = message.get("tool_calls") {
            prompt.push_str(&calls.to_string());
        }
        if turn != Turn::Continued || index + 1 < messages.len() {
            prompt.push_str("<|im_end|>\n");
        }
    }
    if turn == Turn::New {
        prompt.push_str("<|im_start|>assistant\n");
    }
    prompt
}

/// The text of a message's content: a string, a list of parts, or nothing. Parts that are not text
/// (images, tool results) stand for themselves as JSON.
pub(crate) fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part_text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> String {
    let text = part.get("text").or(Some(part)).and_then(Value::as_str);
    text.map_or_else(|| part.to_string(), str::to_owned)
}

/// The messages, checked as far as vLLM's own first look goes.
pub(crate) fn check_messages(messages: &[Value]) -> Result<(), ApiError> {
    if messages.is_empty() {
        let message = "Cannot apply chat template to an empty conversation. Provide at least one \
                       message.";
        return Err(ApiError::bad_request(message));
    }
    let has_role = |message: &Value| message.get("role").is_some_and(Value::is_string);
    match messages.iter().position(|message| !has_role(message)) {
        None => Ok(()),
        Some(index) => {
            let items = messages[index].as_object().map_or(0, Map::len);
            let loc = format!("body.messages.{index}.ChatCompletionDeveloperMessageParam.role");
            let found = format!("<dict of {items} items>");
            Err(problem("missing", &loc, "Field required", found))
        }
    }
}

/// Anthropic's `system` and messages as a conversation.
pub(crate) fn with_system(system: Option<&Value>, messages: &[Value]) -> Vec<Value> {
    let system = system.map(|system| json!({ "role": "system", "content": system }));
    system.into_iter().chain(messages.iter().cloned()).collect()
}
