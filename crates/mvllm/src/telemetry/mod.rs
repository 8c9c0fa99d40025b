//! What mvllm says about itself.

pub(crate) mod events;
mod files;
pub(crate) mod logs;
