//! One client's connection: HTTP/1.1, or HTTP/2 for those who begin with its preface.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tracing::debug;

use super::data_thread::DataThread;
use super::service::serve;

/// How long a client may take over its request head, and an idle one may stay connected.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams on one HTTP/2 connection; RFC 9113, section 6.5.2 advises at least 100, and an SDK
/// opens one connection for all it does.
const H2_STREAMS_MAX: u32 = 1_000;

/// Serves until the client hangs up, or until `leaving` says so and the requests under way are done.
pub(super) async fn serve_connection(
    thread: Arc<DataThread>,
    stream: TcpStream,
    mut leaving: watch::Receiver<bool>,
) {
    let Ok(peer) = stream.peer_addr() else { return };
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let builder = builder();
    let service = service_fn(move |request| serve(Arc::clone(&thread), peer, request));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_leave(&mut leaving) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a client's connection ended: {error}");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(H2_STREAMS_MAX);
    builder
}

async fn told_to_leave(leaving: &mut watch::Receiver<bool>) {
    // An error means that whoever could tell is gone, which says the same.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}
