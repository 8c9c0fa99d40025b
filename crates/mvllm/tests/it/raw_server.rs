//! Servers scripted to the byte. The router's own questions (`/health`, `/v1/models`, `/metrics`,
//! and its probes) they answer by themselves; every other request is handed to the test, which answers as it likes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::eventually::{until, within_patience};
use crate::wire::{Framing, Head, Wire};

/// Some servers whose requests arrive in one queue.
#[derive(Debug)]
pub(crate) struct RawServers {
    servers: Vec<RawServer>,
    exchanges: mpsc::UnboundedReceiver<Exchange>,
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    pub(crate) health: u16,
    pub(crate) models: Vec<String>,
    pub(crate) metrics: String,
    /// What `Authorization` must say for the models to be told, as with vLLM's `--api-key`.
    pub(crate) authorization: Option<String>,
    /// The status of its answers to the router's probes.
    pub(crate) probe: u16,
    /// The questions are taken in and never answered.
    pub(crate) silent: bool,
    /// How often the metrics were asked for.
    scrapes: usize,
}

impl Says {
    fn refuses(&self, head: &Head) -> bool {
        self.authorization.as_deref().is_some_and(|key| head.get("authorization") != Some(key))
    }
}

#[derive(Debug)]
struct RawServer {
    addr: SocketAddr,
    says: Arc<Mutex<Says>>,
    listening: JoinHandle<()>,
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A request, and the connection on which its answer is awaited.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Which of the servers was asked.
    pub(crate) server: usize,
    /// Which of its connections, counted from 0.
    pub(crate) connection: usize,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    wire: Wire,
    home: Home,
}

/// Where a connection goes back to after an exchange.
#[derive(Debug, Clone)]
struct Home {
    server: usize,
    connection: usize,
    says: Arc<Mutex<Says>>,
    exchanges: mpsc::UnboundedSender<Exchange>,
}

impl RawServers {
    /// Servers on free ports of 127.0.0.1 that serve the model `m`.
    pub(crate) async fn start(count: usize) -> Self {
        let (sender, exchanges) = mpsc::unbounded_channel();
        let mut servers = Vec::new();
        for server in 0..count {
            servers.push(RawServer::start(server, sender.clone()).await);
        }
        Self { servers, exchanges }
    }

    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.addr).collect()
    }

    /// Changes what a server says of itself from now on.
    pub(crate) fn say(&self, server: usize, change: impl FnOnce(&mut Says)) {
        change(&mut self.servers[server].says.lock().unwrap());
    }

    /// Waits until the router has taken in the metrics as they are now: one scrape may be under
    /// way, the next begins after it has been taken in, and the one after that tells of it.
    pub(crate) async fn scraped_anew(&self, server: usize) {
        let scrapes = || self.servers[server].says.lock().unwrap().scrapes;
        let enough = scrapes() + 3;
        until("more scrapes", || scrapes() >= enough).await;
    }

    /// The next request to any of them.
    pub(crate) async fn next(&mut self) -> Exchange {
        within_patience("a request at a server", self.exchanges.recv()).await.unwrap()
    }

    /// A request that has arrived already. To prove that there was none.
    pub(crate) fn arrived(&mut self) -> Option<Exchange> {
        self.exchanges.try_recv().ok()
    }

    /// Answers every request from now on, until dropped.
    pub(crate) fn answer_all(
        self,
        answer: impl Fn(&Exchange) -> Vec<u8> + Send + 'static,
    ) -> Answering {
        let addrs = self.addrs();
        let Self { servers, mut exchanges } = self;
        let answering = tokio::spawn(async move {
            while let Some(exchange) = exchanges.recv().await {
                let bytes = answer(&exchange);
                exchange.respond(bytes).await;
            }
        });
        Answering { addrs, answering, _servers: servers }
    }
}

