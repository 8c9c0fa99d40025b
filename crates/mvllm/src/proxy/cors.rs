//! Browsers on other origins (WHATWG Fetch, "CORS protocol").
//!
//! 0.1.0 allowed every origin *with* credentials. That lets any page act with a visitor's cookies,
//! and browsers refuse `*` with credentials anyway. Here `*` means any origin without credentials,
//! which is all that a bearer key in a header needs; origins named in `cors_origins` may use them.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN,
    VARY,
};
use http::{Method, Response, StatusCode};

use super::reply::Reply;
use crate::config::origin::Origin;

/// How long a browser may remember a permission: ten minutes, as 0.1.0 had it.
const MAX_AGE_SECS: u64 = 600;

/// What a browser's origin may do; computed from the request, applied to the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cors {
    /// No browser, or one on our own origin.
    NotAsked,
    /// Any origin may read the answer.
    Anyone,
    /// This origin may, with credentials.
    Named(HeaderValue),
    /// This origin may not.
    Denied,
}

impl Cors {
    pub(super) fn of(headers: &HeaderMap, allowed: &[Origin]) -> Self {
        let Some(origin) = headers.get(ORIGIN) else { return Self::NotAsked };
        let is_named = |allowed: &Origin| match allowed {
            Origin::Only(name) => name.as_bytes() == origin.as_bytes(),
            Origin::Any => false,
        };
        if allowed.iter().any(is_named) {
            Self::Named(origin.clone())
        } else if allowed.contains(&Origin::Any) {
            Self::Anyone
        } else {
            Self::Denied
        }
    }

    /// Puts the permission on an answer. A server's own is replaced: mvllm is whom the browser
    /// talks to, and two values are as good as none.
    pub(super) fn permit(&self, headers: &mut HeaderMap) {
        if *self == Self::NotAsked {
            return;
        }
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        match self {
            Self::NotAsked | Self::Denied => {}
            Self::Anyone => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
            }
            Self::Named(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

/// The answer to a preflight; `None` if the request is not one.
pub(super) fn preflight(
    method: &Method,
    headers: &HeaderMap,
    cors: &Cors,
) -> Option<Response<Reply>> {
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if method != Method::OPTIONS || *cors == Cors::NotAsked {
        return None;
    }
    if *cors == Cors::Denied {
        let mut denied = Reply::empty(StatusCode::BAD_REQUEST);
        *denied.body_mut() = Reply::from(bytes::Bytes::from_static(b"Disallowed CORS origin"));
        cors.permit(denied.headers_mut());
        return Some(denied);
    }
    let mut response = Reply::empty(StatusCode::OK);
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
    if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        // Named back, not `*`: that would not cover `Authorization`.
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECS));
    cors.permit(answer);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &str, allowed: &[&str]) -> Cors {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        let allowed: Vec<_> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Cors::of(&headers, &allowed)
    }

    #[test]
    fn any_origin_gets_no_credentials_and_a_named_one_does() {
        assert_eq!(asked("http://a", &["*"]), Cors::Anyone);
        assert_eq!(asked("http://a", &["*", "http://a"]), Cors::Named("http://a".parse().unwrap()));
        assert_eq!(asked("http://b", &["http://a"]), Cors::Denied);
        assert_eq!(Cors::of(&HeaderMap::new(), &[Origin::Any]), Cors::NotAsked);
    }

    #[test]
    fn a_servers_own_permission_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, "*".parse().unwrap());
        asked("http://evil", &["http://a"]).permit(&mut headers);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        Cors::NotAsked.permit(&mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
    }

    #[test]
    fn a_preflight_names_back_what_was_asked_for() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, "http://a".parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, "POST".parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, "authorization".parse().unwrap());
        let cors = Cors::of(&headers, &[Origin::Any]);
        let answer = preflight(&Method::OPTIONS, &headers, &cors).unwrap();
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(preflight(&Method::POST, &headers, &cors).is_none());
    }
}
