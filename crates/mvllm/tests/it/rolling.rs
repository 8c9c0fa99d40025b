//! Everything is restarted, piece by piece, under load, and no client notices: the servers one
//! after the other, then the router, which passes its listening socket on.

mod activation;
mod takeover;
mod traffic;
