//! Carrying a streamed answer on at another server after its own has died.
//!
//! [`Terms`] say, from the request alone, whether that is possible and in which way. A [`Scribe`]
//! follows the events on their way to the client and keeps a transcript of what was said. When
//! the server dies, [`Scribe::resumption`] says what to ask of another server; the scribe then
//! turns that server's events into those that the client would have got from the first.
//!
//! The way that gives the very same answer goes by token ids (`return_token_ids` in vLLM's
//! `chat_completion/protocol.py` and `completion/protocol.py`): the prompt's and the answer's, as
//! one prompt of `/v1/completions`. By text the answer so far is tokenised anew, and where the
//! tokens at the seam come out differently the answer goes on differently.

mod align;
mod event;
mod frame;
mod render;
mod resume;
mod scribe;
mod terms;
mod transcript;

pub use align::{Alignment, Step};
pub use resume::{Continued, Cut, Resumption, Seam, Tokenized, detokenized};
pub use scribe::{Passed, Scribe};
pub use terms::{Api, Terms, with_ids_asked_for};

/// How an answer may be carried on: `continue_streams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By token ids, which the server is asked for; by text where it gives none.
    Exact,
    /// By text.
    Text,
    /// Not at all.
    Off,
}

#[cfg(test)]
mod tests;
