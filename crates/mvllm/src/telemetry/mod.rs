//! What mvllm says about itself.

pub(crate) mod logs;
