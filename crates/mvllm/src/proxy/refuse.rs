//! Answers that mvllm gives itself when there is nothing better to give: the only place that knows
//! both the reasons and the HTTP that expresses them.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;

use super::reply::Reply;

/// In an error message no more models are named than a person would read.
const MODELS_NAMED: usize = 50;

/// When clients of a router that is full should ask again: requests end all the time.
const BUSY_FOR_SECS: u64 = 1;

/// Why a request gets no answer of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "The path {0} is not served here. If it is a control path of vLLM that clients are to reach, \
         add it to open_paths under [config] in servers.toml."
    )]
    Closed(String),
    #[error("The path {0} is ambiguous: dot segments, empty segments and backslashes are refused.")]
    Ambiguous(String),
    #[error("Method Not Allowed")]
    Method { allow: &'static str },
    #[error("The request body is larger than {limit} bytes (max_body_bytes in servers.toml).")]
    TooLarge { limit: usize },
    #[error("The request body broke off.")]
    BodyBroken,
    #[error(
        "The request body came too slowly: less than 16 KiB in {secs} s (client_body_timeout in \
         servers.toml)."
    )]
    BodyTooSlow { secs: u64 },
    #[error(
        "The bodies of all requests under way take too much memory (max_buffered_body_bytes in \
         servers.toml). Try again soon."
    )]
    NoRoom,
    #[error(
        "{limit} requests are under way (max_requests_in_flight in servers.toml). Try again soon."
    )]
    Busy { limit: u32 },
    #[error("The model `{model}` does not exist. {}", served(known))]
    UnknownModel { model: String, known: Vec<String> },
    #[error("No healthy servers available")]
    NoServers { retry_after_secs: u64 },
    #[error("No healthy servers available that support model: {model}")]
    NoServersFor { model: String, retry_after_secs: u64 },
    #[error(
        "Only this machine may do that, or whoever has the key: set admin_key under [config] in \
         servers.toml, and send it as Authorization: Bearer <key>."
    )]
    NotAdmin,
    #[error("There is no server {0:?}: give the url as it stands in servers.toml, as ?url=...")]
    UnknownServer(String),
    #[error("Bad gateway - max retries exceeded")]
    BadGateway,
    #[error(
        "Two servers went down while they worked on this request, so it is not sent to a third. See \
         their logs."
    )]
    Deadly,
    #[error(
        "Two servers went down while they worked on this very request, so it is not sent again for \
         {secs} s (poison_quarantine in servers.toml). Change it, or see the servers' logs."
    )]
    Quarantined { secs: u64 },
    #[error("Gateway timeout - no server answered within the request timeout")]
    Timeout,
}

/// All the words of [`Refused::reason`].
pub(crate) const REASONS: [&str; 16] = [
    "ambiguous_path",
    "bad_gateway",
    "body_broken",
    "body_too_large",
    "body_too_slow",
    "busy",
    "closed_path",
    "deadly_request",
    "method",
    "no_room",
    "no_server",
    "not_admin",
    "quarantined",
    "timeout",
    "unknown_model",
    "unknown_server",
];

