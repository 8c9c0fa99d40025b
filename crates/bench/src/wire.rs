//! As much of HTTP/1.1 as both ends of the benchmark need: a head, and the pieces of a body.

use std::io;
use std::ops::Range;

use memchr::memchr;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for one read. Larger than what comes at once on any connection but that of a large body.
const READ: usize = 16 * 1024;

/// A connection, and what has been read from it and not been used.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
}

/// The first line of a message, and where its body ends.
#[derive(Debug)]
pub(crate) struct Head {
    /// Method and path, or version and status.
    pub(crate) first: String,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    left: usize,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    /// Whether the end of the chunk before is still to be read.
    Chunks {
        after_chunk: bool,
    },
    UntilClosed,
    Ended,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), used: 0 })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head; `None` if the other side has closed before it.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let unused = &self.buffer[self.used..];
            if let Some(end) = memmem::find(unused, b"\r\n\r\n") {
                let head = parse(&String::from_utf8_lossy(&unused[..end]))?;
                self.used += end + 4;
                return Ok(Some(head));
            }
            let begun = !unused.is_empty();
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !begun => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next piece of `body`, as large as it is there; `None` at its end.
    pub(crate) async fn piece(&mut self, body: &mut Body) -> io::Result<Option<Range<usize>>> {
        loop {
            if body.left > 0 {
                if self.used == self.buffer.len() {
                    self.fill().await?;
                }
                let size = body.left.min(self.buffer.len() - self.used);
                let piece = self.used..self.used + size;
                (body.left, self.used) = (body.left - size, self.used + size);
                return Ok(Some(piece));
            }
            match body.framing {
                Framing::Ended => return Ok(None),
                Framing::Length => body.framing = Framing::Ended,
                Framing::Chunks { after_chunk } => {
                    if after_chunk {
                        self.line().await?;
                    }
                    self.next_chunk(body).await?;
                }
                Framing::UntilClosed => match self.fill().await {
                    Ok(()) => body.left = self.buffer.len() - self.used,
                    Err(_) => body.framing = Framing::Ended,
                },
            }
        }
    }

    pub(crate) fn at(&self, piece: Range<usize>) -> &[u8] {
        &self.buffer[piece]
    }

    /// The whole body.
    pub(crate) async fn whole(&mut self, mut body: Body) -> io::Result<Vec<u8>> {
        let mut whole = Vec::with_capacity(body.left);
        while let Some(piece) = self.piece(&mut body).await? {
            whole.extend_from_slice(self.at(piece));
        }
        Ok(whole)
    }

    async fn next_chunk(&mut self, body: &mut Body) -> io::Result<()> {
        let line = self.line().await?;
        let text = String::from_utf8_lossy(self.at(line)).into_owned();
        let digits = text.split(';').next().unwrap_or_default().trim();
        body.left = usize::from_str_radix(digits, 16)
            .map_err(|_| io::Error::other(format!("no chunk begins with {text:?}")))?;
        body.framing = Framing::Chunks { after_chunk: true };
        if body.left == 0 {
            while !self.line().await?.is_empty() {}
            body.framing = Framing::Ended;
        }
        Ok(())
    }

    /// The next line, without its end.
    async fn line(&mut self) -> io::Result<Range<usize>> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.used..]) {
                let from = self.used;
                self.used += length + 1;
                let blank = length > 0 && self.buffer[from + length - 1] == b'\r';
                return Ok(from..from + length - usize::from(blank));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(text: &str) -> io::Result<Head> {
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut body = Body { left: 0, framing: Framing::Length };
    let mut has_length = false;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            body.left = value.trim().parse().map_err(io::Error::other)?;
            has_length = true;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            body.framing = Framing::Chunks { after_chunk: false };
            has_length = true;
        }
    }
    if first.starts_with("HTTP/") && !has_length {
        body.framing = Framing::UntilClosed;
    }
    Ok(Head { first, body })
}
