//! What a failed attempt means: for the server's health, and for the request.

use crate::choice::Tried;
use crate::health::Fault;
use crate::route::Route;

/// Why an attempt brought nothing that a client could be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about; the request was not sent.
    Unreachable,
    /// This machine is at a limit of its own, like that of open files; the request was not sent.
    OwnLimit,
    /// The connection broke before the answer, or before the answer's first event.
    Lost,
    /// Silence for longer than the limit, from a server without progress.
    Silent,
    /// The server's own error (5xx).
    ServerError(u16),
    /// The server says that it is full: 429, or vLLM's 503 for a full queue.
    Overloaded(u16),
    /// A stream whose first event is the server's own error.
    ErrorEvent,
    /// The server says that its engine is dead.
    EngineDead,
    /// What came is not HTTP.
    Malformed,
    /// The prompt is longer than this server takes, and another one takes longer ones.
    TooLong {
        /// What it takes.
        max_len: u32,
    },
    /// The server does not hold what the request is about, and another one may.
    NotHeld,
    /// The server does not take requests for the data-parallel rank that this router named.
    RankRefused,
}

impl Failure {
    /// What it says of the server's health: nothing, if the server is merely full, or if it was
    /// never asked.
    pub const fn fault(self) -> Option<Fault> {
        match self {
            Self::Unreachable => Some(Fault::Unreachable),
            Self::Lost => Some(Fault::Reset),
            Self::Silent => Some(Fault::Silent),
            Self::ServerError(status) => Some(Fault::Status(status)),
            Self::ErrorEvent => Some(Fault::ErrorEvent),
            Self::EngineDead => Some(Fault::EngineDead),
            Self::Malformed => Some(Fault::Malformed),
            Self::Overloaded(_)
            | Self::OwnLimit
            | Self::TooLong { .. }
            | Self::NotHeld
            | Self::RankRefused => None,
        }
    }

    /// Whether the server said at once, and rightly, that the request was put to it wrongly by us.
    pub const fn is_declined(self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::NotHeld | Self::RankRefused)
    }

    /// Whether the server answered as others might, so that the client can be given that answer.
    pub const fn is_answer(self) -> bool {
        matches!(
            self,
            Self::ServerError(_) | Self::Overloaded(_) | Self::ErrorEvent | Self::EngineDead
        )
    }

    /// Whether the server may have acted on the request before it failed.
    pub const fn may_have_begun(self) -> bool {
        !matches!(self, Self::Unreachable | Self::OwnLimit | Self::Overloaded(_))
            && !self.is_declined()
    }

    /// Whether the server went down under the request, for all that can be seen from here. When an
    /// engine dies, vLLM's HTTP process stays for a while and says so to all who have a request there.
    pub const fn is_death(self) -> bool {
        matches!(self, Self::Lost | Self::EngineDead)
    }

    /// Whether one more attempt adds to the work of servers that live. What was never sent, or went
    /// down with its server, is carried by nobody: sending it elsewhere is no extra load.
    const fn draws_on_budget(self) -> bool {
        !matches!(self, Self::Unreachable | Self::OwnLimit | Self::Lost | Self::EngineDead)
            && !self.is_declined()
    }
}

/// Whether a request does no harm when it is carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Inference, or a method that only reads: once more is as good as once.
    Safe,
    /// Anything else, like loading a LoRA adapter.
    OnlyIfNotBegun,
}

impl Replay {
    /// Of a request by its route and method. RFC 9110, section 9.2.1 names the safe methods.
    pub fn of(route: Route, method: &str) -> Self {
        match (route, method) {
            (Route::Inference(_), _) | (_, "GET" | "HEAD" | "OPTIONS" | "TRACE") => Self::Safe,
            _ => Self::OnlyIfNotBegun,
        }
    }
}

/// A request that this many servers went down under is sent to no other: it may be what brings them
/// down (a prompt or a parameter that makes vLLM's engine crash), and must not take the fleet along.
pub const DEATHS_MAX: usize = 2;

/// What to do after a failed attempt, as long as nothing has reached the client. (Once something
/// has, no function here can be called any more: the request is gone, into the stream.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Send it to another server.
    TryAnother,
    /// Tell the client.
    GiveUp(GiveUp),
}

/// Why a request is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// It may have begun, and is not harmless to repeat.
    NotRepeatable,
    /// As many attempts as are allowed have been made.
    Exhausted,
    /// [`DEATHS_MAX`] servers went down under it.
    Poison,
    /// The retries of the whole router are used up for now.
    BudgetSpent,
}

