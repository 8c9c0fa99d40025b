//! Which endpoint a request is for.

use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::error::Dialect;
use super::reply::{self, Reply};
use crate::fault::Purpose;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Version,
    Load,
    Metrics,
    Models,
    KvEventSources,
    Realtime,
    SimFault,
    SimLog,
    Model(ModelRoute),
}

/// An endpoint behind which a model, or its tokenizer, does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelRoute {
    ChatCompletions,
    Completions,
    Messages,
    CountTokens,
    Responses,
    ResponseById(String),
    CancelResponse(String),
    Embeddings,
    Score,
    Rerank,
    Tokenize,
    Detokenize,
    Transcriptions,
    Render,
}

impl Route {
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Health => Purpose::Health,
            Self::Metrics => Purpose::Metrics,
            Self::Model(_) => Purpose::Model,
            _ => Purpose::Other,
        }
    }
}

impl ModelRoute {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    UnknownPath,
    WrongMethod { allowed: &'static str },
}

/// Finds the endpoint for a method and a path.
pub(super) fn find(method: &Method, path: &str) -> Result<Route, NoRoute> {
    let (allowed, route) = by_path(path).ok_or(NoRoute::UnknownPath)?;
    match allowed.split(", ").any(|allowed| method == allowed) {
        true => Ok(route),
        false => Err(NoRoute::WrongMethod { allowed: allowed.split(", ").next().unwrap_or("") }),
    }
}

fn by_path(path: &str) -> Option<(&'static str, Route)> {
    let model = |route| ("POST", Route::Model(route));
    Some(match path {
        "/health" => ("GET", Route::Health),
        "/ping" => ("GET, POST", Route::Health),
        "/version" => ("GET", Route::Version),
        "/load" => ("GET", Route::Load),
        "/metrics" => ("GET", Route::Metrics),
        "/kv_event_sources" => ("GET", Route::KvEventSources),
        "/v1/models" => ("GET", Route::Models),
        "/v1/realtime" => ("GET", Route::Realtime),
        "/sim/fault" => ("POST", Route::SimFault),
        "/sim/log" => ("GET", Route::SimLog),
        "/v1/chat/completions" => model(ModelRoute::ChatCompletions),
        "/v1/completions" => model(ModelRoute::Completions),
        "/v1/messages" => model(ModelRoute::Messages),
        "/v1/messages/count_tokens" => model(ModelRoute::CountTokens),
        "/v1/responses" => model(ModelRoute::Responses),
        "/v1/embeddings" => model(ModelRoute::Embeddings),
        "/score" | "/v1/score" => model(ModelRoute::Score),
        "/rerank" | "/v1/rerank" | "/v2/rerank" => model(ModelRoute::Rerank),
        "/tokenize" => model(ModelRoute::Tokenize),
        "/detokenize" => model(ModelRoute::Detokenize),
        "/v1/audio/transcriptions" => model(ModelRoute::Transcriptions),
        "/v1/chat/completions/render" | "/v1/completions/render" => model(ModelRoute::Render),
        _ => return response_by_id(path),
    })
}

fn response_by_id(path: &str) -> Option<(&'static str, Route)> {
    let rest = path.strip_prefix("/v1/responses/")?;
    match rest.split_once('/') {
        None if rest.is_empty() => None,
        None => Some(("GET", Route::Model(ModelRoute::ResponseById(rest.to_owned())))),
        Some((id, "cancel")) => {
            Some(("POST", Route::Model(ModelRoute::CancelResponse(id.to_owned()))))
        }
        Some(_) => None,
    }
}

impl NoRoute {
    /// FastAPI's own answers, which are not in OpenAI's shape.
    pub(super) fn response(self) -> Response<Reply> {
        match self {
            Self::UnknownPath => not_found(),
            Self::WrongMethod { allowed } => {
                let body = json!({ "detail": "Method Not Allowed" });
                let mut response = reply::json(StatusCode::METHOD_NOT_ALLOWED, &body);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
        }
    }
}

/// The answer to an unknown path.
pub(super) fn not_found() -> Response<Reply> {
    reply::json(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_endpoints() {
        let check = |method: Method, path: &str, expected: Result<Route, NoRoute>| {
            assert_eq!(find(&method, path), expected, "{method} {path}");
        };
        let by_id = ModelRoute::ResponseById("resp_1".to_owned());
        let cancel = ModelRoute::CancelResponse("resp_1".to_owned());
        check(Method::GET, "/health", Ok(Route::Health));
        check(Method::POST, "/ping", Ok(Route::Health));
        check(Method::POST, "/health", Err(NoRoute::WrongMethod { allowed: "GET" }));
        check(Method::HEAD, "/health", Err(NoRoute::WrongMethod { allowed: "GET" }));
        check(Method::GET, "/v1/responses/resp_1", Ok(Route::Model(by_id)));
        check(Method::POST, "/v1/responses/resp_1/cancel", Ok(Route::Model(cancel)));
        check(Method::GET, "/v1/responses/", Err(NoRoute::UnknownPath));
        check(Method::GET, "/v1/models/sim", Err(NoRoute::UnknownPath));
        check(Method::GET, "/", Err(NoRoute::UnknownPath));
    }
}