/// Servers that need no attention.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) addrs: Vec<SocketAddr>,
    answering: JoinHandle<()>,
    _servers: Vec<RawServer>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl RawServer {
    async fn start(server: usize, exchanges: mpsc::UnboundedSender<Exchange>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let says = Arc::new(Mutex::new(Says {
            health: 200,
            models: vec!["m".to_owned()],
            metrics: metrics(0, 0),
            authorization: None,
            probe: 200,
            silent: false,
            scrapes: 0,
        }));
        let home = Home { server, connection: 0, says: Arc::clone(&says), exchanges };
        let listening = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                serving.spawn(Home { connection, ..home.clone() }.serve(Wire::new(socket)));
            }
        });
        Self { addr, says, listening }
    }
}

impl Home {
    async fn serve(self, mut wire: Wire) {
        loop {
            let Some(head) = wire.head().await else { return };
            let (body, _) = wire.body(Framing::of_request(&head)).await;
            let Some(answer) = self.answer_of_its_own(&head, &body) else {
                let Self { server, connection, .. } = self;
                let exchanges = self.exchanges.clone();
                let exchange = Exchange { server, connection, head, body, wire, home: self };
                // An error: the test is over.
                let _ = exchanges.send(exchange);
                return;
            };
            if self.says.lock().unwrap().silent {
                wire.rest().await;
                return;
            }
            if wire.socket.write_all(&answer).await.is_err() {
                return;
            }
        }
    }

    fn answer_of_its_own(&self, head: &Head, body: &[u8]) -> Option<Vec<u8>> {
        let mut says = self.says.lock().unwrap();
        says.scrapes += usize::from(head.request().1 == "/metrics");
        Some(match head.request() {
            ("GET", "/health") => answer(says.health, "text/plain", b""),
            ("GET", "/metrics") => answer(200, "text/plain", says.metrics.as_bytes()),
            ("GET", "/v1/models") if says.refuses(head) => json(401, r#"{"error":"Unauthorized"}"#),
            ("GET", "/v1/models") => {
                let cards: Vec<_> =
                    says.models.iter().map(|id| serde_json::json!({ "id": id })).collect();
                json(200, &serde_json::json!({ "object": "list", "data": cards }).to_string())
            }
            ("POST", "/v1/completions" | "/v1/embeddings" | "/pooling") if is_probe(body) => {
                json(says.probe, "{}")
            }
            _ => return None,
        })
    }
}

/// No client of a test asks for so little.
fn is_probe(body: &[u8]) -> bool {
    let body = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    body["prompt"] == "a" || body["input"] == "a"
}

impl Exchange {
    /// Sends bytes of an answer.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within_patience("sending", self.wire.socket.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends the rest of an answer and waits for the next request on this connection.
    pub(crate) async fn respond(mut self, bytes: impl AsRef<[u8]>) {
        // The router may have hung up: that is its good right.
        if self.wire.socket.write_all(bytes.as_ref()).await.is_ok() {
            tokio::spawn(self.home.serve(self.wire));
        }
    }

    /// Breaks the connection by a reset.
    pub(crate) fn reset(self) {
        self.wire.socket.set_zero_linger().unwrap();
    }

    /// Closes the connection.
    pub(crate) fn close(self) {}

    /// Waits until the router closes the connection.
    pub(crate) async fn closed_by_the_router(&mut self) {
        within_patience("the router hanging up", self.wire.rest()).await;
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.wire.socket
    }
}

/// An answer of known length.
pub(crate) fn answer(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}

/// An answer of JSON.
pub(crate) fn json(status: u16, body: &str) -> Vec<u8> {
    answer(status, "application/json", body.as_bytes())
}

/// The head of an event stream.
pub(crate) const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
     transfer-encoding: chunked\r\n\r\n";

/// The last chunk of a body.
pub(crate) const LAST_CHUNK: &str = "0\r\n\r\n";

/// A chunk of a body.
pub(crate) fn chunk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend(data);
    chunk.extend(b"\r\n");
    chunk
}

/// The gauges of load of one engine.
pub(crate) fn metrics(running: u32, waiting: u32) -> String {
    format!(
        "vllm:num_requests_running{{engine=\"0\",model_name=\"m\"}} {running}.0\n\
         vllm:num_requests_waiting{{engine=\"0\",model_name=\"m\"}} {waiting}.0\n"
    )
}
