//! What the router can do, on real sockets: the program as it is shipped, run as a child process
//! before simulated servers, killed servers, and servers scripted to the byte.
//!
//! One binary for all, so that there is one link step. Tests wait for events ([`eventually`] is the
//! only place that polls), and every process that a test starts ends with it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod client;
mod eventually;
mod raw_server;
mod router;
mod sims;
mod wire;

mod cancel;
mod cli;
pub mod config_corpus;
mod contract;
mod credentials;
mod explain;
mod health;
mod leave;
mod limits;
mod load;
// Where the allocator gives memory back: see src/main.rs.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod memory;
mod models;
mod odd_answers;
mod operator;
mod policy;
mod progress;
mod ranks;
mod reload;
mod retry;
mod rolling;
mod room;
mod stored;
mod streaming;
mod survive;
mod tidy;
mod transparency;
