//! `/v1/completions`.

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Delta, Finish};
use super::ask::{Ask, Served, Streaming, token_ids};
use super::call::{Call, FINGERPRINT};
use super::error::{ApiError, shown};
use super::fields::problem;
use super::reply::{self, Events, OnFailure, Over, Reply};
use crate::tokenizer::{Token, decode, encode};

/// The default of `max_tokens` (openai/completion/protocol.py).
const MAX_TOKENS: usize = 16;

/// Continues one or several prompts.
pub(super) async fn completions(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let streaming = Streaming::read(&fields)?;
    let return_token_ids = fields.flag("return_token_ids")?;
    let echo = fields.flag("echo")?;
    let asked = fields.get("prompt").map_or(Ok(Vec::new()), prompts)?;
    if asked.iter().all(Vec::is_empty) {
        let message = "Either prompt or prompt_embeds must be provided and non-empty.";
        return Err(ApiError::parameter("prompt", None, message));
    }
    let served = Served::find(&call.server, &fields)?;
    let texts = texts(&asked)?;
    let mut ask = Ask::new(served, asked.clone()).sampling(&fields, &call.headers)?.limit(
        &call.server,
        &fields,
        &[("max_tokens", "max_tokens")],
    )?;
    ask.max_tokens.get_or_insert(MAX_TOKENS);
    let completion = Completion {
        id: call.id("cmpl-"),
        created: call.server.unix_time(),
        model: ask.served.name.clone(),
        n: ask.n,
        prompts: asked,
        echo: echo.then_some(texts),
        return_token_ids,
        streaming,
    };
    let answer = call.submit(ask)?;
    if streaming.stream {
        let delivery = call.delivery(OnFailure::ErrorThenDone);
        return Ok(reply::stream(delivery, |events| completion.write(events, answer)));
    }
    Ok(completion.whole(answer).await)
}

/// A text, token ids, or a list of either.
fn prompts(value: &Value) -> Result<Vec<Vec<Token>>, ApiError> {
    match value {
        Value::String(text) => Ok(vec![encode(text)]),
        Value::Array(list) if list.iter().all(Value::is_u64) => Ok(vec![tokens(list)]),
        Value::Array(list) => list.iter().map(prompt).collect(),
        other => Err(not_a_prompt(other)),
    }
}

fn prompt(value: &Value) -> Result<Vec<Token>, ApiError> {
    match value {
        Value::String(text) => Ok(encode(text)),
        Value::Array(list) if list.iter().all(Value::is_u64) => Ok(tokens(list)),
        other => Err(not_a_prompt(other)),
    }
}

/// Token ids of any size: those that do not exist are found when they are decoded.
pub(super) fn tokens(list: &[Value]) -> Vec<Token> {
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap_or(u64::MAX)).unwrap_or(u32::MAX);
    list.iter().map(|value| Token(id(value))).collect()
}

fn not_a_prompt(value: &Value) -> ApiError {
    problem("list_type", "body.prompt", "Input should be a valid list", shown(value))
}

fn texts(prompts: &[Vec<Token>]) -> Result<Vec<String>, ApiError> {
    let text = |prompt: &Vec<Token>| decode(prompt).map_err(out_of_vocabulary);
    prompts.iter().map(text).collect()
}

pub(super) fn out_of_vocabulary(Token(id): Token) -> ApiError {
    ApiError::bad_request(format!("Token id {id} is out of vocabulary"))
}

struct Completion {
    id: String,
    created: u64,
    model: String,
    n: usize,
    prompts: Vec<Vec<Token>>,
    /// The texts of the prompts, if they are to be repeated.
    echo: Option<Vec<String>>,
    return_token_ids: bool,
    streaming: Streaming,
}

impl Completion {
    async fn whole(&self, mut answer: Answer) -> Response<Reply> {
        let deltas = answer.whole().await;
        let choices: Vec<_> = deltas.iter().map(|delta| self.choice(delta)).collect();
        reply::json(
            StatusCode::OK,
            &json!({
                "id": self.id,
                "object": "text_completion",
                "created": self.created,
                "model": self.model,
                "choices": choices,
                "service_tier": null,
                "system_fingerprint": FINGERPRINT,
                "usage": answer.usage.completions(),
                "kv_transfer_params": null,
                "ec_transfer_params": null,
                "metrics": null,
            }),
        )
    }

    fn choice(&self, delta: &Delta) -> Value {
        json!({
            "index": delta.choice,
            "text": format!("{}{}", self.echoed(delta.choice), delta.text),
            "logprobs": null,
            "finish_reason": delta.finish.as_ref().map(Finish::openai),
            "stop_reason": delta.finish.as_ref().and_then(|finish| finish.stop.as_deref()),
            "token_ids": token_ids(&delta.tokens, self.return_token_ids),
            "prompt_logprobs": null,
            "prompt_token_ids": token_ids(self.prompt_of(delta.choice), self.return_token_ids),
            "routed_experts": null,
        })
    }

    fn prompt_of(&self, choice: usize) -> &[Token] {
        &self.prompts[choice / self.n]
    }

    fn echoed(&self, choice: usize) -> &str {
        self.echo.as_ref().map_or("", |texts| &texts[choice / self.n])
    }

    async fn write(self, mut events: Events, mut answer: Answer) -> Result<(), Over> {
        let mut begun = vec![false; self.prompts.len() * self.n];
        while let Some(delta) = answer.next().await {
            let first = !std::mem::replace(&mut begun[delta.choice], true);
            let finished = delta.finish.is_some();
            let mut chunk = self.chunk(vec![self.streamed_choice(&delta, first)]);
            if self.streaming.continuous_usage {
                chunk.insert("usage".to_owned(), answer.usage.running());
            }
            if finished && !self.streaming.include_usage {
                chunk.insert("system_fingerprint".to_owned(), json!(FINGERPRINT));
            }
            events.data(&Value::Object(chunk)).await?;
        }
        if self.streaming.include_usage {
            let details = json!({ "cached_tokens": answer.usage.cached });
            let mut chunk = self.chunk(Vec::new());
            chunk.insert("usage".to_owned(), answer.usage.last(&details));
            chunk.insert("system_fingerprint".to_owned(), json!(FINGERPRINT));
            events.data(&Value::Object(chunk)).await?;
        }
        events.done().await
    }

    fn streamed_choice(&self, delta: &Delta, first: bool) -> Value {
        let echoed = if first { self.echoed(delta.choice) } else { "" };
        let prompt = self.prompt_of(delta.choice);
        json!({
            "index": delta.choice,
            "text": format!("{echoed}{}", delta.text),
            "logprobs": null,
            "finish_reason": delta.finish.as_ref().map(Finish::openai),
            "stop_reason": delta.finish.as_ref().and_then(|finish| finish.stop.as_deref()),
            "prompt_token_ids": token_ids(prompt, self.return_token_ids && first),
            "token_ids": token_ids(&delta.tokens, self.return_token_ids),
        })
    }

    fn chunk(&self, choices: Vec<Value>) -> Map<String, Value> {
        let mut chunk = Map::new();
        chunk.insert("id".to_owned(), json!(self.id));
        chunk.insert("object".to_owned(), json!("text_completion"));
        chunk.insert("created".to_owned(), json!(self.created));
        chunk.insert("model".to_owned(), json!(self.model));
        chunk.insert("choices".to_owned(), Value::Array(choices));
        chunk
    }
}
