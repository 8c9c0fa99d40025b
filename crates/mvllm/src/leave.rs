//! Leaving in good order: no request is refused that somebody still sends here, none is broken off
//! that can be finished in time, and nobody waits longer than needed.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::config::Tuning;
use crate::listen::{accept_forever, accept_the_rest};
use crate::proxy::DataThreads;
use crate::supervisor;

/// What is still waited for is told when somebody may begin to wonder, and then now and again.
const FIRST_WORD_AFTER: Duration = Duration::from_secs(1);
const WORD_EVERY: Duration = Duration::from_secs(5);

/// Who wants the router to leave, which decides how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGTERM. Load balancers do not know yet, and need time to see it.
    Supervisor,
    /// Ctrl-C or `q`: somebody sits there and waits.
    Person,
    /// Another process accepts on the socket from now on. Nobody waits for this one to end.
    Relieved,
}

/// How far the router has come in leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Whoever asks is answered, and told to ask elsewhere the next time.
    LastRequests,
    /// Connections that are idle are closed, the others after what is under way on them.
    Closing,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Finished,
    /// Time was up with so many requests under way.
    BrokenOff(usize),
    /// Told again, somebody did not want to wait.
    AtOnce,
}

/// What leaving takes.
pub(crate) struct Leaving<'a> {
    pub(crate) threads: DataThreads,
    pub(crate) stage: &'a watch::Sender<Stage>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) tuning: &'a Tuning,
    /// How many requests are under way.
    pub(crate) under_way: &'a dyn Fn() -> usize,
    /// The one that came first, in words.
    pub(crate) oldest: &'a dyn Fn() -> Option<String>,
    /// Tells a person what is waited for.
    pub(crate) tell: &'a dyn Fn(&str),
}

impl Leaving<'_> {
    /// Leaves as `order` wants it; a later order can only make it quicker.
    pub(crate) async fn by(mut self, order: Order, listener: TcpListener) -> Left {
        let begun = Instant::now();
        let limit = self.limit(order);
        let grace = self.grace(order).min(limit);
        info!("{}", announcement(order, grace, limit));
        self.stage.send_replace(Stage::LastRequests);
        let mut closing = begun + grace;
        match order {
            Order::Supervisor => {
                supervisor::is_stopping();
                let again = tokio::select! {
                    () = accept_forever(&listener, &self.threads) => None,
                    () = sleep_until(closing) => None,
                    again = self.orders.recv() => again,
                };
                accept_the_rest(listener, &self.threads);
                if again.is_some() {
                    return Left::AtOnce;
                }
            }
            Order::Person => {
                supervisor::is_stopping();
                accept_the_rest(listener, &self.threads);
                closing = begun;
            }
            // What waits to be accepted is the other process's.
            Order::Relieved => drop(listener),
        }
        self.threads.take_no_more();
        self.finish(order, closing, begun + limit).await
    }

    async fn finish(mut self, mut order: Order, mut closing: Instant, mut end: Instant) -> Left {
        let mut word = Instant::now() + FIRST_WORD_AFTER;
        loop {
            let closed = *self.stage.borrow() == Stage::Closing;
            tokio::select! {
                () = self.threads.finished() => {
                    info!("all requests are done");
                    return Left::Finished;
                }
                Some(again) = self.orders.recv() => {
                    if order != Order::Relieved {
                        return Left::AtOnce;
                    }
                    // Nobody waited so far; now somebody does.
                    order = again;
                    closing = Instant::now();
                    end = end.min(closing + self.limit(order));
                }
                () = sleep_until(closing), if !closed => drop(self.stage.send_replace(Stage::Closing)),
                () = sleep_until(end) => {
                    let count = (self.under_way)();
                    warn!("time is up with {}: breaking off", requests(count));
                    return Left::BrokenOff(count);
                }
                () = sleep_until(word) => {
                    word += WORD_EVERY;
                    let left = end.saturating_duration_since(Instant::now()).as_secs();
                    let oldest = (self.oldest)().map(|oldest| format!(" (the first: {oldest})"));
                    let text = format!(
                        "leaving: waiting for {}{}, {left} s at most; Ctrl-C ends it at once",
                        requests((self.under_way)()),
                        oldest.unwrap_or_default(),
                    );
                    info!("{text}");
                    (self.tell)(&text);
                }
            }
        }
    }

    /// How long it may take altogether.
    fn limit(&self, order: Order) -> Duration {
        match order {
            Order::Supervisor | Order::Person => self.tuning.shutdown_timeout,
            Order::Relieved => self.tuning.takeover_timeout,
        }
    }

    /// How long clients may go on asking.
    fn grace(&self, order: Order) -> Duration {
        match order {
            Order::Supervisor | Order::Relieved => self.tuning.shutdown_grace,
            Order::Person => Duration::ZERO,
        }
    }
}

fn announcement(order: Order, grace: Duration, limit: Duration) -> String {
    match order {
        Order::Supervisor => format!(
            "leaving: not ready any more, and no new connections after {grace:?}; requests under way \
             have {limit:?} to finish"
        ),
        Order::Person => {
            format!("leaving: no new connections; requests under way have {limit:?} to finish")
        }
        Order::Relieved => format!(
            "leaving: another process has taken over; requests under way have {limit:?} to finish"
        ),
    }
}

fn requests(count: usize) -> String {
    match count {
        1 => "1 request under way".to_owned(),
        count => format!("{count} requests under way"),
    }
}
