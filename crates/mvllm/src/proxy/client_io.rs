//! A client's socket, watched while it takes nothing: somebody who stopped reading, or has gone
//! without a word, must not hold a place at a server for ever.

use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::info;

use super::connections::ClientConnection;
use crate::absent_peer::{Belief, find_out};
use crate::traffic::{Cut, Traffic};

/// When the kernel asks a client that waits for its answer whether it is still there, and how often.
const ASK_AFTER: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_secs(10);

/// So much the kernel takes from mvllm before it has sent it, beside what is on its way to the client.
/// Without a bound it takes megabytes for a client that reads nothing, and all programs of the
/// machine share that memory (`tcp_mem` in tcp(7)). More would be of no use: the next is written as
/// soon as there is room.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 128 * 1024;

/// Has the kernel hold little for a client, and cut one that takes nothing of what the kernel itself holds for it, of which
/// [`ClientIo`] knows nothing; and one that is gone.
pub(super) fn watch_over(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)?;
    find_out(stream, Belief { ask_after: ASK_AFTER, ask_every: ASK_EVERY, end_after: limit })
}

/// The socket. A write fails once nothing could be written for the limit.
#[derive(Debug)]
pub(super) struct ClientIo {
    stream: tokio::net::TcpStream,
    client: Arc<ClientConnection>,
    traffic: Arc<Traffic>,
    limit: Duration,
    /// Whether the latest write found no room.
    stalled: bool,
    /// Made when it is first needed, which for most clients is never.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    pub(super) fn new(
        stream: tokio::net::TcpStream,
        client: Arc<ClientConnection>,
        traffic: Arc<Traffic>,
        limit: Duration,
    ) -> Self {
        Self { stream, client, traffic, limit, stalled: false, alarm: None }
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match write {
            Poll::Pending => self.poll_stalled(cx).map(Err),
            Poll::Ready(outcome) => {
                if std::mem::take(&mut self.stalled) {
                    self.client.takes_again();
                }
                Poll::Ready(outcome)
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let end = || Instant::now() + self.limit;
        if !std::mem::replace(&mut self.stalled, true) {
            self.client.takes_nothing();
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(end()),
                None => self.alarm = Some(Box::pin(sleep_until(end()))),
            }
        }
        let Some(alarm) = &mut self.alarm else { return Poll::Pending };
        std::task::ready!(alarm.as_mut().poll(cx));
        self.traffic.count_cut(Cut::Stalled);
        info!(client = %self.client.peer.ip(), "a client took nothing for {:?} and is cut", self.limit);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
