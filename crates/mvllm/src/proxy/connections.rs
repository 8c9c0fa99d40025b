//! One client's connection: HTTP/1.1, or HTTP/2 for those who begin with its preface.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mvllm_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tracing::debug;

use super::client_io::{ClientIo, watch_over};
use super::data_thread::DataThread;
use super::delivery::Delivery;
use super::reply::Reply;
use super::service::serve;
use crate::clock::Clock;
use crate::config::Tuning;
use crate::leave::Stage;
use crate::traffic::Cut;

/// Header fields of one request. What vLLM's clients send is under 30.
const FIELDS_MAX: usize = 100;

/// Streams on one HTTP/2 connection; RFC 9113, section 6.5.2 advises at least 100, and an SDK
/// opens one connection for all it does.
const H2_STREAMS_MAX: u32 = 1_000;

/// An HTTP/2 client that says nothing for this long is asked whether it is still there, and is gone
/// if it does not answer in time: the kernel's own questions end at the nearest proxy.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PONG_WITHIN: Duration = Duration::from_secs(20);

/// When connections are being closed, one that was made just before is given this long to bring
/// what it was made for: more than a round trip to any client, and a blink to whoever waits.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) peer: SocketAddr,
    stage: watch::Receiver<Stage>,
    speaks: watch::Sender<Speaks>,
    upgraded: Mutex<Option<JoinHandle<()>>>,
    clock: Clock,
    under_way: AtomicUsize,
    /// Whether something waits for the client to take it.
    takes_nothing: AtomicBool,
    /// Nanoseconds of [`Timestamp`]: since when nothing happens.
    idle_since: AtomicU64,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(super) struct Presence(Arc<ClientConnection>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// There was no request yet.
    Nothing,
    Http1,
    Http2,
}

/// Serves until the client hangs up, or until the router leaves and the requests under way are done.
pub(super) async fn serve_connection(thread: Arc<DataThread>, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let published = Arc::clone(&thread.board.read());
    let tuning = &published.settings.tuning;
    let (stall, idle) = (tuning.client_stall_timeout, tuning.client_idle_timeout);
    let builder = builder(tuning);
    // The connection may live long, and the view grows old.
    drop(published);
    if let Err(error) = watch_over(&stream, stall) {
        debug!("a client's connection is not watched by the kernel: {error}");
    }
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let stage = thread.board.stage.subscribe();
    let client = Arc::new(ClientConnection::new(peer, stage, thread.clock));
    let traffic = Arc::clone(&thread.traffic);
    let stream = ClientIo::new(stream, Arc::clone(&client), Arc::clone(&traffic), stall);
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request| answer(Arc::clone(&thread), Arc::clone(&client), request, stall))
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = client.is_to_end() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = client.is_idle_for(idle) => {
            traffic.count_cut(Cut::Idle);
            if !client.speaks_now(Speaks::Http2) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if let Some(cut) = cut_by(&*error) {
            traffic.count_cut(cut);
        }
        debug!("a client's connection ended: {error}");
    }
    if let Some(relay) = client.take_upgraded() {
        // A panic has been told on the way.
        let _ = relay.await;
    }
}

fn builder(tuning: &Tuning) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head = tuning.max_head_bytes;
    // The time for a head is `client_idle_timeout`, which also covers what comes before hyper knows
    // which HTTP is spoken.
    builder.http1().header_read_timeout(None).max_buf_size(head).max_headers(FIELDS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_send_buf_size(head)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PONG_WITHIN);
    builder
}

