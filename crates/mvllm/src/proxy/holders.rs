//! Which server holds a stored response: learnt from the answers that pass, and gone with this
//! process. What is not known here is asked of one server after the other.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mvllm_core::prompt::hash;
use mvllm_core::snapshot::ServerKey;

/// The latest so many are known, in some 4 MiB. vLLM itself forgets nothing until it is stopped,
/// but clients go on from a response within minutes.
const KNOWN_MAX: usize = 100_000;

/// Who holds what, for all data threads.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    known: Mutex<Known>,
}

/// By the hash of the id: two ids with one hash are as good as never met, and then a server says
/// that it does not have the second.
#[derive(Debug, Default)]
struct Known {
    servers: HashMap<u64, ServerKey>,
    /// In the order in which they became known.
    order: VecDeque<u64>,
}

impl Holders {
    /// Notes that `server` has given the response of this id.
    pub(super) fn note(&self, id: &str, server: ServerKey) {
        let mut known = self.known();
        let Known { servers, order } = &mut *known;
        match servers.entry(hash(id.as_bytes())) {
            Entry::Occupied(mut holder) => *holder.get_mut() = server,
            Entry::Vacant(place) => {
                order.push_back(*place.key());
                place.insert(server);
            }
        }
        if order.len() > KNOWN_MAX
            && let Some(oldest) = order.pop_front()
        {
            servers.remove(&oldest);
        }
    }

    /// Who has given the response of this id.
    pub(super) fn of(&self, id: &str) -> Option<ServerKey> {
        self.known().servers.get(&hash(id.as_bytes())).copied()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_holder_is_known_and_the_oldest_ids_are_let_go() {
        let holders = Holders::default();
        assert_eq!(holders.of("resp"), None);
        holders.note("resp", ServerKey::nth(1));
        holders.note("resp", ServerKey::nth(2));
        assert_eq!(holders.of("resp"), Some(ServerKey::nth(2)));
        for nth in 0..KNOWN_MAX {
            holders.note(&format!("resp_{nth}"), ServerKey::nth(3));
        }
        assert_eq!(holders.of("resp"), None);
        assert_eq!(holders.of("resp_0"), Some(ServerKey::nth(3)));
        assert_eq!(holders.known().servers.len(), KNOWN_MAX);
    }
}
