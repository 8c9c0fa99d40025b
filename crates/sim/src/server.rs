//! A simulated server as a whole: sockets, engines, faults, and the handle that tests hold.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::SimConfig;
use crate::driver::Engines;
use crate::engine::Load;
use crate::fault::{Fault, Faults};
use crate::http::{self, ApiError, Store};
use crate::kv_cache::mix;
use crate::request_log::{Counts, LoggedRequest, RequestLog};

/// A running simulated server. Dropping it kills it: connections break, as when a process dies.
#[derive(Debug)]
pub struct SimServer {
    addr: SocketAddr,
    server: Arc<Server>,
    running: JoinHandle<()>,
}

/// How a server is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests in the batches of all engines.
    pub running: usize,
    /// Requests in their queues.
    pub waiting: usize,
    /// `POST` requests received, those under `/sim/` left out.
    pub received: u64,
    /// Those whose answer was handed over to the last byte, whatever its status.
    pub finished: u64,
    /// Those whose client left first, or whose answer a fault cut.
    pub aborted: u64,
}

impl SimServer {
    /// Starts a server on a listening socket, within the current tokio runtime.
    pub fn start(config: SimConfig, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let (alive, life) = watch::channel(());
        let server = Arc::new(Server::new(config, life));
        let running = tokio::spawn(run(Arc::clone(&server), listener, alive));
        Ok(Self { addr, server, running })
    }

    /// Starts a server on a free port of 127.0.0.1.
    pub fn start_on_free_port(config: SimConfig) -> io::Result<Self> {
        Self::start(config, TcpListener::bind("127.0.0.1:0")?)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes something go wrong, for `count` requests or until further notice.
    pub fn set_fault(&self, fault: Fault, count: Option<u32>) {
        self.server.set_fault(fault, count);
    }

    /// How it is doing.
    pub fn stats(&self) -> Stats {
        let Load { running, waiting } = self.server.engines.load();
        let Counts { received, finished, aborted } = self.server.log.counts();
        Stats { running, waiting, received, finished, aborted }
    }

    /// The last requests, oldest first.
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.server.log.entries()
    }

    /// Kills it, and waits until the port is free again.
    pub async fn shutdown(mut self) {
        self.running.abort();
        // An error here says that it was cancelled, which is what was asked.
        let _ = (&mut self.running).await;
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Runs a server until `shutdown` is ready.
pub async fn serve(
    config: SimConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = SimServer::start(config, listener)?;
    shutdown.await;
    server.shutdown().await;
    Ok(())
}

/// After a failed `accept` (out of file descriptors, say): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections and steps the engines. Everything that it starts ends with it.
async fn run(server: Arc<Server>, listener: tokio::net::TcpListener, _alive: watch::Sender<()>) {
    let mut tasks = JoinSet::new();
    let engines = Arc::clone(&server.engines);
    tasks.spawn(async move { engines.run().await });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tasks.join_next() => continue,
        };
        match accepted {
            Ok((socket, _)) => {
                tasks.spawn(http::serve_connection(Arc::clone(&server), socket));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: SimConfig,
    pub(crate) engines: Arc<Engines>,
    pub(crate) faults: Faults,
    pub(crate) log: Arc<RequestLog>,
    pub(crate) responses: Store,
    /// Closed when the server is killed.
    life: watch::Receiver<()>,
    started: SystemTime,
    ids: AtomicU64,
    rejections: AtomicU64,
}

impl Server {
    fn new(config: SimConfig, life: watch::Receiver<()>) -> Self {
        Self {
            engines: Arc::new(Engines::new(&config)),
            config,
            faults: Faults::new(),
            log: Arc::default(),
            responses: Store::default(),
            life,
            started: SystemTime::now(),
            ids: AtomicU64::new(0),
            rejections: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_fault(&self, fault: Fault, count: Option<u32>) {
        self.faults.set(fault, count);
        self.engines.stand_still(self.faults.stops_engines());
    }

    /// vLLM's `check_admission`: bounds the requests in flight, running ones included.
    pub(crate) fn admit(&self, choices: usize) -> Result<(), ApiError> {
        let Load { running, waiting } = self.engines.load();
        match self.config.max_num_queued_reqs {
            Some(limit) if running + waiting + choices > limit => {
                self.rejections.fetch_add(1, Ordering::Relaxed);
                Err(ApiError::queue_full())
            }
            _ => Ok(()),
        }
    }

    /// Waits until the server is killed. For what outlives the HTTP connection that it came from.
    pub(crate) async fn killed(&self) {
        // Nothing is ever sent: what ends the wait is that the sender is gone.
        let _ = self.life.clone().changed().await;
    }

    pub(crate) fn rejections(&self) -> u64 {
        self.rejections.load(Ordering::Relaxed)
    }

    /// Seconds since 1970.
    pub(crate) fn unix_time(&self) -> u64 {
        since_1970(SystemTime::now()).as_secs()
    }

    /// When this server started, in seconds since 1970.
    pub(crate) fn started_at(&self) -> f64 {
        since_1970(self.started).as_secs_f64()
    }

    /// An id that no other server gives: vLLM's are random.
    pub(crate) fn fresh_id(&self, prefix: &str) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let birth = since_1970(self.started).as_nanos() as u64;
        format!("{prefix}{:016x}", mix(birth, number))
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
