//! The data path: from a client's connection to a server's, and back.

mod asked;
mod attempt;
mod body;
mod client_io;
mod connections;
mod cors;
mod data_thread;
mod decline;
mod defeat;
mod delivery;
mod dispatch;
mod explain;
mod headers;
mod holders;
mod kept;
mod pace;
mod quarantine;
mod refuse;
mod relay;
mod reply;
mod request_id;
mod resume;
mod retry_after;
mod scribed;
mod service;
mod silence;
mod stream;
mod threads;
mod upgrade;

pub(crate) use data_thread::{DataThread, Safeguards};
pub(crate) use refuse::{REASONS, Refused};
pub(crate) use reply::Reply;
pub(crate) use threads::DataThreads;
