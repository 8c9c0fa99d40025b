//! `/tokenize` and `/detokenize`.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::ask::Served;
use super::call::Call;
use super::chat::turn;
use super::completions::{out_of_vocabulary, tokens};
use super::error::ApiError;
use super::prompt::{check_messages, render};
use super::reply::{self, Reply};
use crate::tokenizer::{Token, decode, encode};

/// The tokens of a prompt or a conversation.
pub(super) fn tokenize(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let text = match (fields.string("prompt")?, fields.list("messages")?) {
        (Some(prompt), _) => {
            Served::find(&call.server, &fields)?;
            prompt.to_owned()
        }
        (None, Some(messages)) => {
            Served::find(&call.server, &fields)?;
            check_messages(messages)?;
            render(messages, fields.get("tools"), turn(&fields)?)
        }
        (None, None) => return Err(fields.missing(&["prompt", "messages"])),
    };
    let tokens = encode(&text);
    let strings = match fields.flag("return_token_strs")? {
        true => tokens.iter().map(|token| decode(&[*token]).unwrap_or_default()).collect(),
        false => Value::Null,
    };
    let ids: Vec<u32> = tokens.iter().map(|Token(id)| *id).collect();
    let body = json!({
        "count": ids.len(),
        "max_model_len": call.server.config.max_model_len,
        "tokens": ids,
        "token_strs": strings,
    });
    Ok(reply::json(StatusCode::OK, &body))
}

/// The text of tokens.
pub(super) fn detokenize(call: &Call) -> Result<Response<Reply>, ApiError> {
    let fields = call.fields()?;
    let list = fields.list("tokens")?.ok_or_else(|| fields.missing(&["tokens"]))?;
    Served::find(&call.server, &fields)?;
    let prompt = decode(&tokens(list)).map_err(out_of_vocabulary)?;
    Ok(reply::json(StatusCode::OK, &json!({ "prompt": prompt })))
}
