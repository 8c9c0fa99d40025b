//! Peers that have gone without a word: power, network or process lost, and nothing that tells of
//! it. The kernel finds out, where it is told how long to wait.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// How long to believe in a silent peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Belief {
    /// Nothing is under way: when to ask for the first time.
    pub(crate) ask_after: Duration,
    /// And how often after that.
    pub(crate) ask_every: Duration,
    /// What was sent, or asked, is not acknowledged; or what is to be sent finds no room at the
    /// peer. The connection ends after this.
    pub(crate) end_after: Duration,
}

/// Has the kernel end the connection of a peer that is gone.
pub(crate) fn find_out<S: AsFd>(socket: &S, belief: Belief) -> io::Result<()> {
    let Belief { ask_after, ask_every, end_after } = belief;
    let keepalive = TcpKeepalive::new().with_time(ask_after).with_interval(ask_every);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)?;
    end_unacknowledged(socket, u32::try_from(end_after.as_millis()).unwrap_or(u32::MAX))
}

#[cfg(target_os = "linux")]
fn end_unacknowledged<S: AsFd>(socket: &S, after_millis: u32) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_user_timeout(socket, after_millis)?)
}

/// Elsewhere the system's own patience counts.
#[cfg(not(target_os = "linux"))]
fn end_unacknowledged<S: AsFd>(_: &S, _: u32) -> io::Result<()> {
    Ok(())
}
