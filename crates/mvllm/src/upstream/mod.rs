//! Connections to servers: HTTP/1.1, kept alive, one request at a time on each.

mod ask;
mod connect;
mod credentials;
mod driven;
mod names;
mod pool;
mod target;
mod tls;

pub(crate) use ask::{AskError, Question, ask, ask_over};
pub(crate) use connect::{ConnectError, Connection, connect, connect_driven};
pub(crate) use driven::{IncomingAnswer, NoAnswer};
pub(crate) use pool::{Lease, Pool};
pub(crate) use target::Target;
