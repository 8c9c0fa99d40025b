//! The whole program, wired together. Only this module knows all the others.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use crate::board::Board;
use crate::clock::Clock;
use crate::config::{Loaded, Settings, WatchEvent, watch as watch_file};
use crate::fleet::FleetTask;
use crate::handover::Entrance;
use crate::leave::{Left, Order};
use crate::proxy::{DataThread, DataThreads, Safeguards};
use crate::screen::Screen;
use crate::status::Collector;
use crate::stay::Stay;
use crate::telemetry::events::RecentEvents;
use crate::traffic::Traffic;

/// News that may wait for the fleet task. When more has piled up, observers wait, and data threads
/// go on without telling.
const INBOX: usize = 1024;

/// Orders to leave that wait to be looked at; the second says all that any further could.
pub(crate) const ORDERS: usize = 4;

/// A router, ready to run.
#[derive(Debug)]
pub(crate) struct App {
    entrance: Entrance,
    config_path: Arc<Path>,
    loaded: Loaded,
    events: RecentEvents,
    screen: Screen,
    seed: u64,
}

/// What the outside world may tell a running router.
#[derive(Debug)]
pub(crate) struct Signals {
    /// Finish what is under way, and end.
    pub(crate) leave: mpsc::Receiver<Order>,
    /// For those inside who may order the same.
    pub(crate) leaving: mpsc::Sender<Order>,
    /// Look at the configuration now.
    pub(crate) reload: Arc<Notify>,
}

impl App {
    /// A router for the servers of `loaded`, which was read from `config_path`. `events` are shown
    /// to whoever looks at its status; `seed` decides ties.
    pub(crate) fn new(
        entrance: Entrance,
        config_path: Arc<Path>,
        loaded: Loaded,
        events: RecentEvents,
        screen: Screen,
        seed: u64,
    ) -> Self {
        Self { entrance, config_path, loaded, events, screen, seed }
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.entrance.address()
    }

    /// Runs until told to leave. On a current-thread runtime, which then is the control thread;
    /// requests have threads of their own.
    pub(crate) async fn run(self, signals: Signals) -> io::Result<Left> {
        let clock = Clock::start();
        let settings = Arc::new(self.loaded.settings.clone());
        let board = Arc::new(Board::new(Arc::clone(&settings)));
        let (configure, new_settings) = mpsc::channel(1);
        let (news, events_in) = mpsc::channel(INBOX);
        let traffic = Arc::new(Traffic::default());
        let mut collector =
            Collector::new(Arc::clone(&board), Arc::clone(&traffic), self.events, clock);
        let (reports, status) = watch::channel(Arc::new(collector.report()));
        tokio::spawn(collector.run(reports));
        let safeguards = Arc::<Safeguards>::default();
        let state = |nth| {
            let (board, traffic) = (Arc::clone(&board), Arc::clone(&traffic));
            let (status, news) = (status.clone(), news.clone());
            let safeguards = Arc::clone(&safeguards);
            DataThread::new(board, clock, traffic, status, news, safeguards, self.seed ^ nth)
        };
        let count = data_threads(settings.tuning.data_threads);
        let threads = DataThreads::start(
            (0..count).map(state).collect(),
            Arc::clone(&board),
            Arc::clone(&traffic),
        )?;
        let fleet = FleetTask::new(settings, Arc::clone(&board), clock, news.clone());
        tokio::spawn(fleet.run(new_settings, events_in));
        let (events, file_events) = mpsc::channel(1);
        tokio::spawn(watch_file(self.config_path, self.loaded, signals.reload, events));
        tokio::spawn(reload_forever(file_events, configure, Arc::clone(&board)));
        let shown = self.screen.show(status, news.clone(), Arc::clone(&board), signals.leaving);

        let stay = Stay { board, threads, traffic, clock };
        stay.through(self.entrance, signals.leave, news, shown).await
    }
}

/// As many as configured; 0 is one per core.
fn data_threads(configured: u32) -> u64 {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        count => count.into(),
    }
}

async fn reload_forever(
    mut events: mpsc::Receiver<WatchEvent>,
    configure: mpsc::Sender<Arc<Settings>>,
    board: Arc<Board>,
) {
    while let Some(event) = events.recv().await {
        match event {
            WatchEvent::Reloaded { ref settings, ref warnings, .. } => {
                match warnings.is_empty() {
                    true => info!("{event}"),
                    false => warn!("{event}"),
                }
                board.reloads.note_applied();
                let settings = Arc::clone(settings);
                if configure.send(settings).await.is_err() {
                    return;
                }
            }
            WatchEvent::Rejected(_) => {
                board.reloads.note_rejected();
                error!("{event}");
            }
            WatchEvent::Restored => {
                board.reloads.note_restored();
                info!("{event}");
            }
        }
    }
}