/// The replay rule. `tried` holds the failed attempts, `failure` is the latest of them; `budget` is
/// asked last, and only where it matters.
pub fn next(
    failure: Failure,
    replay: Replay,
    tried: &Tried,
    max_retries: usize,
    budget: impl FnOnce() -> bool,
) -> Next {
    if replay == Replay::OnlyIfNotBegun && failure.may_have_begun() {
        Next::GiveUp(GiveUp::NotRepeatable)
    } else if tried.deaths() >= DEATHS_MAX {
        Next::GiveUp(GiveUp::Poison)
    } else if tried.count() > max_retries {
        Next::GiveUp(GiveUp::Exhausted)
    } else if failure.draws_on_budget() && !budget() {
        Next::GiveUp(GiveUp::BudgetSpent)
    } else {
        Next::TryAnother
    }
}

/// How the status of an answer is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client's: success, redirection, or its own error.
    Deliver,
    /// The server's failure, if no other server does better.
    Failed(Failure),
}

/// Judges an answer by its status and the beginning of its body. 4xx is the client's affair; 501
/// and 505 are honest answers that every equal server would give.
pub fn judge(status: u16, body: &[u8]) -> Verdict {
    match status {
        429 => Verdict::Failed(Failure::Overloaded(status)),
        503 if speaks_of_load(body) => Verdict::Failed(Failure::Overloaded(status)),
        501 | 505 => Verdict::Deliver,
        500.. if speaks_of_dead_engine(body) => Verdict::Failed(Failure::EngineDead),
        500.. => Verdict::Failed(Failure::ServerError(status)),
        _ => Verdict::Deliver,
    }
}

/// Whether a server says that a request is too long for it: the words of vLLM 0.32 for the prompt
/// and for the answer (vllm/renderers/params.py), and of the versions before it.
pub fn speaks_of_length(status: u16, body: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] =
        [b"maximum context length", b"max_model_len", b"maximum model length"];
    status == 400 && WORDS.iter().any(|words| memchr::memmem::find(body, words).is_some())
}

/// Whether a server says that it has no rank as it was asked for (vllm/v1/engine/
/// input_processor.py).
pub fn speaks_of_rank(status: u16, body: &[u8]) -> bool {
    status == 400 && memchr::memmem::find(body, b"data_parallel_rank").is_some()
}

/// The words of vLLM's `EngineDeadError` (vllm/v1/engine/exceptions.py), which is given the status
/// 500 and the type `InternalServerError` (serve/exception_handling/error_response.py): only the
/// message tells. Of a stream's error event only the two ends are known, hence two phrases. Before
/// V1 the error's own name was in the message.
pub(crate) fn speaks_of_dead_engine(words: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] =
        [b"EngineCore encountered", b"stack trace (above) for the root cause", b"EngineDeadError"];
    WORDS.iter().any(|phrase| memchr::memmem::find(words, phrase).is_some())
}

