//! Connections to servers: HTTP/1.1, kept alive, one request at a time on each.

mod connect;
mod pool;
mod target;
mod tls;

pub(crate) use connect::{Connection, connect};
pub(crate) use pool::{Lease, Pool};
pub(crate) use target::Target;
