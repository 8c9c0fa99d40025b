//! What a server was asked, byte for byte, and how each request ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

/// Requests kept. Older ones are forgotten.
const ENTRIES: usize = 256;
/// Bytes kept of each body: with [`ENTRIES`], 16 MiB at most.
const BODY_BYTES: usize = 64 * 1024;

/// A received request.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// Its number, from 0.
    pub number: u64,
    /// The method.
    pub method: Method,
    /// Path and query as received.
    pub target: String,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The length of the body.
    pub body_length: usize,
    /// Its first 64 KiB.
    pub body: Bytes,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Open,
    /// The answer was handed over to the last byte.
    Finished(StatusCode),
    /// The client left first, or a fault cut the answer.
    Aborted,
}

/// How many requests with a body were received (those under `/sim/` left out), and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) finished: u64,
    pub(crate) aborted: u64,
}

/// The most recent requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: VecDeque<LoggedRequest>,
    next: u64,
    counts: Counts,
}

impl RequestLog {
    pub(crate) fn open(
        self: &Arc<Self>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> OpenEntry {
        let mut book = self.book();
        let number = book.next;
        book.next += 1;
        let counted = method == Method::POST && !uri.path().starts_with("/sim/");
        book.counts.received += u64::from(counted);
        if book.entries.len() == ENTRIES {
            book.entries.pop_front();
        }
        let field = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        book.entries.push_back(LoggedRequest {
            number,
            method: method.clone(),
            target: uri.path_and_query().map_or("", |target| target.as_str()).to_owned(),
            headers: headers.iter().map(field).collect(),
            body_length: body.len(),
            body: Bytes::copy_from_slice(&body[..body.len().min(BODY_BYTES)]),
            outcome: Outcome::Open,
        });
        drop(book);
        OpenEntry { log: Arc::clone(self), number, counted }
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        self.book().entries.iter().cloned().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.book().counts
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered. Dropping it records that the answer was not completed.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    log: Arc<RequestLog>,
    number: u64,
    counted: bool,
}

impl OpenEntry {
    /// The answer was handed over.
    pub(crate) fn finish(mut self, status: StatusCode) {
        self.close(Outcome::Finished(status));
        self.counted = false;
    }

    fn close(&mut self, outcome: Outcome) {
        let mut book = self.log.book();
        if self.counted {
            match outcome {
                Outcome::Aborted => book.counts.aborted += 1,
                Outcome::Finished(_) | Outcome::Open => book.counts.finished += 1,
            }
        }
        let number = self.number;
        let open =
            |entry: &&mut LoggedRequest| entry.number == number && entry.outcome == Outcome::Open;
        if let Some(entry) = book.entries.iter_mut().find(open) {
            entry.outcome = outcome;
        }
    }
}

impl Drop for OpenEntry {
    /// Does nothing after [`OpenEntry::finish`]: that entry is neither open nor counted any more.
    fn drop(&mut self) {
        self.close(Outcome::Aborted);
    }
}

impl LoggedRequest {
    /// The entry as `GET /sim/log` lists it.
    pub(crate) fn to_json(&self) -> Value {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| json!([name, String::from_utf8_lossy(value)]))
            .collect();
        let (outcome, status) = match self.outcome {
            Outcome::Open => ("open", None),
            Outcome::Finished(status) => ("finished", Some(status.as_u16())),
            Outcome::Aborted => ("aborted", None),
        };
        json!({
            "number": self.number,
            "method": self.method.as_str(),
            "target": self.target,
            "headers": headers,
            "body_length": self.body_length,
            "body_hex": HEXLOWER.encode(&self.body),
            "outcome": outcome,
            "status": status,
        })
    }
}