/// vLLM's 503 for a full queue is told from a broken server's by its words alone (vllm/config/
/// scheduler.py: `--max-num-queued-reqs`, `--max-num-queued-tokens`; serve/elastic_ep/
/// middleware.py while scaling).
fn speaks_of_load(body: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"currently busy", b"token backlog limit", b"currently scaling"];
    WORDS.iter().any(|words| memchr::memmem::find(body, words).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::snapshot::ServerKey;

    #[test]
    fn client_errors_are_delivered_and_blame_nobody() {
        for status in [200, 204, 301, 400, 401, 404, 409, 413, 422, 501, 505] {
            assert_eq!(judge(status, b""), Verdict::Deliver, "{status}");
        }
    }

    #[test]
    fn a_full_queue_is_load_and_a_broken_server_is_not() {
        let full = br#"{"error":{"message":"The engine is currently busy","code":503}}"#;
        assert_eq!(judge(503, full), Verdict::Failed(Failure::Overloaded(503)));
        assert_eq!(judge(429, b""), Verdict::Failed(Failure::Overloaded(429)));
        assert_eq!(Failure::Overloaded(503).fault(), None);
        assert_eq!(judge(503, b"{}"), Verdict::Failed(Failure::ServerError(503)));
        assert_eq!(Failure::ServerError(503).fault(), Some(Fault::Status(503)));
    }

    fn tried(failures: &[Failure]) -> Tried {
        let mut tried = Tried::default();
        for (nth, &failure) in (0..).zip(failures) {
            tried.note(ServerKey::nth(nth), failure);
        }
        tried
    }

    fn after(failures: &[Failure], replay: Replay, max_retries: usize, budget: bool) -> Next {
        let latest = *failures.last().unwrap();
        next(latest, replay, &tried(failures), max_retries, || budget)
    }

    #[test]
    fn a_dead_engine_is_told_from_a_failed_request() {
        let dead = br#"{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.","type":"InternalServerError","param":null,"code":500}}"#;
        assert_eq!(judge(500, dead), Verdict::Failed(Failure::EngineDead));
        assert_eq!(Failure::EngineDead.fault(), Some(Fault::EngineDead));
        let failed = br#"{"error":{"message":"Internal server error","code":500}}"#;
        assert_eq!(judge(500, failed), Verdict::Failed(Failure::ServerError(500)));
        assert_eq!(judge(400, dead), Verdict::Deliver);
    }

    #[test]
    fn inference_is_replayed_until_the_retries_are_used_up() {
        let replay = Replay::of(Route::Inference(Dialect::OpenAi), "POST");
        let error = Failure::ServerError(500);
        assert_eq!(after(&[error], replay, 3, true), Next::TryAnother);
        assert_eq!(after(&[error; 3], replay, 3, true), Next::TryAnother);
        assert_eq!(after(&[error; 4], replay, 3, true), Next::GiveUp(GiveUp::Exhausted));
        assert_eq!(after(&[Failure::Lost], replay, 0, true), Next::GiveUp(GiveUp::Exhausted));
    }

    #[test]
    fn what_may_have_begun_and_is_no_inference_is_not_repeated() {
        let replay = Replay::of(Route::Other, "POST");
        let not_again = Next::GiveUp(GiveUp::NotRepeatable);
        assert_eq!(after(&[Failure::Lost], replay, 3, true), not_again);
        assert_eq!(after(&[Failure::ServerError(500)], replay, 3, true), not_again);
        assert_eq!(after(&[Failure::Unreachable], replay, 3, true), Next::TryAnother);
        assert_eq!(after(&[Failure::Overloaded(429)], replay, 3, true), Next::TryAnother);
        assert_eq!(Replay::of(Route::Other, "GET"), Replay::Safe);
    }

    #[test]
    fn a_request_under_which_two_servers_went_down_is_not_sent_to_a_third() {
        let (lost, busy) = (Failure::Lost, Failure::Overloaded(503));
        assert_eq!(after(&[lost], Replay::Safe, 9, true), Next::TryAnother);
        assert_eq!(after(&[lost, busy], Replay::Safe, 9, true), Next::TryAnother);
        assert_eq!(after(&[lost, busy, lost], Replay::Safe, 9, true), Next::GiveUp(GiveUp::Poison));
    }

    #[test]
    fn who_is_told_that_another_server_is_meant_has_lost_no_attempt() {
        let not_here = Failure::NotHeld;
        assert_eq!(after(&[not_here; 9], Replay::Safe, 0, false), Next::TryAnother);
        assert_eq!(after(&[not_here], Replay::OnlyIfNotBegun, 3, true), Next::TryAnother);
        let too_long = Failure::TooLong { max_len: 9 };
        assert_eq!(after(&[too_long], Replay::Safe, 0, false), Next::TryAnother);
        assert_eq!((not_here.fault(), too_long.fault()), (None, None));
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_from_other_errors_of_the_client() {
        for message in [
            "This model's maximum context length is 32 tokens. However, your prompt contains 40",
            "max_tokens=90 cannot be greater than max_model_len=32. Please request fewer",
            "The decoder prompt (length 40) is longer than the maximum model length of 32.",
        ] {
            let body = std::format!(r#"{{"error":{{"message":"{message}"}}}}"#);
            assert!(speaks_of_length(400, body.as_bytes()), "{message}");
            assert!(!speaks_of_length(200, body.as_bytes()), "{message}");
        }
        assert!(!speaks_of_length(400, b"temperature must be non-negative"));
    }

    #[test]
    fn a_spent_budget_stops_what_would_add_work_and_nothing_else() {
        let spent = Next::GiveUp(GiveUp::BudgetSpent);
        for failure in [
            Failure::ServerError(500),
            Failure::Overloaded(429),
            Failure::Silent,
            Failure::ErrorEvent,
            Failure::Malformed,
        ] {
            assert_eq!(after(&[failure], Replay::Safe, 3, false), spent, "{failure:?}");
        }
        for failure in [Failure::Unreachable, Failure::OwnLimit, Failure::Lost] {
            assert_eq!(after(&[failure], Replay::Safe, 3, false), Next::TryAnother, "{failure:?}");
        }
    }
}