/// What hyper ended a connection for by itself, if it was the client's doing.
fn cut_by(error: &(dyn std::error::Error + 'static)) -> Option<Cut> {
    let error = error.downcast_ref::<hyper::Error>()?;
    match (error.is_parse_too_large(), error.is_parse()) {
        (true, _) => Some(Cut::HeadTooLarge),
        (false, true) => Some(Cut::Malformed),
        (false, false) => None,
    }
}

async fn answer(
    thread: Arc<DataThread>,
    client: Arc<ClientConnection>,
    request: Request<Incoming>,
    stall: Duration,
) -> Result<Response<Delivery>, Infallible> {
    let version = request.version();
    client.has_spoken(version);
    let presence = Presence::of(&client);
    let traffic = Arc::clone(&thread.traffic);
    let mut response = Box::pin(serve(thread, &client, request)).await?;
    client.say_goodbye(version, &mut response);
    Ok(Delivery::of(response, presence, version, &traffic, stall))
}

impl ClientConnection {
    fn new(peer: SocketAddr, stage: watch::Receiver<Stage>, clock: Clock) -> Self {
        Self {
            peer,
            stage,
            speaks: watch::Sender::new(Speaks::Nothing),
            upgraded: Mutex::default(),
            clock,
            under_way: AtomicUsize::new(0),
            takes_nothing: AtomicBool::new(false),
            idle_since: AtomicU64::new(clock.now().as_nanos()),
        }
    }

    /// What is to be written finds no room.
    pub(super) fn takes_nothing(&self) {
        self.takes_nothing.store(true, Ordering::Relaxed);
    }

    pub(super) fn takes_again(&self) {
        self.idle_from_now();
        self.takes_nothing.store(false, Ordering::Relaxed);
    }

    fn idle_from_now(&self) {
        self.idle_since.store(self.clock.now().as_nanos(), Ordering::Relaxed);
    }

    /// Waits until no request has been under way for `limit`. Asks now and then rather than being
    /// told: a request costs no timer.
    async fn is_idle_for(&self, limit: Duration) {
        loop {
            let is_busy = self.under_way.load(Ordering::Relaxed) > 0
                || self.takes_nothing.load(Ordering::Relaxed);
            let now = self.clock.now();
            let since = Timestamp::from_nanos(self.idle_since.load(Ordering::Relaxed));
            let due = if is_busy { now + limit } else { since + limit };
            if due <= now {
                return;
            }
            sleep_until(self.clock.instant(due)).await;
        }
    }

    fn speaks_now(&self, language: Speaks) -> bool {
        *self.speaks.borrow() == language
    }

    /// From now on the connection is `relay`'s; it counts as open until that ends.
    pub(super) fn becomes(&self, relay: JoinHandle<()>) {
        *self.upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay);
    }

    fn take_upgraded(&self) -> Option<JoinHandle<()>> {
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn has_spoken(&self, version: Version) {
        let language = if version == Version::HTTP_2 { Speaks::Http2 } else { Speaks::Http1 };
        self.speaks.send_if_modified(|speaks| std::mem::replace(speaks, language) != language);
    }

    /// While the router leaves, every answer tells an HTTP/1.1 client to connect anew for the next
    /// request (RFC 9112, section 9.6). One that hears it is never in the middle of sending when the
    /// connection is closed. HTTP/2 has GOAWAY for that.
    fn say_goodbye(&self, version: Version, response: &mut Response<Reply>) {
        let leaving = *self.stage.borrow() != Stage::Serving;
        let stays_http = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if leaving && stays_http && version != Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Waits until the connection is to end, as soon as nothing is under way on it.
    async fn is_to_end(&self) {
        reached(&self.stage, Stage::LastRequests).await;
        tokio::select! {
            // What the client has sent when it learns of GOAWAY is still answered, or known to it
            // as not taken (RFC 9113, section 6.8): no reason to wait.
            () = self.speaks(|language| language == Speaks::Http2) => {}
            () = reached(&self.stage, Stage::Closing) => {
                // Whoever has not said anything by then gets no answer.
                let _ = timeout(FIRST_REQUEST, self.speaks(|it| it != Speaks::Nothing)).await;
            }
        }
    }

    async fn speaks(&self, wanted: impl Fn(Speaks) -> bool) {
        // No error: the sender is here.
        let _ = self.speaks.subscribe().wait_for(|speaks| wanted(*speaks)).await;
    }
}

impl Presence {
    fn of(client: &Arc<ClientConnection>) -> Self {
        client.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(client))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.idle_from_now();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn reached(stage: &watch::Receiver<Stage>, wanted: Stage) {
    let mut stage = stage.clone();
    // An error means that whoever could tell is gone, which says the same.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections take ten thousand times this, and what they have read.
    #[test]
    fn a_connection_takes_no_more_memory_than_it_did() {
        let size = size_of_future(serve_connection);
        assert!(size <= CONNECTION_MAX, "{size} bytes");
    }

    /// As it is today, and a little. What makes it larger must be worth it.
    const CONNECTION_MAX: usize = 2_600;
}
