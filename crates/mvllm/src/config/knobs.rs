//! The one declaration of every key of `servers.toml`.
//!
//! A line here is all that a new key needs: the field of [`Tuning`] or [`ServerSettings`], its
//! parsing and bounds, the suggestion for a mistyped name, the comparison at a reload and its
//! part of `docs/config.md` all come from it.

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderName;
use mvllm_core::continuation::Mode;
use mvllm_core::policy::Policy;

use super::diff::KnobChange;
use super::header::Header;
use super::kind::{
    Bytes, Count, Key, Kind, List, Optional, PolicyName, Positive, Ratio, Seconds, Switch, Url,
    WholeSeconds,
};
use super::one_of::CONTINUE_STREAMS;
use super::origin::Origin;
use super::path_pattern::PathPattern;
use super::secret::Secret;
use super::section::Section;
use super::url::ServerUrl;

/// What is known of a key, apart from its type.
pub struct Knob {
    pub key: &'static str,
    pub applies: Applies,
    /// The version of mvllm that first knew the key.
    pub since: &'static str,
    /// Lines of the doc comment.
    pub doc: &'static [&'static str],
    pub expected: fn() -> String,
    /// `None`: the key is required.
    pub default: Option<fn() -> String>,
    pub example: fn() -> String,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// With the reload that brings it.
    Reload,
    /// When mvllm is started again; a reload only says so.
    Restart,
}

