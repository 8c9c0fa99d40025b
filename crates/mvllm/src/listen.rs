//! The listening socket, and accepting on it.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;
use tracing::warn;

use crate::proxy::DataThreads;

/// Connections that may wait to be accepted. The kernel caps it at its own `somaxconn`.
const BACKLOG: i32 = 4096;

/// Accepting fails when the process is out of file descriptors. They come back when connections
/// end; until then there is nothing to do but to wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Under a flood of clients, what is wrong is told this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Why mvllm cannot listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "port {port} on {host} is in use. Another mvllm, or another program, listens there: stop it, \
         choose another port with --port, or relieve a running mvllm with --takeover."
    )]
    InUse { host: String, port: u16 },
    #[error("no permission to listen on port {port}: choose one from 1024 up with --port.")]
    Denied { port: u16 },
    #[error("cannot listen on {host}, port {port}: {source}. Choose another address with --host.")]
    Other { host: String, port: u16, source: io::Error },
}

/// Listens on `host` (a name or an address) and `port` (0: any that is free).
pub(crate) fn listen(host: &str, port: u16) -> Result<TcpListener, ListenError> {
    resolve(bare(host), port).and_then(bind).map_err(|source| ListenError::new(host, port, source))
}

/// The address that [`listen`] would listen on.
pub(crate) fn address_of(host: &str, port: u16) -> Result<SocketAddr, ListenError> {
    resolve(bare(host), port).map_err(|source| ListenError::new(host, port, source))
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl ListenError {
    fn new(host: &str, port: u16, source: io::Error) -> Self {
        let host = host.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { host, port },
            io::ErrorKind::PermissionDenied => Self::Denied { port },
            _ => Self::Other { host, port, source },
        }
    }
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut addresses = (host, port).to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::other("the name has no address"))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for the old connections' TIME_WAIT to pass.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the number of files that may be open, of which every connection is one, as far as the
/// system lets us.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err()
    {
        warn!("the limit of open files stays at {current:?}: no more connections than that");
    }
}

/// What may be the case many times a second, told now and then.
#[derive(Debug, Default)]
struct Complaints {
    latest: Option<Instant>,
}

impl Complaints {
    fn tell(&mut self, complain: &dyn Fn()) {
        if self.latest.is_none_or(|latest| latest.elapsed() >= COMPLAIN_EVERY) {
            self.latest = Some(Instant::now());
            complain();
        }
    }
}

/// Accepts for ever, and hands each connection to a data thread.
pub(crate) async fn accept_forever(listener: &tokio::net::TcpListener, threads: &DataThreads) {
    let mut complaints = Complaints::default();
    loop {
        if threads.is_full() {
            complaints.tell(&|| {
                warn!(
                    "no more connections are accepted until some of them end: {} are open (see \
                     max_connections in servers.toml)",
                    threads.connections()
                );
            });
            threads.has_room().await;
        }
        match listener.accept().await.and_then(|(stream, _)| prepared(stream)) {
            Ok(stream) => threads.hand_over(stream),
            Err(error) if is_the_clients_affair(&error) => {}
            Err(error) => {
                complaints.tell(&|| warn!("cannot accept connections for a moment: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes the socket, but first accepts what is waiting: the clients believe to be connected.
pub(crate) fn accept_the_rest(listener: tokio::net::TcpListener, threads: &DataThreads) {
    let Ok(listener) = listener.into_std() else { return };
    // No more than may be waiting: under a flood the queue is never empty.
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nodelay(true).is_ok() && stream.set_nonblocking(true).is_ok() {
            threads.hand_over(stream);
        }
    }
}

fn prepared(stream: tokio::net::TcpStream) -> io::Result<std::net::TcpStream> {
    // Else the second chunk of a stream waits for the client's acknowledgement of the first.
    stream.set_nodelay(true)?;
    stream.into_std()
}

fn is_the_clients_affair(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected
    )
}
