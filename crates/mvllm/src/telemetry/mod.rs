//! What mvllm says about itself.

pub(crate) mod access;
pub(crate) mod events;
mod files;
mod local_time;
pub(crate) mod logs;
mod outbox;
