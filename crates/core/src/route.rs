//! What a path is: which of vLLM's APIs it belongs to, or why it is not sent on.

use crate::dialect::Dialect;

/// Where a request goes by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To a server, to compute an answer. May be sent again elsewhere while the client has nothing
    /// of it: the servers keep nothing of a lost one.
    Inference(Dialect),
    /// To a server, for whatever it is. Sent again only where nothing can have begun.
    Other,
    /// Nowhere, unless the operator opens the path.
    Closed,
    /// Nowhere: the path means one thing to us and may mean another to a server.
    Ambiguous,
}

/// Paths outside `/v1/` that vLLM 0.32 answers by computing, or that only read
/// (vllm/entrypoints: openai/api_server.py and the api_router.py of each family).
const INFERENCE_OUTSIDE_V1: &[&str] = &[
    "/tokenize",
    "/detokenize",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/v2/embed",
    "/embed",
    "/generative_scoring",
    "/invocations",
    "/inference/v1/generate",
    "/cohere/v2/chat",
    "/version",
    "/ping",
];

/// Paths under `/v1/` that compute an answer and leave nothing behind.
const INFERENCE_UNDER_V1: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
    "/v1/images/generations",
    "/v1/score",
    "/v1/rerank",
    "/v1/pooling",
    "/v1/classify",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/models",
    "/v1/realtime",
];

/// Inference paths that are answered without the engine (vllm/entrypoints: serve/tokenize/, the
/// input processor's part of anthropic/; stored responses are looked up).
const WITHOUT_ENGINE: &[&str] = &[
    "/tokenize",
    "/detokenize",
    "/version",
    "/ping",
    "/v1/models",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/messages/count_tokens",
];

impl Route {
    /// Classifies a request path (no query string).
    ///
    /// What is known to be open is listed, not what is known to be closed: a control path of a
    /// future vLLM stays closed. Versioned paths (`/v1/…`, `/v9/…`) pass, whatever follows.
    pub fn of(path: &str, is_open: impl Fn(&str) -> bool) -> Self {
        if is_ambiguous(path) {
            return Self::Ambiguous;
        }
        if INFERENCE_OUTSIDE_V1.contains(&path)
            || INFERENCE_UNDER_V1.iter().any(|p| within(path, p))
        {
            return Self::Inference(Dialect::of_path(path));
        }
        if is_versioned(path) || is_open(path) {
            return Self::Other;
        }
        Self::Closed
    }

    /// Whether a good answer to a request for `path` comes from the engine. A server's HTTP process
    /// goes on counting tokens and telling its version while its engine hangs or is dead.
    pub fn is_answered_by_engine(self, path: &str) -> bool {
        matches!(self, Self::Inference(_)) && !WITHOUT_ENGINE.iter().any(|p| within(path, p))
    }

    /// The dialect in which the client expects answers and errors.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Inference(dialect) => dialect,
            Self::Other | Self::Closed | Self::Ambiguous => Dialect::Opaque,
        }
    }
}

/// `path` is `parent` or lies below it.
fn within(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_versioned(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/v") else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && rest.as_bytes().get(digits) == Some(&b'/')
}

/// Dot segments and the separators around them, plain or percent-encoded, empty segments and
/// backslashes: `/v1/..%2fsleep` is under `/v1/` for us, and `/sleep` for a proxy in front of the
/// server that decodes and tidies paths (RFC 3986, section 5.2.4).
fn is_ambiguous(path: &str) -> bool {
    if path.contains('\\') || path.contains("//") {
        return true;
    }
    let mut rest = path.as_bytes();
    let mut segment = Segment::Empty;
    while let Some((unit, after)) = next_unit(rest) {
        match unit {
            Unit::Separator if segment.is_dots() => return true,
            Unit::Separator => segment = Segment::Empty,
            Unit::Dot => segment = segment.with_dot(),
            Unit::Other => segment = Segment::Name,
        }
        rest = after;
    }
    segment.is_dots()
}

/// A byte of a path, decoded as far as it matters here.
enum Unit {
    Separator,
    Dot,
    Other,
}

fn next_unit(path: &[u8]) -> Option<(Unit, &[u8])> {
    Some(match path {
        [b'/', rest @ ..]
        | [b'%', b'2', b'f' | b'F', rest @ ..]
        | [b'%', b'5', b'c' | b'C', rest @ ..] => (Unit::Separator, rest),
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => (Unit::Dot, rest),
        [_, rest @ ..] => (Unit::Other, rest),
        [] => return None,
    })
}

/// What a segment has been so far.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    OneDot,
    TwoDots,
    Name,
}

