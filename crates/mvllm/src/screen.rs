//! The monitor beside the router in this process: what it is shown, and what becomes of its orders.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use mvllm_core::fleet::Event;
use mvllm_core::snapshot::Admission;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::board::Board;
use crate::leave::Order;
use crate::monitor::{self, AdminCommand, AdminError, AdminOrder, Ended, Options, Source, Verb};
use crate::status::StatusReport;

/// Orders that wait to be carried out; each is a person's key.
const ORDERS: usize = 4;

/// What a person sees of a running router.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Screen {
    /// Log lines.
    Lines,
    /// The fullscreen monitor.
    Monitor(Options),
}

/// The monitor on the screen.
#[derive(Debug)]
pub(crate) struct Shown {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Screen {
    /// The monitor, if there is a terminal to draw on and lines are not asked for.
    pub(crate) fn chosen(lines: bool, options: Options) -> Self {
        let terminals = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        if lines || !terminals { Self::Lines } else { Self::Monitor(options) }
    }

    /// Shows the monitor, if it is to be. Whoever quits it orders the router to leave.
    pub(crate) fn show(
        self,
        reports: watch::Receiver<Arc<StatusReport>>,
        news: mpsc::Sender<Event>,
        board: Arc<Board>,
        leave: mpsc::Sender<Order>,
    ) -> Option<Shown> {
        let Self::Monitor(options) = self else { return None };
        let (orders, orders_in) = mpsc::channel(ORDERS);
        tokio::spawn(carry_out(orders_in, news, board));
        let (close, closed) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let closed = async { drop(closed.await) };
            match monitor::run(Source::Local { reports, orders }, options, closed).await {
                // An order that does not fit has others before it.
                Ok(Ended::ByPerson) => drop(leave.try_send(Order::Person)),
                Ok(Ended::ByShutdown) => {}
                Err(error) => {
                    warn!("no monitor any more: {error}");
                    // There may be nobody left to read it.
                    let _ = writeln!(std::io::stderr(), "{error}; the router goes on");
                }
            }
        });
        Some(Shown { close, task })
    }
}

impl Shown {
    /// Gives the terminal back.
    pub(crate) async fn close(self) {
        drop(self.close);
        // A panic has been told on the way.
        let _ = self.task.await;
    }
}

async fn carry_out(
    mut orders: mpsc::Receiver<AdminOrder>,
    news: mpsc::Sender<Event>,
    board: Arc<Board>,
) {
    while let Some(AdminOrder { command: AdminCommand { verb, url }, answer }) = orders.recv().await
    {
        let is_known = board.read().fleet.servers.iter().any(|server| *server.spec.url == *url);
        let admission = match verb {
            Verb::Cordon => Admission::Cordoned,
            Verb::Drain => Admission::Draining,
            Verb::Uncordon => Admission::Open,
        };
        let outcome = if !is_known {
            Err(AdminError::UnknownServer)
        } else if news.send(Event::Admission(url.into(), admission)).await.is_err() {
            Err(AdminError::RouterStopped)
        } else {
            Ok(())
        };
        // Nobody waits for it if the monitor has just been closed.
        let _ = answer.send(outcome);
    }
}
