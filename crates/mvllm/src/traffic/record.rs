//! The account of one request, from its head to its last byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mvllm_core::attempt::Failure;
use mvllm_core::time::Timestamp;

use super::access_log;
use super::series::{Series, SeriesKey, Traffic};
use super::under_way::UnderWay;
use super::usage::Usage;
use crate::clock::Clock;

/// Kept as the request goes along; told when it is dropped, so that no request goes untold.
#[derive(Debug)]
pub(crate) struct Record {
    traffic: Arc<Traffic>,
    clock: Clock,
    ticket: u64,
    pub(super) request: Arc<UnderWay>,
    pub(super) client: SocketAddr,
    pub(super) method: http::Method,
    /// As far as it is one that the fleet serves.
    pub(super) model: Option<Arc<str>>,
    pub(super) failed: Vec<(Arc<str>, Failure)>,
    pub(super) server: Option<Arc<str>>,
    pub(super) hedged: bool,
    pub(super) sent: Option<Timestamp>,
    pub(super) first: Option<Timestamp>,
    latest: Option<Timestamp>,
    series: Option<Arc<Series>>,
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) usage: Usage,
    pub(super) ending: Ending,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client left before.
    Abandoned,
    /// The client has all of a server's answer.
    Complete,
    /// mvllm itself said no, for this reason.
    Refused(&'static str),
    /// A part of the answer is missing, and the client was told so.
    Broken(&'static str),
}

impl Record {
    pub(crate) fn begin(
        traffic: Arc<Traffic>,
        clock: Clock,
        id: String,
        client: SocketAddr,
        method: http::Method,
        path: String,
    ) -> Self {
        let request = Arc::new(UnderWay::new(id, clock.now(), path));
        let ticket = traffic.under_way.add(Arc::clone(&request));
        Self {
            traffic,
            clock,
            ticket,
            request,
            client,
            method,
            model: None,
            failed: Vec::new(),
            server: None,
            hedged: false,
            sent: None,
            first: None,
            latest: None,
            series: None,
            status: 0,
            bytes: 0,
            usage: Usage::default(),
            ending: Ending::Abandoned,
        }
    }

    /// The request names a model that the fleet knows.
    pub(crate) fn names_model(&mut self, model: Option<Arc<str>>) {
        self.model = model;
    }

    /// An attempt begins.
    pub(crate) fn sent_to(&mut self, server: &Arc<str>) {
        if !self.failed.is_empty() {
            self.traffic.count_retry();
        }
        self.sent.get_or_insert_with(|| self.clock.now());
        self.server = Some(Arc::clone(server));
        self.request.sent_to(server, self.model.as_ref());
    }

    /// How many attempts there were, the one that was answered included.
    pub(crate) fn attempts(&self) -> usize {
        self.failed.len() + 1
    }

    /// An attempt begins beside another, which goes on.
    pub(crate) fn hedged_at(&mut self, server: &Arc<str>) {
        self.hedged = true;
        self.traffic.count_hedge();
        self.request.sent_to(server, self.model.as_ref());
    }

    /// The attempt at `server` failed.
    pub(crate) fn failed(&mut self, server: &Arc<str>, failure: Failure) {
        self.server = self.server.take().filter(|latest| latest != server);
        self.traffic.count_failed_attempt(server, cause(failure));
        self.failed.push((Arc::clone(server), failure));
    }

    /// An answer of `server` is there, its first event included.
    pub(crate) fn answered(&mut self, server: &Arc<str>, status: u16) {
        self.server = Some(Arc::clone(server));
        self.answer_begins(status);
    }

    /// Nobody did better than the error that a server gave, which was `status` and `body`.
    pub(crate) fn ends_with_failure(&mut self, status: u16, body: &[u8]) {
        self.answer_begins(status);
        self.chunk_went(body);
        self.ends(Ending::Complete);
    }

    fn answer_begins(&mut self, status: u16) {
        let now = self.clock.now();
        self.status = status;
        self.first.get_or_insert(now);
        self.latest = Some(now);
        self.request.is_answered();
        self.series = Some(self.traffic.series(&self.key()));
    }

    /// The answer is a stream, so its beginning was its first token.
    pub(crate) fn is_streamed(&mut self) {
        if let (Some(series), Some(first)) = (&self.series, self.first) {
            series.time_to_first_token.observe(first.since(self.request.begun));
        }
    }

    /// A chunk came from the server.
    pub(crate) fn chunk_came(&mut self, now: Timestamp) {
        if let (Some(series), Some(latest)) = (&self.series, self.latest.replace(now)) {
            series.inter_chunk.observe(now.since(latest));
        }
    }

    /// A chunk went to the client.
    pub(crate) fn chunk_went(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.usage.look_into(chunk);
    }

    /// How it ended; the last word counts.
    pub(crate) fn ends(&mut self, ending: Ending) {
        self.ending = ending;
    }

    /// mvllm answers itself.
    pub(crate) fn refused(&mut self, status: u16, reason: &'static str) {
        self.status = status;
        self.ending = Ending::Refused(reason);
        self.traffic.count_refusal(reason);
    }

    pub(super) fn age(&self, at: Timestamp) -> std::time::Duration {
        at.since(self.request.begun)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn key(&self) -> SeriesKey {
        SeriesKey {
            server: self.server.clone().unwrap_or_default(),
            model: self.model.clone().unwrap_or_default(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.traffic.under_way.remove(self.ticket);
        let series = self.series.take().unwrap_or_else(|| self.traffic.series(&self.key()));
        series.duration.observe(self.age(self.now()));
        let add = |counter: &AtomicU64, tokens: Option<u64>| {
            counter.fetch_add(tokens.unwrap_or(0), Ordering::Relaxed);
        };
        add(&series.prompt_tokens, self.usage.prompt_tokens);
        add(&series.completion_tokens, self.usage.completion_tokens);
        match self.ending {
            Ending::Abandoned => add(&series.abandoned, Some(1)),
            Ending::Broken(_) => add(&series.broken, Some(1)),
            Ending::Complete | Ending::Refused(_) => {}
        }
        if self.status != 0 {
            series.count_status(self.status);
        }
        access_log::tell(self);
    }
}

/// All the words of [`cause`].
pub(crate) const CAUSES: [&str; 12] = [
    "connection_lost",
    "engine_dead",
    "error_event",
    "malformed",
    "not_held",
    "overloaded",
    "own_limit",
    "rank_refused",
    "server_error",
    "silent",
    "too_long",
    "unreachable",
];

/// A word for the label and the log.
pub(super) fn cause(failure: Failure) -> &'static str {
    match failure {
        Failure::Unreachable => "unreachable",
        Failure::OwnLimit => "own_limit",
        Failure::Lost => "connection_lost",
        Failure::Silent => "silent",
        Failure::ServerError(_) => "server_error",
        Failure::Overloaded(_) => "overloaded",
        Failure::ErrorEvent => "error_event",
        Failure::EngineDead => "engine_dead",
        Failure::Malformed => "malformed",
        Failure::TooLong { .. } => "too_long",
        Failure::NotHeld => "not_held",
        Failure::RankRefused => "rank_refused",
    }
}