impl Segment {
    fn with_dot(self) -> Self {
        match self {
            Self::Empty => Self::OneDot,
            Self::OneDot => Self::TwoDots,
            Self::TwoDots | Self::Name => Self::Name,
        }
    }

    fn is_dots(self) -> bool {
        matches!(self, Self::OneDot | Self::TwoDots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Route {
        Route::of(path, |_| false)
    }

    #[test]
    fn inference_paths_know_their_dialect() {
        assert_eq!(route("/v1/chat/completions"), Route::Inference(Dialect::OpenAi));
        assert_eq!(route("/v1/messages"), Route::Inference(Dialect::Messages));
        assert_eq!(route("/v1/messages/count_tokens").dialect(), Dialect::Opaque);
        assert_eq!(route("/tokenize"), Route::Inference(Dialect::Opaque));
    }

    #[test]
    fn counting_tokens_says_nothing_of_the_engine() {
        let by_engine = |path: &str| route(path).is_answered_by_engine(path);
        assert!(by_engine("/v1/chat/completions") && by_engine("/v1/embeddings"));
        for path in ["/tokenize", "/v1/messages/count_tokens", "/v1/models", "/v1/files"] {
            assert!(!by_engine(path), "{path}");
        }
    }

    #[test]
    fn what_is_versioned_passes_even_if_unknown() {
        for path in ["/v1/files", "/v1/load_lora_adapter", "/v9/x", "/v1/", "/v1/chatter"] {
            assert_eq!(route(path), Route::Other, "{path}");
        }
    }

    #[test]
    fn control_paths_and_unknown_ones_are_closed() {
        for path in [
            "/sleep",
            "/wake_up",
            "/pause",
            "/resume",
            "/collective_rpc",
            "/update_weights",
            "/reset_prefix_cache",
            "/server_info",
            "/scale_elastic_ep",
            "/",
            "/v",
            "/v1",
            "/vx/y",
            "*",
            "",
        ] {
            assert_eq!(route(path), Route::Closed, "{path}");
        }
    }

    #[test]
    fn what_the_operator_opens_passes_but_is_not_inference() {
        assert_eq!(Route::of("/sleep", |path| path == "/sleep"), Route::Other);
        assert_eq!(Route::of("/a/../sleep", |_| true), Route::Ambiguous);
    }

    #[test]
    fn paths_that_a_server_may_read_otherwise_are_refused() {
        for path in [
            "/v1/../sleep",
            "/v1/%2e%2E/sleep",
            "/v1/.%2e/sleep",
            "/v1/./x",
            "//sleep",
            "/v1//x",
            "/v1/..\\sleep",
            "/v1/..",
            "/v1/..%2fsleep",
            "/v1/x%2F..%2f..%2fsleep",
            "/v1/..%5csleep",
            "/v1/%2e%2e%2Fsleep",
        ] {
            assert_eq!(route(path), Route::Ambiguous, "{path}");
        }
        assert_eq!(route("/v1/models/org/model..name"), Route::Inference(Dialect::Opaque));
        assert_eq!(route("/v1/files/..."), Route::Other);
        assert_eq!(route("/v1/models/org%2Fname"), Route::Inference(Dialect::Opaque));
    }
}
