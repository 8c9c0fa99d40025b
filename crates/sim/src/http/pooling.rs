//! `/v1/embeddings`, `/score`, `/rerank`: a prefill each, and numbers that depend on the text alone.

use data_encoding::BASE64;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::Usage;
use super::ask::{Ask, Served};
use super::call::Call;
use super::error::{ApiError, shown};
use super::fields::{Fields, problem};
use super::prompt::content_text;
use super::reply::{self, Reply};
use crate::kv_cache::mix;
use crate::tokenizer::{Token, encode};

/// Small enough to read.
const DIMENSIONS: u64 = 16;

/// One vector for each input.
pub(super) async fn embeddings(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let input = fields.get("input").ok_or_else(|| fields.missing(&["input"]))?;
    let base64 = fields.string("encoding_format")? == Some("base64");
    let texts = texts("input", input)?;
    let (served, usage) = prefill(call, &fields, &texts).await?;
    let data: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text);
            let embedding = match base64 {
                true => json!(
                    BASE64.encode(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
                ),
                false => json!(vector),
            };
            json!({ "index": index, "object": "embedding", "embedding": embedding })
        })
        .collect();
    let body = json!({
        "id": call.id("embd-"),
        "object": "list",
        "created": call.server.unix_time(),
        "model": served.name,
        "data": data,
        "usage": pooled(&usage),
    });
    Ok(reply::json(StatusCode::OK, &body))
}

/// How well each of some texts goes with another.
pub(super) async fn score(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let (left, right) = (required(&fields, "text_1")?, required(&fields, "text_2")?);
    let pairs: Vec<_> = right
        .iter()
        .enumerate()
        .map(|(index, right)| format!("{}\n{right}", left.get(index).unwrap_or(&left[0])))
        .collect();
    let (served, usage) = prefill(call, &fields, &pairs).await?;
    let data: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| json!({ "index": index, "object": "score", "score": unit(pair, 0) }))
        .collect();
    let body = json!({
        "id": call.id("score-"),
        "object": "list",
        "created": call.server.unix_time(),
        "model": served.name,
        "data": data,
        "usage": pooled(&usage),
    });
    Ok(reply::json(StatusCode::OK, &body))
}

/// Documents, best first.
pub(super) async fn rerank(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let (query, documents) = (required(&fields, "query")?, required(&fields, "documents")?);
    let top_n = fields.integer("top_n")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let pairs: Vec<_> =
        documents.iter().map(|document| format!("{}\n{document}", query[0])).collect();
    let (served, usage) = prefill(call, &fields, &pairs).await?;
    let mut ranked: Vec<_> = pairs.iter().map(|pair| unit(pair, 0)).enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(top_n.unwrap_or(ranked.len()));
    let results: Vec<_> = ranked
        .into_iter()
        .map(|(index, score)| {
            let document = json!({ "text": documents[index], "multi_modal": null });
            json!({ "index": index, "document": document, "relevance_score": score })
        })
        .collect();
    let body = json!({
        "id": call.id("score-"),
        "model": served.name,
        "usage": { "prompt_tokens": usage.prompt, "total_tokens": usage.prompt },
        "results": results,
    });
    Ok(reply::json(StatusCode::OK, &body))
}

fn required(fields: &Fields, name: &str) -> Result<Vec<String>, ApiError> {
    texts(name, fields.get(name).ok_or_else(|| fields.missing(&[name]))?)
}

/// One text, several, or token ids; at least one.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, ApiError> {
    let texts = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(ids) if ids.iter().all(Value::is_u64) && !ids.is_empty() => {
            vec![value.to_string()]
        }
        Value::Array(list) => list
            .iter()
            .map(|item| item.as_str().map_or_else(|| content_text(Some(item)), str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    match texts.is_empty() {
        true => Err(problem(
            "list_type",
            &format!("body.{name}"),
            "Input should be a valid list",
            shown(value),
        )),
        false => Ok(texts),
    }
}

/// Has an engine read the texts. The one token that it writes is nobody's business.
async fn prefill(
    call: &Call,
    fields: &Fields,
    texts: &[String],
) -> Result<(Served, Usage), ApiError> {
    let served = Served::find(&call.server, fields)?;
    // An empty text still has a start token.
    let prompt = |text: &String| match text.as_str() {
        "" => vec![Token(0)],
        text => encode(text),
    };
    let prompts = texts.iter().map(prompt).collect();
    let mut ask = Ask::new(served.clone(), prompts).sampling(fields, &call.headers)?;
    ask.max_tokens = Some(1);
    let mut answer = call.submit(ask)?;
    answer.whole().await;
    Ok((served, answer.usage))
}

fn pooled(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.prompt,
        "completion_tokens": 0,
        "prompt_tokens_details": null,
        "completion_tokens_details": null,
    })
}

/// A vector of length 1.
fn vector(text: &str) -> Vec<f32> {
    let raw: Vec<f64> = (0..DIMENSIONS).map(|i| unit(text, i) - 0.5).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.iter().map(|x| (x / length) as f32).collect()
}

/// A number in [0, 1) that depends on text and salt.
fn unit(text: &str, salt: u64) -> f64 {
    let hash = text.bytes().fold(mix(salt, 1), |hash, byte| mix(hash, u64::from(byte)));
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
