//! Anthropic's `/v1/messages` and `/v1/messages/count_tokens`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Usage};
use super::ask::{Ask, Served};
use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::prompt::{Turn, check_messages, render, with_system};
use super::reply::{self, Events, OnFailure, Over, Reply};
use crate::tokenizer::{Token, encode};

/// Answers a conversation.
pub(super) async fn create(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    if fields.get("messages").is_some() && fields.integer("max_tokens")?.is_none() {
        return Err(fields.missing(&["max_tokens"]));
    }
    let (served, prompt) = conversation(call, &fields)?;
    let stream = fields.flag("stream")?;
    // vLLM turns the request into a chat request first and complains about that one's field.
    let ask = Ask::new(served, vec![prompt]).sampling(&fields, &call.headers)?.limit(
        &call.server,
        &fields,
        &[("max_tokens", "max_completion_tokens")],
    )?;
    let message = Message { id: call.id("chatcmpl-"), model: ask.served.name.clone() };
    let answer = call.submit(ask)?;
    if stream {
        let delivery = call.delivery(OnFailure::ErrorEvent);
        return Ok(reply::stream(delivery, |events| message.write(events, answer)));
    }
    Ok(message.whole(answer).await)
}

/// Counts the tokens of a conversation.
pub(super) fn count_tokens(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let (_, prompt) = conversation(call, &fields)?;
    let count = prompt.len();
    let body = json!({
        "input_tokens": count,
        "context_management": { "original_input_tokens": count },
    });
    Ok(reply::json(StatusCode::OK, &body))
}

fn conversation(call: &Call, fields: &Fields) -> Result<(Served, Vec<Token>), ApiError> {
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing(&["messages"]))?;
    let served = Served::find(&call.server, fields)?;
    check_messages(messages)?;
    let messages = with_system(fields.get("system"), messages);
    Ok((served, encode(&render(&messages, fields.get("tools"), Turn::New))))
}

struct Message {
    id: String,
    model: String,
}

impl Message {
    async fn whole(&self, mut answer: Answer) -> Response<Reply> {
        let deltas = answer.whole().await;
        let text: String = deltas.iter().map(|delta| delta.text.as_str()).collect();
        let finish = deltas.first().and_then(|delta| delta.finish.as_ref());
        let mut body = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [{ "type": "text", "text": text }],
            "model": self.model,
            "stop_reason": finish.map(Finish::anthropic),
            "stop_sequence": finish.and_then(|finish| finish.stop.as_deref()),
            "usage": anthropic_usage(&answer.usage),
        });
        // Whole messages leave out what is null, streamed ones do not.
        if let Some(body) = body.as_object_mut() {
            body.retain(|_, value| !value.is_null());
        }
        reply::json(StatusCode::OK, &body)
    }

    async fn write(self, mut events: Events, mut answer: Answer) -> Result<(), Over> {
        let mut last = None;
        let mut begun = Begun::Nothing;
        while let Some(delta) = answer.next().await {
            if begun == Begun::Nothing {
                events.named("message_start", &self.start(&answer.usage)).await?;
                begun = Begun::Message;
            }
            if !delta.text.is_empty() {
                if begun == Begun::Message {
                    let block = json!({ "type": "text", "text": "" });
                    let start = json!({ "type": "content_block_start", "content_block": block, "index": 0 });
                    events.named("content_block_start", &start).await?;
                    begun = Begun::Block;
                }
                let text = json!({ "type": "text_delta", "text": delta.text });
                let event = json!({ "type": "content_block_delta", "delta": text, "index": 0 });
                events.named("content_block_delta", &event).await?;
            }
            last = delta.finish.or(last);
        }
        if begun == Begun::Block {
            let stop = json!({ "type": "content_block_stop", "index": 0 });
            events.named("content_block_stop", &stop).await?;
        }
        events.named("message_delta", &end(last.as_ref(), &answer.usage)).await?;
        events.named("message_stop", &json!({ "type": "message_stop" })).await
    }

    fn start(&self, usage: &Usage) -> Value {
        json!({ "type": "message_start", "message": {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.model,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": { "input_tokens": usage.prompt, "output_tokens": 0 },
        }})
    }
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nothing,
    Message,
    Block,
}

fn end(finish: Option<&Finish>, usage: &Usage) -> Value {
    json!({
        "type": "message_delta",
        "delta": {
            "stop_reason": finish.map(Finish::anthropic),
            "stop_sequence": finish.and_then(|finish| finish.stop.as_deref()),
        },
        "usage": anthropic_usage(usage),
    })
}

fn anthropic_usage(usage: &Usage) -> Value {
    json!({
        // Anthropic counts each token of the prompt once.
        "input_tokens": usage.prompt - usage.cached - usage.newly_cached,
        "output_tokens": usage.completion,
        "cache_creation_input_tokens": usage.newly_cached,
        "cache_read_input_tokens": usage.cached,
    })
}
