//! `/v1/chat/completions`.

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Delta, Finish};
use super::ask::{Ask, Served, Streaming, token_ids};
use super::call::{Call, FINGERPRINT};
use super::error::ApiError;
use super::fields::Fields;
use super::prompt::{Turn, check_messages, render};
use super::reply::{self, Events, OnFailure, Over, Reply};
use crate::tokenizer::{Token, encode};

/// In this order (`chat_completion/protocol.py`), each complained about under its own name.
const LIMITS: [(&str, &str); 2] =
    [("max_completion_tokens", "max_completion_tokens"), ("max_tokens", "max_tokens")];

/// Answers a conversation.
pub(super) async fn completions(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing(&["messages"]))?;
    let streaming = Streaming::read(&fields)?;
    let return_token_ids = fields.flag("return_token_ids")?;
    let turn = turn(&fields)?;
    let served = Served::find(&call.server, &fields)?;
    check_messages(messages)?;
    let prompt = encode(&render(messages, fields.get("tools"), turn));
    let ask = Ask::new(served, vec![prompt.clone()]).sampling(&fields, &call.headers)?.limit(
        &call.server,
        &fields,
        &LIMITS,
    )?;
    let chat = Chat {
        id: call.id("chatcmpl-"),
        created: call.server.unix_time(),
        model: ask.served.name.clone(),
        choices: ask.n,
        prompt,
        return_token_ids,
        streaming,
    };
    let answer = call.submit(ask)?;
    if streaming.stream {
        return Ok(reply::stream(call.delivery(OnFailure::ErrorThenDone), |events| {
            chat.write(events, answer)
        }));
    }
    Ok(chat.whole(answer).await)
}

/// The conversation's end as `add_generation_prompt` and `continue_final_message` have it.
pub(super) fn turn(fields: &Fields) -> Result<Turn, ApiError> {
    let add = match fields.get("add_generation_prompt") {
        None => true,
        Some(_) => fields.flag("add_generation_prompt")?,
    };
    match (fields.flag("continue_final_message")?, add) {
        (true, true) => Err(ApiError::bad_request(
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        )),
        (true, false) => Ok(Turn::Continued),
        (false, true) => Ok(Turn::New),
        (false, false) => Ok(Turn::None),
    }
}

struct Chat {
    id: String,
    created: u64,
    model: String,
    choices: usize,
    prompt: Vec<Token>,
    return_token_ids: bool,
    streaming: Streaming,
}

impl Chat {
    async fn whole(&self, mut answer: Answer) -> Response<Reply> {
        let deltas = answer.whole().await;
        let choices: Vec<_> = deltas.iter().map(|delta| self.choice(delta)).collect();
        reply::json(
            StatusCode::OK,
            &json!({
                "id": self.id,
                "object": "chat.completion",
                "created": self.created,
                "model": self.model,
                "choices": choices,
                "service_tier": null,
                "system_fingerprint": FINGERPRINT,
                "usage": answer.usage.chat(),
                "prompt_logprobs": null,
                "prompt_token_ids": token_ids(&self.prompt, self.return_token_ids),
                "prompt_text": null,
                "kv_transfer_params": null,
                "ec_transfer_params": null,
                "metrics": null,
            }),
        )
    }

    fn choice(&self, delta: &Delta) -> Value {
        json!({
            "index": delta.choice,
            "message": {
                "role": "assistant",
                "content": delta.text,
                "refusal": null,
                "annotations": null,
                "audio": null,
                "function_call": null,
                "reasoning": null,
            },
            "logprobs": null,
            "finish_reason": delta.finish.as_ref().map(Finish::openai),
            "stop_reason": delta.finish.as_ref().and_then(|finish| finish.stop.as_deref()),
            "token_ids": token_ids(&delta.tokens, self.return_token_ids),
            "routed_experts": null,
        })
    }

    async fn write(self, mut events: Events, mut answer: Answer) -> Result<(), Over> {
        let mut introduced = false;
        while let Some(delta) = answer.next().await {
            // Not before the first token: vLLM's first event tells that the prefill is done.
            if !introduced {
                self.introduce(&mut events, &answer).await?;
                introduced = true;
            }
            let finished = delta.finish.is_some();
            let mut chunk = self.chunk(vec![self.streamed_choice(&delta)]);
            if self.streaming.continuous_usage {
                chunk.insert("usage".to_owned(), answer.usage.running());
            }
            if finished && !self.streaming.include_usage {
                chunk.insert("system_fingerprint".to_owned(), json!(FINGERPRINT));
            }
            events.data(&Value::Object(chunk)).await?;
        }
        if self.streaming.include_usage {
            let usage = &answer.usage;
            let details = json!({
                "cached_tokens": usage.cached,
                "created_cache_tokens": usage.newly_cached,
            });
            let mut chunk = self.chunk(Vec::new());
            chunk.insert("usage".to_owned(), usage.last(&details));
            chunk.insert("system_fingerprint".to_owned(), json!(FINGERPRINT));
            events.data(&Value::Object(chunk)).await?;
        }
        events.done().await
    }

    /// The role chunk of each choice.
    async fn introduce(&self, events: &mut Events, answer: &Answer) -> Result<(), Over> {
        for index in 0..self.choices {
            let mut chunk = self.chunk(vec![json!({
                "index": index,
                "delta": { "role": "assistant", "content": "" },
                "logprobs": null,
                "finish_reason": null,
            })]);
            if self.streaming.continuous_usage {
                let mut usage = answer.usage;
                usage.completion = 0;
                chunk.insert("usage".to_owned(), usage.running());
            }
            let ids = token_ids(&self.prompt, self.return_token_ids);
            chunk.insert("prompt_token_ids".to_owned(), ids);
            chunk.insert("prompt_text".to_owned(), Value::Null);
            events.data(&Value::Object(chunk)).await?;
        }
        Ok(())
    }

    fn streamed_choice(&self, delta: &Delta) -> Value {
        let mut choice = Map::new();
        choice.insert("index".to_owned(), json!(delta.choice));
        choice.insert("delta".to_owned(), json!({ "content": delta.text }));
        choice.insert("logprobs".to_owned(), Value::Null);
        let reason = delta.finish.as_ref().map(Finish::openai);
        choice.insert("finish_reason".to_owned(), json!(reason));
        if let Some(finish) = &delta.finish {
            choice.insert("stop_reason".to_owned(), json!(finish.stop));
        }
        let ids = token_ids(&delta.tokens, self.return_token_ids);
        choice.insert("token_ids".to_owned(), ids);
        Value::Object(choice)
    }

    fn chunk(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut chunk = Map::new();
        chunk.insert("id".to_owned(), json!(self.id));
        chunk.insert("object".to_owned(), json!("chat.completion.chunk"));
        chunk.insert("created".to_owned(), json!(self.created));
        chunk.insert("model".to_owned(), json!(self.model));
        chunk.insert("choices".to_owned(), Value::Array(choices));
        chunk
    }
}
