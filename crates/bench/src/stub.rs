//! Servers that answer like vLLM and compute nothing: what is measured is what stands before them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep_until};

use crate::script::{Events, Wanted, digest, wanted_by, whole};
use crate::wire::Wire;

/// The part of a scrape of vLLM 0.32 that matters: what mvllm reads of each server twice a second.
const METRICS: &str = include_str!("../../core/src/exposition/vllm-0.32.txt");

const JSON: &str = "application/json";

/// Running servers.
#[derive(Debug)]
pub(crate) struct Stubs {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Paths that were asked for and are not there.
    unknown: Arc<Mutex<BTreeSet<String>>>,
}

/// What the connections to one server share.
struct Server {
    events: Events,
    running: Cell<i64>,
    tokens: Cell<u64>,
    unknown: Arc<Mutex<BTreeSet<String>>>,
}

impl Stubs {
    /// Starts `count` servers on one thread, which ends with the process.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let listeners: Vec<_> = (0..count)
            .map(|_| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .collect::<io::Result<_>>()?;
        let addresses =
            listeners.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<_>>()?;
        let unknown = Arc::default();
        let stubs = Self { addresses, unknown: Arc::clone(&unknown) };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("stubs".to_owned()).spawn(move || {
            let local = LocalSet::new();
            for listener in listeners {
                let (running, tokens) = (Cell::new(0), Cell::new(0));
                let unknown = Arc::clone(&unknown);
                let server = Server { events: Events::new(), running, tokens, unknown };
                local.spawn_local(accept(listener, Rc::new(server)));
            }
            runtime.block_on(local);
        })?;
        Ok(stubs)
    }

    pub(crate) fn unknown_paths(&self) -> Vec<String> {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.iter().cloned().collect()
    }
}

async fn accept(listener: std::net::TcpListener, server: Rc<Server>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        if let Ok(wire) = listener.accept().await.and_then(|(stream, _)| Wire::new(stream)) {
            let server = Rc::clone(&server);
            spawn_local(async move {
                // A client that leaves in the middle is its own affair.
                let _ = server.serve(wire).await;
            });
        }
    }
}

impl Server {
    async fn serve(&self, mut wire: Wire) -> io::Result<()> {
        while let Some(head) = wire.head().await? {
            let body = wire.whole(head.body).await?;
            let mut words = head.first.split(' ').skip(1);
            let path = words.next().unwrap_or_default();
            let answer = match path {
                "/v1/chat/completions" => match wanted_by(&body) {
                    Wanted::Stream { events, pace_micros } => {
                        self.stream(&mut wire, events, Duration::from_micros(pace_micros)).await?;
                        continue;
                    }
                    Wanted::Whole => {
                        self.tokens.set(self.tokens.get() + 1);
                        text(JSON, &whole(digest(&body)))
                    }
                },
                // mvllm's probe, were it to have doubts.
                "/v1/completions" => text(JSON, &whole(digest(&body))),
                "/health" => text(JSON, ""),
                "/version" => text(JSON, r#"{"version":"0.32.0"}"#),
                "/metrics" => text("text/plain; version=1.0.0; charset=utf-8", &self.metrics()),
                "/v1/models" => text(
                    JSON,
                    r#"{"object":"list","data":[{"id":"bench","object":"model","created":1764288000,"owned_by":"vllm","root":"bench","parent":null,"max_model_len":131072}]}"#,
                ),
                path => {
                    let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
                    unknown.insert(path.split('?').next().unwrap_or_default().to_owned());
                    text(JSON, r#"{"detail":"Not Found"}"#).replacen("200 OK", "404 Not Found", 1)
                }
            };
            wire.send(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// One write for the head, one for each event.
    async fn stream(&self, wire: &mut Wire, events: usize, pace: Duration) -> io::Result<()> {
        let _running = Running::one_more(&self.running);
        let head = "HTTP/1.1 200 OK\r\ndate: Sat, 29 Nov 2025 00:00:00 GMT\r\nserver: uvicorn\r\n\
             content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
        wire.send(head.as_bytes()).await?;
        let begun = Instant::now();
        for nth in 0..events {
            match pace {
                Duration::ZERO => yield_now().await,
                pace => sleep_until(begun + pace * nth as u32).await,
            }
            self.tokens.set(self.tokens.get() + 1);
            wire.send(self.events.framed(nth)).await?;
        }
        wire.send(&Events::end()).await
    }

    /// The scrape, with the figures that a live server would change.
    fn metrics(&self) -> String {
        let mut text = String::with_capacity(METRICS.len() + 64);
        for line in METRICS.lines() {
            let (name, _) = line.rsplit_once(' ').unwrap_or((line, ""));
            let value = match name.split('{').next() {
                Some("vllm:num_requests_running") => Some(self.running.get() as u64),
                Some("vllm:num_requests_waiting") => Some(0),
                Some("vllm:generation_tokens_total") => Some(self.tokens.get()),
                _ => None,
            };
            match value {
                Some(value) => text.push_str(&format!("{name} {value}")),
                None => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }
}

/// A request under way, until dropped.
struct Running<'a>(&'a Cell<i64>);

impl<'a> Running<'a> {
    fn one_more(count: &'a Cell<i64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn text(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ndate: Sat, 29 Nov 2025 00:00:00 GMT\r\nserver: uvicorn\r\n\
         content-length: {}\r\ncontent-type: {kind}\r\n\r\n{body}",
        body.len()
    )
}
