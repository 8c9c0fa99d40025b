//! Which servers probably hold which beginnings of prompts, for all data threads together.
//!
//! One lock: what is done under it are some tens of look-ups in memory, microseconds in all, and
//! never anything that waits. Each thread for itself would not know where a conversation went that
//! came in on another's connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mvllm_core::prefix::{Held, PrefixIndex};
use mvllm_core::prompt::Prompt;
use mvllm_core::snapshot::{ServerKey, Snapshot};

#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    index: Mutex<PrefixIndex>,
}

impl Prefixes {
    /// How much of the prompt each server holds.
    pub(crate) fn held(&self, prompt: &Prompt) -> Held {
        self.index().held(prompt)
    }

    /// The prompt goes to `server`.
    pub(crate) fn enter(&self, server: ServerKey, prompt: &Prompt) {
        self.index().enter(server, prompt);
    }

    /// The server is another process: its cache is empty.
    pub(crate) fn forget(&self, server: ServerKey) {
        self.index().forget(server);
    }

    /// The servers there are, with what fits into their caches.
    pub(crate) fn keep(&self, caches: &[(ServerKey, Option<u64>)]) {
        self.index().keep(caches.iter().copied());
    }

    fn index(&self) -> MutexGuard<'_, PrefixIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers of the fleet and the tokens that fit into their KV caches, as far as they tell.
pub(crate) fn caches(fleet: &Snapshot) -> Vec<(ServerKey, Option<u64>)> {
    let kv_tokens = fleet.servers.iter().map(|server| server.reading?.kv_tokens);
    fleet.servers.iter().map(|server| server.key).zip(kv_tokens).collect()
}
