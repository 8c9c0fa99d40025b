//! The threads that move bytes. Each has a runtime of its own: a request stays on the thread that
//! was given its connection.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::connections::serve_connection;
use super::data_thread::DataThread;
use crate::board::Board;
use crate::machine;
use crate::traffic::{Member, Traffic};

/// How often idle connections are looked through.
const POOL_SWEEP: Duration = Duration::from_millis(500);

/// All data threads, and the means to end them.
#[derive(Debug)]
pub(crate) struct DataThreads {
    threads: Vec<Running>,
    /// Each thread has a sender, and drops it at its end.
    ended: mpsc::Receiver<Infallible>,
    board: Arc<Board>,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct Running {
    /// Holds no more than [`DataThreads::has_room`] lets in.
    inbox: mpsc::UnboundedSender<(TcpStream, Member)>,
    /// One clone for each open connection, and one for the thread.
    connections: Arc<()>,
}

impl DataThreads {
    pub(crate) fn start(
        states: Vec<DataThread>,
        board: Arc<Board>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let threads = states
            .into_iter()
            .enumerate()
            .map(|(nth, state)| Running::start(nth, state, alive.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads, ended, board, traffic })
    }

    /// How many connections of clients are open.
    pub(crate) fn connections(&self) -> usize {
        self.traffic.crowd.count()
    }

    /// Whether these are as many as there may be.
    pub(crate) fn is_full(&self) -> bool {
        let limit = match self.board.read().settings.tuning.max_connections {
            0 => machine::connections(),
            configured => configured as usize,
        };
        self.connections() >= limit
    }

    /// Waits until one more may come.
    pub(crate) async fn has_room(&self) {
        let mut changes = self.board.subscribe();
        while self.is_full() {
            tokio::select! {
                () = self.traffic.crowd.shrinks() => {}
                // There may be a new limit. An error means that the program is ending.
                _ = changes.changed() => {}
            }
        }
    }

    /// Hands a connection to the thread that has the fewest.
    pub(crate) fn hand_over(&self, stream: TcpStream) {
        let fewest =
            self.threads.iter().min_by_key(|thread| Arc::strong_count(&thread.connections));
        if let Some(thread) = fewest {
            // The thread ends after this does.
            let _ = thread.inbox.send((stream, self.traffic.crowd.join()));
        }
    }

    /// No connection will be handed over any more: a thread ends with its last one.
    pub(crate) fn take_no_more(&mut self) {
        self.threads.clear();
    }

    /// Waits until the last connection of all threads has ended. For after [`Self::take_no_more`].
    pub(crate) async fn finished(&mut self) {
        // Nothing is ever sent: what ends the wait is that the senders are gone.
        let _ = self.ended.recv().await;
    }
}

impl Running {
    fn start(nth: usize, state: DataThread, alive: mpsc::Sender<Infallible>) -> io::Result<Self> {
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let connections = Arc::new(());
        let counter = Arc::clone(&connections);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("mvllm-data-{nth}")).spawn(move || {
            runtime.block_on(run(Arc::new(state), arrivals, counter));
            drop(alive);
        })?;
        Ok(Self { inbox, connections })
    }
}

async fn run(
    thread: Arc<DataThread>,
    mut arrivals: mpsc::UnboundedReceiver<(TcpStream, Member)>,
    counter: Arc<()>,
) {
    let mut sweep = interval(POOL_SWEEP);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => {
                let Some((stream, member)) = arrival else { break };
                let counted = Arc::clone(&counter);
                let connection = serve_connection(Arc::clone(&thread), stream);
                connections.spawn(async move {
                    connection.await;
                    drop(member);
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
    // No more will come.
    while connections.join_next().await.is_some() {}
}
