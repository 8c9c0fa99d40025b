//! The data path: from a client's connection to a server's, and back.

mod attempt;
mod body;
mod connections;
mod cors;
mod data_thread;
mod dispatch;
mod headers;
mod refuse;
mod relay;
mod reply;
mod request_id;
mod service;
mod silence;
mod stream;
mod threads;
mod upgrade;

pub(crate) use data_thread::DataThread;
pub(crate) use refuse::{REASONS, Refused};
pub(crate) use reply::Reply;
pub(crate) use threads::DataThreads;
