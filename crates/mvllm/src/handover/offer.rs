//! The running process: gives its listening socket to whoever may have it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Estate, peer};

/// How long another process may take from the socket to its first accept: it looks at all servers
/// before. As long as it does not say that it accepts, nothing changes here.
const PATIENCE: Duration = Duration::from_secs(120);

/// After a failed accept: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Goes over the wire together with the socket, which cannot travel alone.
pub(super) const SOCKET: u8 = b'S';

/// The other process says: I accept.
pub(super) const ACCEPTING: u8 = b'A';

/// Others may ask for the socket as long as this exists.
#[derive(Debug)]
pub(crate) struct Offer {
    door: UnixListener,
}

impl Offer {
    /// Offers the socket that listens on `address`.
    pub(crate) fn of(address: SocketAddr) -> io::Result<Self> {
        let door = StdUnixListener::bind_addr(&peer::name(address)?)?;
        door.set_nonblocking(true)?;
        Ok(Self { door: UnixListener::from_std(door)? })
    }

    /// Waits until another process accepts on `listener`. Until then this one is to go on accepting.
    /// `estate` is asked for what that process is to know.
    pub(crate) async fn until_accepted(self, listener: &TcpListener, estate: impl Fn() -> Estate) {
        loop {
            let Ok((stream, _)) = self.door.accept().await else {
                // Mostly out of descriptors; that passes.
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let estate = estate();
            let given = timeout(PATIENCE, give(stream, listener.as_fd(), &estate)).await;
            match given.unwrap_or_else(|late| Err(late.into())) {
                Ok(stream) => {
                    // In this order: the other takes the name when it sees this end.
                    drop(self.door);
                    drop(stream);
                    return;
                }
                Err(error) => warn!("nobody has taken over: {error}; this process goes on"),
            }
        }
    }
}

async fn give(
    mut stream: UnixStream,
    socket: BorrowedFd<'_>,
    estate: &Estate,
) -> io::Result<UnixStream> {
    if !peer::is_one_of_us(&stream)? {
        return Err(io::Error::other("a process of another user has asked"));
    }
    info!("another process wants to take over");
    stream.async_io(Interest::WRITABLE, || send(&stream, socket)).await?;
    let estate = serde_json::to_vec(estate)?;
    stream.write_u32(u32::try_from(estate.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&estate).await?;
    match stream.read_u8().await {
        Ok(ACCEPTING) => Ok(stream),
        Ok(_) => Err(io::Error::other("it does not speak this language")),
        Err(_) => Err(io::Error::other("it has ended before it was ready")),
    }
}

fn send(stream: &UnixStream, socket: BorrowedFd<'_>) -> io::Result<()> {
    let sockets = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(stream, &[IoSlice::new(&[SOCKET])], &mut control, SendFlags::empty())?;
    Ok(())
}
