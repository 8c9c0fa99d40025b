//! Which key a server gets to see.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::config::ServerSettings;

/// Where clients of Anthropic's API put theirs.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What becomes of the credentials that a client sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Credentials {
    /// The server gets them.
    #[default]
    Pass,
    /// The server gets none.
    Strip,
    /// The server gets this one instead.
    Replace(HeaderValue),
}

impl Credentials {
    pub(super) fn of(server: &ServerSettings) -> Self {
        match server.api_key.bearer() {
            Some(bearer) => Self::Replace(bearer),
            None if server.pass_credentials => Self::Pass,
            None => Self::Strip,
        }
    }

    pub(super) fn settle(&self, headers: &mut HeaderMap) {
        if *self == Self::Pass {
            return;
        }
        headers.remove(X_API_KEY);
        headers.remove(AUTHORIZATION);
        if let Self::Replace(bearer) = self {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
    }
}
