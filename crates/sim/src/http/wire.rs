//! The TCP connection under HTTP, which a fault can break.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Decides what becomes of a connection. Shared by the connection and its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate(Arc<AtomicU8>);

const LIVE: u8 = 0;
const CLOSE: u8 = 1;
const RESET: u8 = 2;

impl Fate {
    /// Closes the connection once all that was written so far is sent.
    pub(crate) fn close(&self) {
        self.0.store(CLOSE, Ordering::Release);
    }

    /// The same, by a reset.
    pub(crate) fn reset(&self) {
        self.0.store(RESET, Ordering::Release);
    }

    fn is(&self, fate: u8) -> bool {
        self.0.load(Ordering::Acquire) == fate
    }
}

/// A connection that breaks when its fate says so.
///
/// It breaks on flush, not on write: hyper flushes after its buffer is written out, so the client
/// gets every byte that was meant for it, and nothing after.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    fate: Fate,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream, fate: Fate) -> Self {
        Self { socket, fate }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        match self.fate.is(LIVE) {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fate.is(RESET) {
            // A FIN before the reset would make a proper end of it.
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.socket).poll_shutdown(cx),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.fate.is(RESET) {
            // Lingering for no time at all makes the kernel send RST instead of FIN. If it cannot
            // be set, the connection is closed all the same.
            let _ = self.socket.set_zero_linger();
        }
    }
}
