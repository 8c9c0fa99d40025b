//! The listening socket, passed from one process to the next.
//!
//! It is the same socket all the time, so the connections that wait to be accepted wait on, and
//! whoever accepts next gets them. `SO_REUSEPORT` would give each process a socket and a queue of
//! its own, and what waits in the queue of the one that leaves is reset (Linux moves it to another
//! one only where `net.ipv4.tcp_migrate_req` is set, which it is not by default).
//!
//! * [`offer`]: the running process's side.
//! * [`succession`]: the side of the one that takes over.
//! * [`activation`]: a socket that systemd holds.

pub(crate) mod activation;
mod offer;
mod peer;
mod readiness;
mod succession;

use std::io;
use std::net::{SocketAddr, TcpListener};

pub(crate) use offer::Offer;
pub(crate) use readiness::fleet_is_known;
pub(crate) use succession::{Predecessor, TakeoverError, take_over};

use mvllm_core::snapshot::Admission;
use serde::{Deserialize, Serialize};

/// Where clients come in.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) listener: TcpListener,
    pub(crate) origin: Origin,
}

/// How the socket came to this process.
#[derive(Debug)]
pub(crate) enum Origin {
    /// It was opened here: nobody else has it, so clients get no connection until now.
    Opened,
    /// From systemd, which keeps it, too.
    Activated,
    /// From a process that goes on accepting until it is told.
    TakenOver(Predecessor),
}

impl Entrance {
    pub(crate) fn opened(listener: TcpListener) -> Self {
        Self { listener, origin: Origin::Opened }
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What the next process is to know beside the socket. Everything else it finds out by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Estate {
    /// Servers that the operator has closed to new requests, by url.
    pub(crate) closed: Vec<(String, Closure)>,
}

/// An [`Admission`] that is not open, in words that another version understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Closure {
    Cordoned,
    Draining,
}

impl Closure {
    pub(crate) fn of(admission: Admission) -> Option<Self> {
        match admission {
            Admission::Open => None,
            Admission::Cordoned => Some(Self::Cordoned),
            Admission::Draining => Some(Self::Draining),
        }
    }
}

impl From<Closure> for Admission {
    fn from(closure: Closure) -> Self {
        match closure {
            Closure::Cordoned => Self::Cordoned,
            Closure::Draining => Self::Draining,
        }
    }
}
