//! OpenAI's `/v1/responses`: create, look up, cancel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, Delta, Usage};
use super::ask::{Ask, Served};
use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::prompt::{Turn, render};
use super::reply::{self, Events, OnFailure, Over, Reply};
use crate::engine::FinishReason;
use crate::server::Server;
use crate::tokenizer::encode;

/// Responses remembered by a server with a store.
const STORED: usize = 1000;

/// Responses by id, in the memory of this one server (`VLLM_ENABLE_RESPONSES_API_STORE`).
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<VecDeque<Stored>>);

#[derive(Clone, Debug)]
struct Stored {
    id: String,
    body: Value,
    /// The conversation up to and with the answer.
    messages: Vec<Value>,
}

impl Store {
    fn keep(&self, stored: Stored) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == STORED {
            all.pop_front();
        }
        all.push_back(stored);
    }

    fn find(&self, id: &str) -> Result<Stored, ApiError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().find(|stored| stored.id == id);
        found.cloned().ok_or_else(|| ApiError::unknown_response(id))
    }
}

/// `GET /v1/responses/{id}`.
pub(super) fn look_up(call: &Call, id: &str) -> Result<Response<Reply>, ApiError> {
    Ok(reply::json(StatusCode::OK, &call.server.responses.find(id)?.body))
}

/// `POST /v1/responses/{id}/cancel`: nothing runs in the background here, so nothing can be.
pub(super) fn cancel(call: &Call, id: &str) -> Result<Response<Reply>, ApiError> {
    call.server.responses.find(id)?;
    Err(ApiError::not_cancellable())
}

/// `POST /v1/responses`.
pub(super) async fn create(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let input = fields.get("input").ok_or_else(|| fields.missing(&["input"]))?;
    let served = Served::find(&call.server, &fields)?;
    let messages = conversation(call, &fields, input)?;
    let stream = fields.flag("stream")?;
    let prompt = encode(&render(&messages, fields.get("tools"), Turn::New));
    let length = prompt.len();
    let ask = Ask::new(served, vec![prompt]).sampling(&fields, &call.headers)?.limit(
        &call.server,
        &fields,
        &[("max_output_tokens", "max_output_tokens")],
    )?;
    let longest = call.server.config.max_model_len.saturating_sub(length);
    let max_output_tokens = ask.max_tokens.unwrap_or(longest);
    let model = ask.served.name.clone();
    let answer = call.submit(ask)?;
    let work = Work {
        server: Arc::clone(&call.server),
        id: call.id("resp_"),
        message_id: call.server.fresh_id("msg_"),
        created: call.server.unix_time(),
        model,
        instructions: fields.get("instructions").cloned().unwrap_or_default(),
        previous: fields.get("previous_response_id").cloned().unwrap_or_default(),
        max_output_tokens,
        messages,
    };
    if stream {
        return Ok(reply::stream(call.delivery(OnFailure::Cut), |events| {
            work.write(events, answer)
        }));
    }
    Ok(work.whole(answer).await)
}

/// What came before, the instructions, and the input.
fn conversation(call: &Call, fields: &Fields, input: &Value) -> Result<Vec<Value>, ApiError> {
    let mut messages = match fields.string("previous_response_id")? {
        Some(id) => call.server.responses.find(id)?.messages,
        None => Vec::new(),
    };
    if let Some(instructions) = fields.get("instructions") {
        messages.insert(0, json!({ "role": "system", "content": instructions }));
    }
    match input {
        Value::Array(items) => messages.extend(items.iter().cloned()),
        text => messages.push(json!({ "role": "user", "content": text })),
    }
    Ok(messages)
}

/// A response in the making.
struct Work {
    server: Arc<Server>,
    id: String,
    message_id: String,
    created: u64,
    model: String,
    instructions: Value,
    previous: Value,
    max_output_tokens: usize,
    messages: Vec<Value>,
}

/// The end of a response.
struct End {
    text: String,
    usage: Usage,
    cut: bool,
}

impl Work {
    async fn whole(self, mut answer: Answer) -> Response<Reply> {
        let deltas = answer.whole().await;
        let text = deltas.iter().map(|delta| delta.text.as_str()).collect();
        let cut = deltas.iter().any(was_cut);
        let body = self.finish(&End { text, usage: answer.usage, cut });
        reply::json(StatusCode::OK, &body)
    }

