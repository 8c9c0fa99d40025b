//! From the first connection to the last: begin to accept when that makes sense, go on until
//! somebody says to leave, and leave.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mvllm_core::fleet::Event;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::board::Board;
use crate::clock::Clock;
use crate::handover::{Closure, Entrance, Estate, Offer, Origin, Predecessor, fleet_is_known};
use crate::leave::{Leaving, Left, Order};
use crate::listen::accept_forever;
use crate::proxy::DataThreads;
use crate::screen::Shown;
use crate::supervisor;
use crate::traffic::{Traffic, UnderWay};

/// What it takes.
pub(crate) struct Stay {
    pub(crate) board: Arc<Board>,
    pub(crate) threads: DataThreads,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) clock: Clock,
}

impl Stay {
    /// Accepts on `entrance` until told to leave, and then leaves. Gives the terminal back first.
    pub(crate) async fn through(
        self,
        entrance: Entrance,
        mut orders: mpsc::Receiver<Order>,
        news: mpsc::Sender<Event>,
        shown: Option<Shown>,
    ) -> io::Result<Left> {
        let address = entrance.address()?;
        let listener = TcpListener::from_std(entrance.listener)?;
        let order = tokio::select! {
            order = self.serve(&listener, address, entrance.origin, &news) => order,
            order = orders.recv() => order.unwrap_or(Order::Supervisor),
        };
        let was_shown = shown.is_some();
        if let Some(shown) = shown {
            shown.close().await;
        }
        let Self { board, threads, traffic, clock } = self;
        let tuning = board.read().settings.tuning.clone();
        let leaving = Leaving {
            threads,
            stage: &board.stage,
            orders,
            tuning: &tuning,
            under_way: &|| traffic.under_way.count(),
            oldest: &|| traffic.under_way.oldest(1).first().map(|oldest| describe(oldest, clock)),
            // Log lines are already where there was no monitor.
            tell: &|text| {
                if was_shown {
                    whisper(text);
                }
            },
        };
        Ok(leaving.by(order, listener).await)
    }

    /// Accepts, and never ends but by being relieved.
    async fn serve(
        &self,
        listener: &TcpListener,
        address: SocketAddr,
        origin: Origin,
        news: &mpsc::Sender<Event>,
    ) -> Order {
        let offer = match origin {
            Origin::Opened => None,
            Origin::Activated => {
                fleet_is_known(&self.board).await;
                None
            }
            Origin::TakenOver(predecessor) => {
                inherit(&predecessor.estate, news).await;
                fleet_is_known(&self.board).await;
                Some(predecessor)
            }
        };
        tokio::select! {
            () = accept_forever(listener, &self.threads) => Order::Supervisor,
            () = self.until_relieved(listener, address, offer) => Order::Relieved,
        }
    }

    /// Accepting has begun: says so to those who wait for it.
    async fn until_relieved(
        &self,
        listener: &TcpListener,
        address: SocketAddr,
        predecessor: Option<Predecessor>,
    ) {
        if let Some(predecessor) = predecessor {
            match predecessor.relieve().await {
                Ok(()) => {
                    info!("taken over: the process before this one only finishes what it has");
                }
                Err(error) => warn!("the process before this one may still accept: {error}"),
            }
        }
        supervisor::is_ready();
        match Offer::of(address) {
            Ok(offer) => offer.until_accepted(listener, || estate(&self.board)).await,
            Err(error) => {
                // Where it is impossible, nobody misses it.
                if error.kind() != io::ErrorKind::Unsupported {
                    warn!("no other process can take over from this one: {error}");
                }
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What the operator has ordered holds on.
async fn inherit(estate: &Estate, news: &mpsc::Sender<Event>) {
    for (url, closure) in &estate.closed {
        // An error means that the program is ending.
        let _ = news.send(Event::Admission(url.as_str().into(), (*closure).into())).await;
    }
}

fn estate(board: &Board) -> Estate {
    let published = board.read();
    let closed = published.fleet.servers.iter().filter_map(|server| {
        Closure::of(server.admission).map(|closure| (server.spec.url.to_string(), closure))
    });
    Estate { closed: closed.collect() }
}

fn describe(request: &UnderWay, clock: Clock) -> String {
    let (server, ..) = request.course();
    let seconds = clock.now().since(request.begun).as_secs();
    match server {
        Some(server) => format!("{} at {server}, {seconds} s old", request.path),
        None => format!("{}, {seconds} s old", request.path),
    }
}

/// To whoever has just quit the monitor.
fn whisper(text: &str) {
    // There may be nobody left to read it.
    let _ = writeln!(io::stderr(), "{text}");
}
