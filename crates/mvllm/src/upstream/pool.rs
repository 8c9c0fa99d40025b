//! Idle connections, kept per server. Each data thread has a pool of its own, so a request never
//! crosses a thread; the lock is there for the compiler and is never waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mvllm_core::snapshot::ServerKey;
use mvllm_core::time::Timestamp;

use super::driven::Driven;

/// Idle connections of one thread, by server; the latest used at the end.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<ServerKey, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    since: Timestamp,
    connection: Driven,
}

impl Idle {
    fn is_fit(&self, limit: Duration, now: Timestamp) -> bool {
        now.since(self.since) < limit && self.connection.is_open()
    }
}

impl Pool {
    /// The connection that was used last, if it was within `limit` and the server has not closed
    /// it. The latest is the likeliest to live, and the others may grow old and go.
    pub(crate) fn take(
        &self,
        server: ServerKey,
        limit: Duration,
        now: Timestamp,
    ) -> Option<Driven> {
        let mut idle = self.lock();
        let connections = idle.get_mut(&server)?;
        while let Some(latest) = connections.pop() {
            if latest.is_fit(limit, now) {
                return Some(latest.connection);
            }
        }
        None
    }

    fn give_back(&self, server: ServerKey, connection: Driven, now: Timestamp) {
        if connection.is_open() {
            self.lock().entry(server).or_default().push(Idle { since: now, connection });
        }
    }

    /// Closes what has been idle for `limit` or longer. To be called often: the server closes idle
    /// connections, too (uvicorn after 5 s), and whoever writes into that loses a round trip.
    pub(crate) fn close_idle(&self, limit: Duration, now: Timestamp) {
        let mut idle = self.lock();
        idle.retain(|_, connections| {
            connections.retain(|idle| idle.is_fit(limit, now));
            !connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerKey, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped, it is closed; only an answer that was read to its end puts it back.
#[derive(Debug)]
pub(crate) struct Lease {
    server: ServerKey,
    connection: Driven,
    pool: Arc<Pool>,
}

impl Lease {
    pub(crate) fn new(server: ServerKey, connection: Driven, pool: Arc<Pool>) -> Self {
        Self { server, connection, pool }
    }

    pub(crate) fn connection(&mut self) -> &mut Driven {
        &mut self.connection
    }

    /// The answer has been read to its end: the connection may serve another request.
    pub(crate) fn finish(self, now: Timestamp) {
        let Self { server, connection, pool } = self;
        pool.give_back(server, connection, now);
    }
}
