//! The process that takes over: gets the listening socket, makes itself ready, and says so.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::offer::{ACCEPTING, SOCKET};
use super::{Entrance, Estate, Origin, peer};

/// How long the running process may take to send the socket; it has it at hand.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running process sends one line per closed server; this is many thousands of them.
const ESTATE_MAX: u32 = 4 * 1024 * 1024;

/// Why the running process could not be relieved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    #[error(
        "the mvllm that listens on {0} belongs to another user: run this one as the same user, or stop \
         that one first."
    )]
    AnotherUser(SocketAddr),
    #[error(
        "the mvllm that listens on {address} does not give its socket away: {source}. Stop it, and start \
         this one without --takeover."
    )]
    Refused { address: SocketAddr, source: io::Error },
}

/// The process that accepts until it is told that this one does.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: StdUnixStream,
    pub(crate) estate: Estate,
}

/// Asks the process that listens on `address` for its socket; `None` if there is none.
pub(crate) fn take_over(address: SocketAddr) -> Result<Option<Entrance>, TakeoverError> {
    let refused = |source| TakeoverError::Refused { address, source };
    let name = peer::name(address).map_err(refused)?;
    let Ok(stream) = StdUnixStream::connect_addr(&name) else { return Ok(None) };
    stream.set_nonblocking(true).map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(refused)?.block_on(async {
        let stream = UnixStream::from_std(stream).map_err(refused)?;
        if !peer::is_one_of_us(&stream).map_err(refused)? {
            return Err(TakeoverError::AnotherUser(address));
        }
        let received = timeout(PATIENCE, receive(stream)).await;
        received.unwrap_or_else(|late| Err(late.into())).map(Some).map_err(refused)
    })
}

async fn receive(mut stream: UnixStream) -> io::Result<Entrance> {
    let socket = stream.async_io(Interest::READABLE, || receive_socket(&stream)).await?;
    let length = stream.read_u32().await?;
    if length > ESTATE_MAX {
        return Err(io::Error::other("it does not speak this language"));
    }
    let mut estate = vec![0; length as usize];
    stream.read_exact(&mut estate).await?;
    let estate = serde_json::from_slice(&estate)?;
    let predecessor = Predecessor { stream: stream.into_std()?, estate };
    Ok(Entrance { listener: socket.into(), origin: Origin::TakenOver(predecessor) })
}

fn receive_socket(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let read = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let socket = sockets.flatten().next().filter(|_| read == 1 && byte == [SOCKET]);
    socket.ok_or_else(|| io::Error::other("it sends no socket; it may be serving another one"))
}

impl Predecessor {
    /// Tells it that this process accepts, and waits until it has stopped doing so: then the name
    /// under which it could be reached is free again.
    pub(crate) async fn relieve(self) -> io::Result<()> {
        let mut stream = UnixStream::from_std(self.stream)?;
        stream.write_u8(ACCEPTING).await?;
        // It says nothing more; it hangs up.
        timeout(PATIENCE, stream.read(&mut [0])).await??;
        Ok(())
    }
}