    async fn write(self, mut events: Events, mut answer: Answer) -> Result<(), Over> {
        let mut numbered = Numbered { events: &mut events, next: 0 };
        let mut text = String::new();
        let mut cut = false;
        let mut begun = false;
        while let Some(delta) = answer.next().await {
            if !begun {
                self.begin(&mut numbered).await?;
                begun = true;
            }
            text.push_str(&delta.text);
            cut |= was_cut(&delta);
            let event = json!({
                "content_index": 0,
                "delta": delta.text,
                "item_id": self.message_id,
                "logprobs": [],
                "output_index": 0,
            });
            if !delta.text.is_empty() {
                numbered.send("response.output_text.delta", event).await?;
            }
        }
        self.end(&mut numbered, &text).await?;
        let body = self.finish(&End { text, usage: answer.usage, cut });
        numbered.send("response.completed", json!({ "response": body })).await
    }

    async fn begin(&self, events: &mut Numbered<'_>) -> Result<(), Over> {
        let response = json!({ "response": self.body(None) });
        events.send("response.created", response.clone()).await?;
        events.send("response.in_progress", response).await?;
        let item = self.item("in_progress", &[]);
        events
            .send("response.output_item.added", json!({ "item": item, "output_index": 0 }))
            .await?;
        let part = json!({ "annotations": [], "text": "", "type": "output_text", "logprobs": [] });
        events.send("response.content_part.added", self.placed("part", part)).await
    }

    async fn end(&self, events: &mut Numbered<'_>, text: &str) -> Result<(), Over> {
        let mut done = self.placed("text", json!(text));
        done["logprobs"] = json!([]);
        events.send("response.output_text.done", done).await?;
        events.send("response.content_part.done", self.placed("part", part(text))).await?;
        let item = self.item("completed", &[part(text)]);
        events.send("response.output_item.done", json!({ "item": item, "output_index": 0 })).await
    }

    /// A field of an event about the only part of the only message.
    fn placed(&self, field: &str, value: Value) -> Value {
        let mut event =
            json!({ "content_index": 0, "item_id": self.message_id, "output_index": 0 });
        event[field] = value;
        event
    }

    /// The finished response, remembered if this server remembers.
    fn finish(mut self, end: &End) -> Value {
        let body = self.body(Some(end));
        if self.server.config.responses_store {
            let mut messages = std::mem::take(&mut self.messages);
            messages.push(json!({ "role": "assistant", "content": end.text }));
            self.server.responses.keep(Stored { id: self.id, body: body.clone(), messages });
        }
        body
    }

    fn item(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.message_id,
            "content": content,
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": null,
        })
    }

    fn body(&self, end: Option<&End>) -> Value {
        let cut = end.is_some_and(|end| end.cut);
        let reason = json!({ "reason": "max_output_tokens" });
        let output: Vec<_> =
            end.iter().map(|end| self.item("completed", &[part(&end.text)])).collect();
        let status = match (end, cut) {
            (None, _) => "in_progress",
            (Some(_), true) => "incomplete",
            (Some(_), false) => "completed",
        };
        json!({
            "id": self.id,
            "created_at": self.created,
            "incomplete_details": cut.then_some(reason),
            "instructions": self.instructions,
            "metadata": null,
            "model": self.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": true,
            "temperature": 1.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": false,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": null,
            "previous_response_id": self.previous,
            "prompt": null,
            "reasoning": null,
            "service_tier": "auto",
            "status": status,
            "text": null,
            "top_logprobs": null,
            "truncation": "disabled",
            "usage": end.map(|end| usage(&end.usage)),
            "user": null,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": null,
            "ec_transfer_params": null,
            "input_messages": null,
            "output_messages": null,
        })
    }
}

/// Counts the events of a stream into them.
struct Numbered<'a> {
    events: &'a mut Events,
    next: u64,
}

impl Numbered<'_> {
    async fn send(&mut self, name: &str, mut event: Value) -> Result<(), Over> {
        event["sequence_number"] = json!(self.next);
        event["type"] = json!(name);
        self.next += 1;
        self.events.named(name, &event).await
    }
}

fn was_cut(delta: &Delta) -> bool {
    delta.finish.as_ref().is_some_and(|finish| finish.reason == FinishReason::Length)
}

fn part(text: &str) -> Value {
    json!({ "annotations": [], "text": text, "type": "output_text", "logprobs": null })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.newly_cached,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.prompt + usage.completion,
    })
}