impl Refused {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Closed(_) | Self::UnknownModel { .. } | Self::UnknownServer(_) => {
                StatusCode::NOT_FOUND
            }
            Self::NotAdmin => StatusCode::FORBIDDEN,
            Self::Ambiguous(_) | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::NoServers { .. }
            | Self::NoServersFor { .. }
            | Self::NoRoom
            | Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway | Self::Deadly => StatusCode::BAD_GATEWAY,
            Self::Quarantined { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// One word for logs and metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Closed(_) => "closed_path",
            Self::Ambiguous(_) => "ambiguous_path",
            Self::Method { .. } => "method",
            Self::TooLarge { .. } => "body_too_large",
            Self::BodyBroken => "body_broken",
            Self::BodyTooSlow { .. } => "body_too_slow",
            Self::NoRoom => "no_room",
            Self::Busy { .. } => "busy",
            Self::UnknownModel { .. } => "unknown_model",
            Self::NoServers { .. } | Self::NoServersFor { .. } => "no_server",
            Self::NotAdmin => "not_admin",
            Self::UnknownServer(_) => "unknown_server",
            Self::BadGateway => "bad_gateway",
            Self::Deadly => "deadly_request",
            Self::Quarantined { .. } => "quarantined",
            Self::Timeout => "timeout",
        }
    }

    /// The refusal in the error shape of the API that `path` belongs to.
    pub(crate) fn response(&self, path: &str) -> Response<Reply> {
        let body = if is_anthropic(path) { self.anthropic() } else { self.openai() };
        let mut response = Response::new(Reply::from(Bytes::from(body.to_string())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::NoServers { retry_after_secs: secs }
            | Self::NoServersFor { retry_after_secs: secs, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(*secs));
            }
            Self::NoRoom | Self::Busy { .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(BUSY_FOR_SECS));
            }
            Self::Method { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            _ => {}
        }
        response
    }

    /// The shape of vLLM's own errors (vllm/entrypoints/serve/engine/protocol.py, ErrorInfo). Where
    /// vLLM has no word for it, `type` is that of mvllm 0.1.0.
    fn openai(&self) -> serde_json::Value {
        let (kind, param) = match self {
            Self::UnknownModel { .. } => ("NotFoundError", Some("model")),
            _ => ("http_error", None),
        };
        json!({"error": {
            "message": self.to_string(),
            "type": kind,
            "param": param,
            "code": self.status().as_u16(),
        }})
    }

    /// The shape and the types of <https://docs.anthropic.com/en/api/errors>.
    fn anthropic(&self) -> serde_json::Value {
        let kind = match self {
            Self::Closed(_) | Self::UnknownModel { .. } | Self::UnknownServer(_) => {
                "not_found_error"
            }
            Self::NotAdmin => "permission_error",
            Self::Ambiguous(_)
            | Self::BodyBroken
            | Self::Method { .. }
            | Self::Quarantined { .. } => "invalid_request_error",
            Self::TooLarge { .. } => "request_too_large",
            Self::NoServers { .. }
            | Self::NoServersFor { .. }
            | Self::NoRoom
            | Self::Busy { .. } => "overloaded_error",
            Self::BadGateway | Self::Deadly => "api_error",
            Self::Timeout | Self::BodyTooSlow { .. } => "timeout_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.to_string()}})
    }
}

fn is_anthropic(path: &str) -> bool {
    path.strip_prefix("/v1/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn served(known: &[String]) -> String {
    if known.is_empty() {
        return "No models are served now.".to_owned();
    }
    let named: Vec<_> = known.iter().take(MODELS_NAMED).map(|model| format!("`{model}`")).collect();
    let more = if known.len() > MODELS_NAMED { ", ..." } else { "" };
    format!("Models served: {}{more}.", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn text(refused: &Refused, path: &str) -> String {
        let body = refused.response(path).into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.into()).unwrap()
    }

    #[tokio::test]
    async fn an_unknown_model_is_refused_as_vllm_does_and_the_known_ones_are_named() {
        let refused = Refused::UnknownModel { model: "x".into(), known: vec!["a".into()] };
        assert_eq!(refused.response("/v1/completions").status(), 404);
        assert_eq!(
            text(&refused, "/v1/completions").await,
            r#"{"error":{"message":"The model `x` does not exist. Models served: `a`.","type":"NotFoundError","param":"model","code":404}}"#
        );
    }

    #[test]
    fn every_reason_is_among_the_words() {
        let all = [
            Refused::Closed(String::new()),
            Refused::Ambiguous(String::new()),
            Refused::Method { allow: "GET" },
            Refused::TooLarge { limit: 1 },
            Refused::BodyBroken,
            Refused::BodyTooSlow { secs: 1 },
            Refused::Busy { limit: 1 },
            Refused::UnknownModel { model: String::new(), known: Vec::new() },
            Refused::NoRoom,
            Refused::NoServers { retry_after_secs: 1 },
            Refused::NotAdmin,
            Refused::UnknownServer(String::new()),
            Refused::BadGateway,
            Refused::Deadly,
            Refused::Quarantined { secs: 1 },
            Refused::Timeout,
        ];
        let mut reasons: Vec<_> = all.iter().map(Refused::reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, REASONS);
    }

    #[tokio::test]
    async fn messages_get_anthropics_shape() {
        let refused = Refused::NoServers { retry_after_secs: 7 };
        assert_eq!(refused.response("/v1/messages").headers()["retry-after"], "7");
        assert_eq!(
            text(&refused, "/v1/messages/count_tokens").await,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"No healthy servers available"}}"#
        );
        assert!(text(&refused, "/v1/messages_of_mine").await.contains("http_error"));
    }
}
