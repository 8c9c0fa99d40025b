//! A client that shows the bytes and the chunks as they arrive.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::eventually::within_patience;
use crate::wire::{Chunk, End, Framing, Head, Wire};

/// One connection to the router.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
    method: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let connected = within_patience("connecting", TcpStream::connect(addr)).await;
        Self { wire: Wire::new(connected.unwrap()), method: String::new() }
    }

    /// With a receive buffer so small that what is not read stays with the router.
    pub(crate) async fn connect_with_small_buffer(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let connected = within_patience("connecting", socket.connect(addr)).await;
        Self { wire: Wire::new(connected.unwrap()), method: String::new() }
    }

    /// Sends bytes as they are. The method of the request is taken from its first word.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let word: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != b' ').collect();
        self.method = String::from_utf8_lossy(&word).into_owned();
        self.send_more(bytes).await;
    }

    /// Sends what belongs to the same request. The router may have closed already, on purpose.
    pub(crate) async fn send_more(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within_patience("sending", self.wire.socket.write_all(bytes.as_ref())).await;
    }

    /// A POST of JSON.
    pub(crate) async fn post(&mut self, path: &str, body: impl AsRef<[u8]>) {
        self.send(post(path, body.as_ref())).await;
    }

    /// `None`: the connection was closed instead.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        within_patience("the head of an answer", self.wire.head()).await
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("the connection was closed before an answer")
    }

    /// The next chunk of a chunked answer.
    pub(crate) async fn chunk(&mut self) -> Chunk {
        within_patience("a chunk", self.wire.chunk()).await
    }

    /// The next chunk, which is to be there and to hold data.
    pub(crate) async fn data(&mut self) -> Vec<u8> {
        match self.chunk().await {
            Chunk::Data(data) => data,
            other => panic!("expected data, got {other:?}"),
        }
    }

    /// The rest of the body of the answer with this head.
    pub(crate) async fn body(&mut self, head: &Head) -> (Vec<u8>, End) {
        let framing = Framing::of_answer(head, &self.method);
        within_patience("the end of a body", self.wire.body(framing)).await
    }

    /// The answer to the latest request.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let (body, end) = self.body(&head).await;
        Answer { head, body, end }
    }

    /// Exactly so many bytes, whatever they are.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let (bytes, end) = within_patience("some bytes", self.wire.exactly(length)).await;
        assert_eq!(end, End::Proper, "the connection was closed after {} bytes", bytes.len());
        bytes
    }

    /// All that comes until the router closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        within_patience("the end of a connection", self.wire.rest()).await
    }
}

/// A POST of JSON as bytes.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: router\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

/// A request without a body as bytes.
pub(crate) fn bare(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: router\r\n\r\n")
}

/// One request on a connection of its own.
pub(crate) async fn ask(addr: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(addr).await;
    client.send(request).await;
    client.answer().await
}

/// A POST of JSON on a connection of its own.
pub(crate) async fn ask_json(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    ask(addr, post(path, body.to_string().as_bytes())).await
}
