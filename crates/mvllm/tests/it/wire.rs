//! HTTP/1.1 messages as bytes, read off a socket without a library: what the router really sent.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The head of a request or of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) first_line: String,
    /// Names as sent, in the order of sending.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap().to_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self { first_line, fields }
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that occurs at most once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} occurs {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Method and target of a request.
    pub(crate) fn request(&self) -> (&str, &str) {
        let mut parts = self.first_line.split(' ');
        (parts.next().unwrap(), parts.next().unwrap())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

/// How the body that follows a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// Of a request (RFC 9112, section 6.3).
    pub(crate) fn of_request(head: &Head) -> Self {
        match (head.is_chunked(), head.get("content-length")) {
            (true, None) => Self::Chunked,
            (false, length) => Self::Length(length.map_or(0, |length| length.parse().unwrap())),
            (true, Some(_)) => panic!("both framings: {head:?}"),
        }
    }

    /// Of the answer to a request of the given method.
    pub(crate) fn of_answer(head: &Head, method: &str) -> Self {
        match head.status() {
            _ if method == "HEAD" => Self::Length(0),
            100..=199 | 204 | 304 => Self::Length(0),
            _ if head.is_chunked() => Self::Chunked,
            _ => head
                .get("content-length")
                .map_or(Self::UntilClose, |length| Self::Length(length.parse().unwrap())),
        }
    }
}

/// How a body, or a part of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says it should.
    Proper,
    /// The connection was closed or reset before.
    Broken,
}

/// A socket and what was read from it too far.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    /// `None`: the peer closed before a head began, or in its middle.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        Some(Head::parse(&head[..end - 4]))
    }

    /// The rest of a body.
    pub(crate) async fn body(&mut self, framing: Framing) -> (Vec<u8>, End) {
        match framing {
            Framing::Length(length) => self.exactly(length).await,
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    match self.chunk().await {
                        Chunk::Data(data) => body.extend(data),
                        Chunk::Last => return (body, End::Proper),
                        Chunk::Broken => return (body, End::Broken),
                    }
                }
            }
            Framing::UntilClose => {
                while self.fill().await {}
                (std::mem::take(&mut self.buffer), End::Proper)
            }
        }
    }

    /// The next chunk of a chunked body.
    pub(crate) async fn chunk(&mut self) -> Chunk {
        let Some(line) = self.line().await else { return Chunk::Broken };
        let size = usize::from_str_radix(&line, 16).unwrap();
        let (mut data, end) = self.exactly(size + 2).await;
        if end == End::Broken {
            return Chunk::Broken;
        }
        assert_eq!(data.split_off(size), b"\r\n");
        if size == 0 { Chunk::Last } else { Chunk::Data(data) }
    }

    /// Up to `length` bytes; fewer if the connection breaks.
    pub(crate) async fn exactly(&mut self, length: usize) -> (Vec<u8>, End) {
        while self.buffer.len() < length {
            if !self.fill().await {
                return (std::mem::take(&mut self.buffer), End::Broken);
            }
        }
        let rest = self.buffer.split_off(length);
        (std::mem::replace(&mut self.buffer, rest), End::Proper)
    }

    /// Waits until the peer closes or resets; all that it still sent.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let read: io::Result<usize> = self.socket.read_buf(&mut self.buffer).await;
        read.is_ok_and(|count| count > 0)
    }
}

/// One chunk of a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chunk {
    Data(Vec<u8>),
    /// The one of size zero: the body is complete.
    Last,
    /// The connection broke.
    Broken,
}