/// Declares a table of the file: its keys with type, kind, reload class and first version.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $table:ident;
        required { $( $(#[doc = $rdoc:expr])+ $rkey:ident: $rtype:ty = $rkind:expr, $rapplies:ident, $rsince:literal; )* }
        optional { $( $(#[doc = $doc:expr])+ $key:ident: $type:ty = $kind:expr, $applies:ident, $since:literal; )* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $table {
            $( $(#[doc = $rdoc])+ pub $rkey: $rtype, )*
            $( $(#[doc = $doc])+ pub $key: $type, )*
        }

        impl $table {
            pub const KNOBS: &'static [Knob] = &[
                $( Knob {
                    key: stringify!($rkey),
                    applies: Applies::$rapplies,
                    since: $rsince,
                    doc: &[$($rdoc),+],
                    expected: || $rkind.expected(),
                    default: None,
                    example: || $rkind.example(),
                }, )*
                $( Knob {
                    key: stringify!($key),
                    applies: Applies::$applies,
                    since: $since,
                    doc: &[$($doc),+],
                    expected: || $kind.expected(),
                    default: Some(|| $kind.show(&$kind.default())),
                    example: || $kind.example(),
                }, )*
            ];

            /// Every other key as if absent from the file.
            pub fn with_defaults($($rkey: $rtype),*) -> Self {
                Self { $($rkey,)* $($key: $kind.default(),)* }
            }

            /// `None` after a problem; all keys are read before that is found out, so that one
            /// run shows every problem.
            pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
                $( let $rkey = section.required(stringify!($rkey), &$rkind); )*
                $( let $key = section.optional(stringify!($key), &$kind); )*
                section.warn_of_unknown(Self::KNOBS);
                Some(Self { $($rkey: $rkey?,)* $($key: $key?,)* })
            }

            pub(super) fn differences(&self, new: &Self) -> Vec<KnobChange> {
                let mut knobs = Self::KNOBS.iter();
                let mut changes = Vec::new();
                $( changes.extend(KnobChange::between(knobs.next(), &$rkind, &self.$rkey, &new.$rkey)); )*
                $( changes.extend(KnobChange::between(knobs.next(), &$kind, &self.$key, &new.$key)); )*
                changes
            }
        }
    };
}

const fn positive(default: u32, max: u32) -> Positive {
    match NonZeroU32::new(default) {
        Some(default) => Positive { default, max },
        None => panic!("the default of a Positive is at least 1"),
    }
}

table! {
    /// One entry of `servers.servers`.
    pub struct ServerSettings;
    required {
        /// Where the vLLM server listens: `http://` or `https://` (TLS to servers is supported),
        /// a host name, IPv4 address or `[IPv6 address]`, and a port if it is not the scheme's.
        /// A path is put in front of every request's path; trailing slashes are dropped.
        /// Credentials, a query or a fragment are errors.
        ///
        /// The url is also the server's name in every report, as it is written here. The same
        /// server may be listed twice (with a warning); it is then shown twice and gets twice the
        /// share of requests.
        url: ServerUrl = Url, Reload, "0.1.0";
    }
    optional {
        /// How large the server is: how many requests it is meant to work on at once. The load that
        /// decides between servers is measured against it, so a server of 32 gets four times the
        /// requests of a server of 8. It is a weight and no limit: vLLM itself queues what is above
        /// its `--max-num-seqs`.
        max_concurrent_requests: NonZeroU32 = positive(3, 1_000_000), Reload, "0.1.0";
        /// The models that the server answers for, used only while
        /// `enable_active_health_check` is off. Otherwise, or if empty, its own `/v1/models` is
        /// asked.
        supported_models: Vec<String> = List {
            of: "model names", default: Vec::<String>::new, example: "[\"llama-3-70b\"]",
        }, Reload, "0.1.0";
        /// The key that the server was started with (`--api-key`). It is sent as `Authorization:
        /// Bearer <key>` with every request and with mvllm's own questions, in the place of
        /// whatever `Authorization` and `X-Api-Key` the client sent. Empty: what the client sent is
        /// passed on, and mvllm's own questions carry no key.
        api_key: Secret = Key, Reload, "0.2.0";
        /// Whether the client's `Authorization` and `X-Api-Key` are passed on to the server, where
        /// `api_key` does not take their place.
        pass_credentials: bool = Switch { default: true }, Reload, "0.2.0";
    }
}

table! {
    /// The table `[config]`.
    pub struct Tuning;
    required {}
    optional {
        /// Time between two health checks of a server. All servers are checked side by side; one
        /// that is slow delays no other. Also the time between two probes of a server that is out,
        /// and the unit of its hold-down.
        health_check_interval: Duration = WholeSeconds { default: 30, min: 1 }, Reload, "0.1.0";
        /// Longest time until a changed file is noticed. mvllm reads the file once a second in
        /// any case, so only values below 1 make a difference; larger ones are accepted because
        /// older files have them. A change is taken over once the file has stayed the same for
        /// 0.2 s.
        config_reload_interval: Duration = Seconds { default: 60.0, min: 0.1 }, Reload, "0.1.0";
        /// How long an attempt may hear nothing from a server that shows no progress either. It
        /// bounds silence, never the length of an answer: a request that waits, or that is not
        /// streamed and says all at its end, is given more time as long as tokens come on the
        /// server's other streams or its token counters in `/metrics` move. A server that has
        /// requests and shows no progress for a third of this time is probed.
        request_timeout: Duration = WholeSeconds { default: 30, min: 1 }, Reload, "0.1.0";
        /// How long a health check may take before it counts as failed.
        health_check_timeout: Duration = WholeSeconds { default: 5, min: 1 }, Reload, "0.1.0";
        /// How the server for a request is chosen among those that are well. `adaptive`: where the
        /// request costs all the least time, from the prompts under way, what each server has in
        /// its prefix cache, and speeds that it learns; among equals, as `load`. `load`: the least
        /// `(running + waiting / 2) / max_concurrent_requests`, as 0.1.0. `prefix`: where most of the prompt is
        /// cached, unless that server is overloaded. `session`: always the same for a session.
        /// `least_requests` and `round_robin` as the names say.
        policy: Policy = PolicyName, Reload, "0.2.0";
        /// How many other servers are tried after a failed first attempt, so 3 is at most 4
        /// attempts. Nothing is repeated once a part of the answer has reached the client, nor what
        /// may have begun and is not inference.
        max_retries: u32 = Count { default: 3, max: 1000 }, Reload, "0.1.0";
        /// What part of all requests may be sent again because a server failed them (5xx, silence,
        /// a full queue), over the last ten seconds and on top of 30; so retries cannot bury a
        /// fleet in trouble. Requests that were never sent, or went down with their server, may
        /// always be sent elsewhere: that adds no work to anybody.
        retry_budget: f64 = Ratio { default: 0.1 }, Reload, "0.2.0";
        /// After two servers went down under one request, how long the very same request (path and
        /// body, to the byte) is refused with 422, unless somebody answers it meanwhile. 0: not at
        /// all.
        poison_quarantine: Duration = WholeSeconds { default: 600, min: 0 }, Reload, "0.2.0";
        /// After how long without an answer a second server is asked as well; the first answer
        /// counts, and the other server is told to stop. 0: never. It costs the fleet a second
        /// prefill of every request that takes so long, within `retry_budget`.
        hedge_after: Duration = Seconds { default: 0.0, min: 0.0 }, Reload, "0.2.0";
        /// How a streamed answer is carried on at another server when its own dies or falls silent.
        /// `"exact"`: by token ids, which vLLM is asked for with `return_token_ids` and which are
        /// taken out of what the client gets; with greedy decoding the answer is the same as without
        /// the accident. By text where a server tells no ids. `"text"`: by the text so far, with
        /// `continue_final_message`; where that is tokenised differently, the answer goes on
        /// differently. `"off"`: the stream breaks.
        continue_streams: Mode = CONTINUE_STREAMS, Reload, "0.2.0";
        /// After this many failed requests in a row (refused or broken connections, silence, 5xx) a
        /// server is taken out until it answers a probe, or, if it refused connections, a health
        /// check.
        failure_threshold: NonZeroU32 = positive(2, 1_000_000), Reload, "0.1.0";
        /// How long a failed request is held against a server. With `enable_active_health_check`
        /// off, also how long a server that was taken out is left alone, at least, before it is
        /// tried again with one request at a time.
        auto_recovery_threshold: Duration = WholeSeconds { default: 60, min: 1 }, Reload, "0.1.0";
        /// Whether mvllm asks each server for its health and its models, and probes it with a
        /// request for one token where that cannot tell. When off, servers are taken as healthy
        /// until requests to them fail.
        enable_active_health_check: bool = Switch { default: true }, Reload, "0.1.0";
        /// A server whose mean answer time to the last `health_check_window_size` health checks
        /// is above this is unhealthy.
        health_check_max_response_time: Duration = Seconds { default: 10.0, min: 0.1 }, Reload, "0.1.0";
        /// A server that answered less than this part of its last `health_check_window_size`
        /// health checks is unhealthy.
        health_check_min_success_rate: f64 = Ratio { default: 0.8 }, Reload, "0.1.0";
        /// How many health checks the two rules above look back at.
        health_check_window_size: NonZeroU32 = positive(10, 10_000), Reload, "0.1.0";
        /// A server that failed this many health checks in a row is unhealthy.
        health_check_consecutive_failures: NonZeroU32 = positive(3, 1_000_000), Reload, "0.1.0";
        /// How long a connection to a server may take to open. A host that is down often does
        /// not refuse but stays silent; this bounds what such an attempt costs.
        connect_timeout: Duration = Seconds { default: 2.0, min: 0.01 }, Reload, "0.2.0";
        /// How long an unused connection to a server is kept for the next request; 0 keeps none.
        /// vLLM closes idle connections after 5 s (`VLLM_HTTP_TIMEOUT_KEEP_ALIVE` in vLLM's
        /// `envs.py`, handed to uvicorn). Stay below that: a request sent just as the server
        /// closes is lost, and one that may have been read cannot be repeated.
        upstream_idle_timeout: Duration = Seconds { default: 4.0, min: 0.0 }, Reload, "0.2.0";
        /// Largest request body that is accepted; larger ones are refused with 413. The default
        /// is 64 MiB, which leaves room for several images in one chat request.
        max_body_bytes: usize = Bytes { default: 64 * 1024 * 1024, min: 1 }, Reload, "0.2.0";
        /// Largest request head: request line and header fields. Larger ones, and those of more
        /// than 100 fields, are refused with 431. It also bounds what waits in mvllm for a client
        /// that reads slowly, and so what such a client costs.
        max_head_bytes: usize = Bytes { default: 64 * 1024, min: 8 * 1024 }, Reload, "0.2.0";
        /// How much memory all request bodies together may take, from their arrival until their
        /// request need not be sent again. What does not fit is refused with 503 and a
        /// `Retry-After`. 0 is a quarter of the memory that the machine has, or mvllm's control
        /// group: the rest is for answers under way, and for others.
        max_buffered_body_bytes: usize = Bytes { default: 0, min: 0 }, Reload, "0.2.0";
        /// How many requests may be under way at once; more are refused with 503 and a
        /// `Retry-After`. 0 is no limit: servers have queues of their own, and say when they are
        /// full.
        max_requests_in_flight: u32 = Count { default: 0, max: 10_000_000 }, Reload, "0.2.0";
        /// How many connections of clients are open at once. The next is not accepted until one of
        /// them ends; the kernel keeps up to 4096 waiting, and nobody is turned away. 0 is half as
        /// many as files may be open (`LimitNOFILE=` of systemd, `ulimit -n`), less 64: so each of
        /// them has room for a connection to a server, and mvllm's own questions for theirs.
        max_connections: u32 = Count { default: 0, max: 10_000_000 }, Reload, "0.2.0";
        /// How long a client's connection is kept on which no request is under way, and so how long
        /// a client may take over the head of one. Connections that are open already keep the
        /// value with which they began.
        client_idle_timeout: Duration = WholeSeconds { default: 60, min: 1 }, Reload, "0.2.0";
        /// In each span of this length at least 16 KiB of a request's body must arrive, or its end;
        /// otherwise it is refused with 408. That bounds no upload, however large or slow its line:
        /// at the default, 16 KiB a minute is a tenth of what a telephone modem did.
        client_body_timeout: Duration = WholeSeconds { default: 60, min: 1 }, Reload, "0.2.0";
        /// A client that takes no byte of what waits for it for this long is cut, and its requests
        /// are aborted at their servers; likewise one that has vanished without a word. Until then
        /// its server is held up, so it costs no memory. The default is longer than any network
        /// hiccup; somebody who reads on after a longer pause must ask again. Connections that are
        /// open already keep the value with which they began.
        client_stall_timeout: Duration = WholeSeconds { default: 120, min: 1 }, Reload, "0.2.0";
        /// vLLM routes outside the OpenAI interface that are passed on. Routes that control a
        /// server (such as `/sleep`, `/pause`, `/reset_prefix_cache`) stay closed unless listed.
        /// An entry is one path, or with `*` at its end every path that begins so.
        open_paths: Vec<PathPattern> = List {
            of: "paths", default: Vec::<PathPattern>::new, example: "[\"/reset_prefix_cache\", \"/lora/*\"]",
        }, Reload, "0.2.0";
        /// The header by which clients name the session that a request belongs to, as vLLM itself
        /// does. It is a hint: sessions are known by their prompts, with or without it. A body may
        /// say the same as `session_id`.
        session_header: HeaderName = Header { default: "x-session-id" }, Reload, "0.2.0";
        /// Web origins whose pages may call mvllm from a browser (CORS); `"*"` is any, an empty
        /// list none.
        cors_origins: Vec<Origin> = List {
            of: "web origins", default: || vec![Origin::Any], example: "[\"https://chat.example.com\"]",
        }, Reload, "0.2.0";
        /// Whoever sends it as `Authorization: Bearer <key>` may cordon and drain servers, from
        /// anywhere. Empty: anybody on this machine may, and nobody else.
        admin_key: Secret = Key, Reload, "0.2.0";
        /// After SIGTERM `/readyz` says 503, and new connections are accepted for this long, until
        /// every load balancer has looked and sends its clients elsewhere. So let it be longer than
        /// their check interval times the failed checks that they want to see; HAProxy's defaults
        /// make that 6 s. Without a load balancer: 0. Ctrl-C does not wait for it.
        shutdown_grace: Duration = WholeSeconds { default: 5, min: 0 }, Reload, "0.2.0";
        /// How long the end may take after SIGTERM or Ctrl-C, the grace included; then what is still
        /// under way is broken off. Whoever stops mvllm must wait longer before it kills:
        /// `TimeoutStopSec=` of systemd, `stop_grace_period` of Compose,
        /// `terminationGracePeriodSeconds` of Kubernetes.
        shutdown_timeout: Duration = WholeSeconds { default: 30, min: 1 }, Reload, "0.2.0";
        /// How long requests under way may take to finish after another process has taken over with
        /// `--takeover`. Nobody waits for that, so it may be longer than any answer.
        takeover_timeout: Duration = WholeSeconds { default: 3600, min: 1 }, Reload, "0.2.0";
        /// Threads that carry requests; 0 is one per processor core.
        data_threads: u32 = Count { default: 0, max: 1024 }, Restart, "0.2.0";
    }
}
