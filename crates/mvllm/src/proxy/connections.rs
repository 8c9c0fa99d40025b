//! One client's connection: HTTP/1.1, or HTTP/2 for those who begin with its preface.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::debug;

use super::data_thread::DataThread;
use super::reply::Reply;
use super::service::serve;
use crate::leave::Stage;

/// How long a client may take over its request head, and an idle one may stay connected.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams on one HTTP/2 connection; RFC 9113, section 6.5.2 advises at least 100, and an SDK
/// opens one connection for all it does.
const H2_STREAMS_MAX: u32 = 1_000;

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
}

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
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let client = Arc::new(ClientConnection::new(peer, thread.board.stage.subscribe()));
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request| answer(Arc::clone(&thread), Arc::clone(&client), request))
    };
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = client.is_to_end() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a client's connection ended: {error}");
    }
    if let Some(relay) = client.take_upgraded() {
        // A panic has been told on the way.
        let _ = relay.await;
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(H2_STREAMS_MAX);
    builder
}

async fn answer(
    thread: Arc<DataThread>,
    client: Arc<ClientConnection>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let version = request.version();
    client.has_spoken(version);
    let mut response = Box::pin(serve(thread, &client, request)).await?;
    client.say_goodbye(version, &mut response);
    Ok(response)
}

impl ClientConnection {
    fn new(peer: SocketAddr, stage: watch::Receiver<Stage>) -> Self {
        let speaks = watch::Sender::new(Speaks::Nothing);
        Self { peer, stage, speaks, upgraded: Mutex::default() }
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

async fn reached(stage: &watch::Receiver<Stage>, wanted: Stage) {
    let mut stage = stage.clone();
    // An error means that whoever could tell is gone, which says the same.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}
