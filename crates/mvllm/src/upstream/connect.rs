//! Opening one connection: resolve, connect, TLS where asked for, HTTP/1.1.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::driven::{Driven, Mover};
use super::names::first_to_connect;
use super::target::Target;
use super::tls;
use crate::absent_peer::{Belief, find_out};
use crate::config::url::{Host, Scheme};

/// A server that has vanished without a word is found to be gone after 30 s, whatever else mvllm
/// believes of it.
const BELIEF: Belief = Belief {
    ask_after: Duration::from_secs(15),
    ask_every: Duration::from_secs(5),
    end_after: Duration::from_secs(30),
};

/// The head of an answer is no longer than this, or it is no answer; and more than this is not read
/// ahead of a client. A server sends a few hundred bytes of head.
const READ_AHEAD: usize = 64 * 1024;

/// And so much the kernel holds of an answer that is not read because its client does not read:
/// left to itself, up to 32 MiB (`tcp_rmem` in tcp(7)), of a memory that all programs of the machine
/// share. At 1 ms to the server this is still 256 MB/s for a single answer.
const RECEIVED_MAX: usize = 256 * 1024;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
}

impl ConnectError {
    /// Whether this machine is to blame: out of file descriptors, ports, buffers or memory.
    pub(crate) fn is_our_own(&self) -> bool {
        use rustix::io::Errno;
        const OURS: [Errno; 5] =
            [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        let Self::Io(error) = self else { return false };
        Errno::from_io_error(error).is_some_and(|errno| OURS.contains(&errno))
    }
}

/// An open connection with a task of its own, for those who ask now and then. Dropping it closes the
/// socket at once.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects within `limit`.
pub(crate) async fn connect(target: &Target, limit: Duration) -> Result<Connection, ConnectError> {
    let (sender, driver) = open_within(target, limit).await?;
    Ok(Connection { sender, driver: tokio::spawn(driver) })
}

/// As [`connect`], for the data path.
pub(crate) async fn connect_driven(
    target: &Target,
    limit: Duration,
) -> Result<Driven, ConnectError> {
    let (sender, driver) = open_within(target, limit).await?;
    Ok(Driven::new(sender, driver))
}

/// The half of a connection that takes requests, and the one that moves bytes.
type Halves = (http1::SendRequest<Full<Bytes>>, Mover);

async fn open_within(target: &Target, limit: Duration) -> Result<Halves, ConnectError> {
    timeout(limit, open(target, limit)).await.unwrap_or(Err(ConnectError::TimedOut(limit)))
}

async fn open(target: &Target, limit: Duration) -> Result<Halves, ConnectError> {
    let stream = dial(target, limit).await?;
    // Without it the kernel holds back the second half of a small request for up to 40 ms.
    stream.set_nodelay(true)?;
    find_out(&stream, BELIEF)?;
    SockRef::from(&stream).set_recv_buffer_size(RECEIVED_MAX)?;
    match target.scheme {
        Scheme::Http => handshake(TokioIo::new(stream)).await,
        Scheme::Https => {
            let name = target.certificate_name().map_err(io::Error::other)?;
            handshake(TokioIo::new(tls::wrap(stream, name).await?)).await
        }
    }
}

async fn dial(target: &Target, limit: Duration) -> io::Result<TcpStream> {
    match &target.host {
        Host::Name(name) => {
            let name = (name.as_str(), target.port);
            let lookup = async { Ok(lookup_host(name).await?.collect()) };
            first_to_connect(target.names.resolve(limit, lookup).await?, TcpStream::connect).await
        }
        Host::V4(ip) => TcpStream::connect((*ip, target.port)).await,
        Host::V6(ip) => TcpStream::connect((*ip, target.port)).await,
    }
}

async fn handshake<T>(io: T) -> Result<Halves, ConnectError>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().max_buf_size(READ_AHEAD).handshake(io).await?;
    let driver = Box::pin(async move {
        // How it ended is told to whoever holds the sender, or the body.
        let _ = connection.with_upgrades().await;
    });
    Ok((sender, driver))
}
