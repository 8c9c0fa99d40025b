//! vLLM's error bodies (`entrypoints/serve/engine/protocol.py`, `exception_handling/`).

use hyper::StatusCode;
use serde_json::{Value, json};

/// Whose error shape an endpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
}

/// A request that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    /// FastAPI's validation answers in OpenAI's shape wherever it strikes.
    from_validation: bool,
}

impl ApiError {
    /// What a request hears whose engine has died (`v1/engine/exceptions.py`).
    pub(crate) const ENGINE_DEAD: &str =
        "EngineCore encountered an issue. See stack trace (above) for the root cause.";

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message, kind, param: None, from_validation: false }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestError", message)
    }

    /// A parameter out of range: vLLM names it in the message and in `param`.
    pub(crate) fn parameter(name: &str, value: Option<String>, message: &str) -> Self {
        let value = value.map_or(String::new(), |value| format!(", value={value}"));
        let message = format!("{message} (parameter={name}{value})");
        Self { param: Some(name.to_owned()), ..Self::bad_request(message) }
    }

    pub(crate) fn validation(problems: &[Problem]) -> Self {
        let count = match problems.len() {
            1 => "1 validation error".to_owned(),
            count => format!("{count} validation errors"),
        };
        let lines: Vec<_> = problems.iter().map(Problem::line).collect();
        Self {
            param: problems.first().map(|problem| problem.loc.clone()),
            from_validation: true,
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "Bad Request",
                format!("{count}:\n  {}", lines.join("\n  ")),
            )
        }
    }

    pub(crate) fn unsupported_media_type() -> Self {
        let message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is \
                       allowed";
        let error = Self::new(StatusCode::BAD_REQUEST, "Bad Request", message);
        Self { from_validation: true, ..error }
    }

    pub(crate) fn unknown_model(name: &str, aliases: &str) -> Self {
        let message = format!("The model `{name}` does not exist. Valid aliases: {aliases}.");
        let error = Self::new(StatusCode::NOT_FOUND, "NotFoundError", message);
        Self { param: Some("model".to_owned()), ..error }
    }

    pub(crate) fn unknown_response(id: &str) -> Self {
        let message = format!("Response with id '{id}' not found.");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { param: Some("response_id".to_owned()), ..error }
    }

    pub(crate) fn not_cancellable() -> Self {
        let message = "Cannot cancel a synchronous response.";
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self { param: Some("response_id".to_owned()), ..error }
    }

    pub(crate) fn scale_out_disabled() -> Self {
        let message = "Scale-out endpoints are disabled. Restart vllm serve with \
                       --enable-scale-out to enable them.";
        Self::new(StatusCode::FORBIDDEN, "PermissionDeniedError", message)
    }

    pub(crate) fn queue_full() -> Self {
        let message = "The engine is currently busy and cannot accept new requests. Please try \
                       again later or on a different instance.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", message)
    }

    pub(crate) fn engine_dead() -> Self {
        Self::internal(Self::ENGINE_DEAD)
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
    }

    /// The body of the answer.
    pub(crate) fn body(&self, dialect: Dialect) -> Value {
        if dialect == Dialect::Anthropic && !self.from_validation {
            let error = json!({ "type": self.kind, "message": self.message });
            return json!({ "type": "error", "error": error });
        }
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status.as_u16(),
        }})
    }
}

/// Something that pydantic finds wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: &'static str,
    /// Where, as `body.max_tokens`.
    pub(crate) loc: String,
    pub(crate) msg: &'static str,
    /// What was found, as [`shown`] prints it.
    pub(crate) input: String,
    /// The parser's own words.
    pub(crate) cause: Option<&'static str>,
}

impl Problem {
    fn line(&self) -> String {
        let Self { kind, loc, msg, input, cause } = self;
        let cause = cause.map_or(String::new(), |cause| format!(", 'ctx': {{'error': '{cause}'}}"));
        format!("{{'type': '{kind}', 'loc': '{loc}', 'msg': '{msg}', 'input': '{input}'{cause}}}")
    }
}

/// A value as vLLM's messages show it: containers by their size only.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("<list of {} items>", list.len()),
        Value::Object(object) => format!("<dict of {} items>", object.len()),
    }
}
