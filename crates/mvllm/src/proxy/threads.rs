//! The threads that move bytes. Each has a runtime of its own: a request stays on the thread that
//! was given its connection.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use super::connections::serve_connection;
use super::data_thread::DataThread;

/// How often idle connections are looked through.
const POOL_SWEEP: Duration = Duration::from_millis(500);

/// All data threads, and the means to end them.
#[derive(Debug)]
pub(crate) struct DataThreads {
    threads: Vec<Running>,
    leaving: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    inbox: mpsc::UnboundedSender<TcpStream>,
    /// One clone for each open connection, and one for the thread.
    connections: Arc<()>,
    handle: JoinHandle<()>,
}

impl DataThreads {
    pub(crate) fn start(states: Vec<DataThread>) -> io::Result<Self> {
        let leaving = watch::Sender::new(false);
        let threads = states
            .into_iter()
            .enumerate()
            .map(|(nth, state)| Running::start(nth, state, leaving.subscribe()))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads, leaving })
    }

    /// Hands a connection to the thread that has the fewest.
    pub(crate) fn hand_over(&self, stream: TcpStream) {
        let fewest =
            self.threads.iter().min_by_key(|thread| Arc::strong_count(&thread.connections));
        if let Some(thread) = fewest {
            // The thread ends after this does.
            let _ = thread.inbox.send(stream);
        }
    }

    /// Ends idle connections now, others after the request under way, and all of them after
    /// `grace`.
    pub(crate) async fn leave(self, grace: Duration) {
        self.leaving.send_replace(true);
        let handles: Vec<_> = self.threads.into_iter().map(|thread| thread.handle).collect();
        let all_done = timeout(grace, self.leaving.closed()).await.is_ok();
        if !all_done {
            warn!("requests are still open after {grace:?}: breaking them off");
            return;
        }
        for handle in handles {
            // A panic has been logged by the thread itself.
            let _ = handle.join();
        }
        info!("all requests are done");
    }
}

impl Running {
    fn start(nth: usize, state: DataThread, leaving: watch::Receiver<bool>) -> io::Result<Self> {
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let connections = Arc::new(());
        let counter = Arc::clone(&connections);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle =
            std::thread::Builder::new().name(format!("mvllm-data-{nth}")).spawn(move || {
                runtime.block_on(run(Arc::new(state), arrivals, counter, leaving));
            })?;
        Ok(Self { inbox, connections, handle })
    }
}

async fn run(
    thread: Arc<DataThread>,
    mut arrivals: mpsc::UnboundedReceiver<TcpStream>,
    counter: Arc<()>,
    leaving: watch::Receiver<bool>,
) {
    let mut sweep = interval(POOL_SWEEP);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some(stream) = arrival else { break };
                let (counted, leaving) = (Arc::clone(&counter), leaving.clone());
                let connection = serve_connection(Arc::clone(&thread), stream, leaving);
                let traffic = Arc::clone(&thread.traffic);
                traffic.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    connection.await;
                    traffic.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(counted);
                });
            }
            Some(_) = connections.join_next() => {}
            _ = sweep.tick() => {
                let limit = thread.board.read().settings.tuning.upstream_idle_timeout;
                thread.pool.close_idle(limit, thread.clock.now());
            }
        }
    }
    // No more will come. What is open holds a receiver each; this one is the thread's own.
    drop(leaving);
    while connections.join_next().await.is_some() {}
}
