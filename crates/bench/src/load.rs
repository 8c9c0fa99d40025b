//! Clients: what they send, and an account of what they get back.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::script::{Ask, Events, Wanted, whole};
use crate::wire::Wire;

/// A request that takes longer than this beyond what its answer takes is given up, and an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is answered with errors tries again after this long, so that errors do not make a busy loop.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// What all clients of one measurement have seen.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) requests: Cell<u64>,
    pub(crate) events: Cell<u64>,
    pub(crate) begun: Cell<u64>,
    pub(crate) errors: Cell<u64>,
    pub(crate) truncated: Cell<u64>,
    pub(crate) mismatched: Cell<u64>,
    pub(crate) latencies: RefCell<Vec<u32>>,
    pub(crate) over: Cell<bool>,
}

/// Adds to a figure of an account.
pub(crate) fn add(figure: &Cell<u64>, more: u64) {
    figure.set(figure.get() + more);
}

/// Where requests go, and how they are answered.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// One address of a router; those of all servers where there is none.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) events: Rc<Events>,
}

/// How one request fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Refused,
    Truncated,
    Mismatched,
}

impl Account {
    pub(crate) fn note(&self, fate: Fate, took: Duration) {
        match fate {
            Fate::Refused => return add(&self.errors, 1),
            Fate::Truncated => return add(&self.truncated, 1),
            // Some routers write every JSON text anew: a fault, and an answer all the same.
            Fate::Mismatched => add(&self.mismatched, 1),
            Fate::Answered => {}
        }
        add(&self.requests, 1);
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.latencies.borrow_mut().push(micros);
    }

    /// What was counted so far counts no more, but for what went wrong.
    pub(crate) fn begin_anew(&self) {
        self.requests.set(0);
        self.events.set(0);
        self.latencies.borrow_mut().clear();
    }
}

impl Place {
    pub(crate) async fn connect(&self, nth: usize) -> io::Result<Wire> {
        let address = self.addresses[nth % self.addresses.len()];
        Wire::new(TcpStream::connect(address).await?)
    }

    /// Sends `ask` and checks each byte of the answer's body. The connection may be used again if
    /// the request was answered.
    pub(crate) async fn request(&self, wire: &mut Wire, ask: &Ask, account: &Account) -> Fate {
        let length = match ask.wanted {
            Wanted::Whole => Duration::ZERO,
            Wanted::Stream { events, pace_micros } => {
                Duration::from_micros(pace_micros * events as u64)
            }
        };
        timeout(PATIENCE + length, self.exchange(wire, ask, account))
            .await
            .unwrap_or(Ok(Fate::Truncated))
            .unwrap_or(Fate::Truncated)
    }

    async fn exchange(&self, wire: &mut Wire, ask: &Ask, account: &Account) -> io::Result<Fate> {
        wire.send(&ask.bytes).await?;
        let Some(head) = wire.head().await? else { return Ok(Fate::Truncated) };
        if head.first.split(' ').nth(1) != Some("200") {
            wire.whole(head.body).await?;
            return Ok(Fate::Refused);
        }
        let Wanted::Stream { events, .. } = ask.wanted else {
            let body = wire.whole(head.body).await?;
            let as_due = body == whole(ask.digest).as_bytes();
            return Ok(if as_due { Fate::Answered } else { Fate::Mismatched });
        };
        let (mut body, mut at, mut counted, mut as_due) = (head.body, 0, 0, true);
        while let Some(piece) = wire.piece(&mut body).await? {
            as_due &= self.events.have(events, at, wire.at(piece.clone()));
            at += piece.len();
            let now = self.events.within(at, events);
            if counted == 0 && now > 0 {
                add(&account.begun, 1);
            }
            add(&account.events, (now - counted) as u64);
            counted = now;
        }
        Ok(match (as_due, at == self.events.total(events)) {
            (false, _) => Fate::Mismatched,
            (true, false) => Fate::Truncated,
            (true, true) => Fate::Answered,
        })
    }

    /// Sends one of `asks` after the other over one connection, until the account is closed.
    pub(crate) async fn one_after_the_other(
        &self,
        nth: usize,
        asks: &mut impl FnMut() -> Rc<Ask>,
        account: &Account,
    ) {
        let mut kept = None;
        while !account.over.get() {
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => match self.connect(nth).await {
                    Ok(wire) => wire,
                    Err(_) => {
                        account.note(Fate::Refused, Duration::ZERO);
                        tokio::time::sleep(AFTER_ERROR).await;
                        continue;
                    }
                },
            };
            let ask = asks();
            let begun = Instant::now();
            let fate = self.request(&mut wire, &ask, account).await;
            account.note(fate, begun.elapsed());
            match fate {
                Fate::Answered | Fate::Mismatched => kept = Some(wire),
                Fate::Refused | Fate::Truncated => tokio::time::sleep(AFTER_ERROR).await,
            }
        }
    }
}
