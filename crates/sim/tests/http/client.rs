//! A client that sees every byte: HTTP/1.1 by hand over a socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far beyond anything that a test waits for: a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Client {
    socket: BufReader<TcpStream>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The JSON of the stream's `data:` lines.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self { socket: BufReader::new(TcpStream::connect(addr).await.unwrap()) }
    }

    /// Sends a request without waiting for anything.
    pub(crate) async fn send(&mut self, head: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("{head}\r\nhost: sim\r\ncontent-length: {length}\r\n\r\n");
        let request = [head.as_bytes(), body].concat();
        self.socket.get_mut().write_all(&request).await.unwrap();
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) {
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json");
        self.send(&head, body.to_string().as_bytes()).await;
    }

    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let mut status = None;
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            match (line.split_once(": "), status) {
                _ if line.is_empty() => break,
                (_, None) => status = line.split(' ').nth(1).and_then(|code| code.parse().ok()),
                (Some((name, value)), _) => fields.push((name.to_owned(), value.to_owned())),
                (None, _) => panic!("not a header line: {line}"),
            }
        }
        Ok(Head { status: status.unwrap(), fields })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.socket.read_line(&mut line)).await??;
        match (read, line.strip_suffix("\r\n")) {
            (0, _) | (_, None) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, Some(line)) => Ok(line.to_owned()),
        }
    }

    /// The next chunk of a chunked body; empty at its proper end.
    pub(crate) async fn chunk(&mut self) -> io::Result<String> {
        let length = usize::from_str_radix(&self.line().await?, 16).unwrap();
        let mut chunk = vec![0; length];
        timeout(PATIENCE, self.socket.read_exact(&mut chunk)).await??;
        assert_eq!(self.line().await?, "");
        Ok(String::from_utf8(chunk).unwrap())
    }

    /// Head and body, of either framing.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head().await?;
        let mut body = String::new();
        match head.field("content-length") {
            Some(length) => {
                let mut bytes = vec![0; length.parse().unwrap()];
                timeout(PATIENCE, self.socket.read_exact(&mut bytes)).await??;
                body = String::from_utf8(bytes).unwrap();
            }
            None => loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                body.push_str(&chunk);
            },
        }
        Ok(Answer { head, body })
    }

    /// Waits until the server closes the connection; answers how.
    pub(crate) async fn closed(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await??;
        assert_eq!(rest, b"");
        Ok(())
    }
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(addr).await;
    client.send(&format!("GET {path} HTTP/1.1"), b"").await;
    client.answer().await.unwrap()
}

pub(crate) async fn post(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    let mut client = Client::connect(addr).await;
    client.post(path, body).await;
    client.answer().await.unwrap()
}
