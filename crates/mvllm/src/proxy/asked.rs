//! What is read of a request to choose its server. Nothing is changed in it.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use mvllm_core::choice::Facts;
use mvllm_core::json_fields::{self, Fields};
use mvllm_core::prompt::{self, Prompt};
use mvllm_core::route::Route;
use mvllm_core::snapshot::ServerKey;
use mvllm_core::{multipart, stored};

/// The data-parallel rank that is to do the work (vllm/entrypoints/generate/base/serving.py).
pub(super) const RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");

/// What a request asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The model that it names.
    pub(super) model: Option<String>,
    /// The stored response that it is about, or goes on from.
    pub(super) stored: Option<String>,
    prompt: Option<Prompt>,
    session: Option<u64>,
    picks_rank: bool,
}

impl Asked {
    /// Reads a request of this head and body; `session` is the header that names sessions.
    pub(super) fn of(head: &Parts, body: &Bytes, route: Route, session: &HeaderName) -> Self {
        let kind = content_type(&head.headers);
        let is_form = kind.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/"));
        // By the look of it, not by its type: curl calls JSON a form unless told otherwise.
        let fields = if is_form { Fields::default() } else { json_fields::scan(body) };
        let in_form = || multipart::field(kind, body, "model").map(str::to_owned);
        let named = if is_form { in_form() } else { fields.model.as_deref().map(str::to_owned) };
        let path = head.uri.path();
        let is_computed = head.method == Method::POST && route.is_answered_by_engine(path);
        let prompt = if is_computed { Prompt::of(&fields, route.dialect()) } else { None };
        let followed = || fields.previous_response_id.as_deref();
        Self {
            model: named.or_else(|| in_query(head.uri.query()?)),
            stored: stored::id_in_path(path).or_else(followed).map(str::to_owned),
            prompt,
            session: session_of(&head.headers, session, &fields),
            picks_rank: is_computed && !head.headers.contains_key(&RANK),
        }
    }

    /// What a choice looks at; `holder` is who holds the stored response, if that is known.
    pub(super) fn facts(&self, holder: Option<ServerKey>) -> Facts<'_> {
        Facts {
            model: self.model.as_deref(),
            prompt: self.prompt.as_ref(),
            held: None,
            session: self.session,
            holder,
            picks_rank: self.picks_rank,
        }
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

fn in_query(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "model").map(|(_, model)| model.into_owned())
}

fn session_of(headers: &HeaderMap, name: &HeaderName, fields: &Fields<'_>) -> Option<u64> {
    let in_header = headers.get(name).map(HeaderValue::as_bytes);
    let named = in_header.or_else(|| Some(fields.session_id.as_deref()?.as_bytes()))?;
    (!named.is_empty()).then(|| prompt::hash(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn asked(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Asked {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let route = Route::of(head.uri.path(), |_| false);
        let session = HeaderName::from_static("x-session-id");
        Asked::of(&head, &Bytes::from(body.to_owned()), route, &session)
    }

    #[test]
    fn the_prompt_is_read_of_what_the_engine_is_to_answer_and_of_nothing_else() {
        let body = r#"{"model":"m","prompt":[1,2,3],"max_tokens":7}"#;
        let prompt = |method: &str, path: &str| asked(method, path, &[], body).prompt;
        let read = prompt("POST", "/v1/completions").unwrap();
        assert_eq!((read.tokens, read.max_tokens), (3, Some(7)));
        assert_eq!(prompt("POST", "/tokenize"), None);
        assert_eq!(prompt("POST", "/v1/files"), None);
        assert_eq!(prompt("GET", "/v1/completions"), None);
    }

    #[test]
    fn a_session_is_named_by_a_header_or_else_by_the_body() {
        let session = |headers: &[(&str, &str)], body: &str| {
            asked("POST", "/v1/completions", headers, body).session
        };
        let named = session(&[("X-Session-ID", "a")], "{}");
        assert!(named.is_some());
        assert_eq!(session(&[], r#"{"session_id":"a"}"#), named);
        assert_eq!(session(&[("x-session-id", "a")], r#"{"session_id":"b"}"#), named);
        assert_ne!(session(&[], r#"{"session_id":"b"}"#), named);
        assert_eq!(session(&[("x-session-id", "")], "{}"), None);
    }

    #[test]
    fn a_rank_is_picked_unless_the_client_has_picked_one() {
        let picks =
            |path: &str, headers: &[(&str, &str)]| asked("POST", path, headers, "").picks_rank;
        assert!(picks("/v1/completions", &[]));
        assert!(!picks("/v1/completions", &[("X-Data-Parallel-Rank", "0")]));
        assert!(!picks("/tokenize", &[]));
    }

    #[test]
    fn a_stored_response_is_named_by_the_path_or_as_the_previous_one() {
        let stored = |path: &str, body: &str| asked("POST", path, &[], body).stored;
        assert_eq!(stored("/v1/responses/resp_1/cancel", "").as_deref(), Some("resp_1"));
        let goes_on = r#"{"previous_response_id":"resp_2"}"#;
        assert_eq!(stored("/v1/responses", goes_on).as_deref(), Some("resp_2"));
        assert_eq!(stored("/v1/responses", r#"{"previous_response_id":null}"#), None);
    }
}
