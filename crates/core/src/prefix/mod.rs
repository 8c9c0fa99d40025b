//! Which servers probably hold the KV cache of which beginnings of prompts.
//!
//! vLLM does not say (its KV events are off by default, and cannot show a prefix that is still in
//! the queue). But the cache holds what was sent there: so a prompt is entered when it is sent, and
//! forgotten in the order in which vLLM evicts (`v1/core/block_pool.py`): least recently used
//! first, the end of a prompt before its beginning, as many tokens as fit.
//!
//! Hashes are kept for every fourth block only ([`STRIDE`]). That bounds the memory to about one
//! byte for each token of a server's KV cache (a hash in a list, 16 bytes; its place there, up to
//! 32; its holders, 16 for up to 64 servers; all for 64 tokens), and costs 32 tokens of a match in
//! the mean: 3 ms of an A100.

mod shelf;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use crate::prompt::{BLOCK_TOKENS, Prompt};
use crate::snapshot::ServerKey;
use shelf::Shelf;

/// Every so many blocks one is kept: see above.
const STRIDE: usize = 4;

/// Tokens that one kept hash stands for.
const MARK_TOKENS: u32 = STRIDE as u32 * BLOCK_TOKENS;

/// The KV cache of a server that does not tell its size: that of an 8B model on an 80 GB
/// accelerator, in round figures.
const DEFAULT_KV_TOKENS: u64 = 400_000;

/// No server is taken to hold more: some 16 MB of memory. The largest KV caches on one address
/// today have a few million tokens.
const KV_TOKENS_MAX: u64 = 16_000_000;

/// Servers in one word of a mask.
const GROUP: usize = 64;

/// Which servers hold what. Bounded by their KV caches, whatever is sent.
#[derive(Debug, Default)]
pub struct PrefixIndex {
    slots: BTreeMap<ServerKey, usize>,
    /// By slot; `None` is free for a new server.
    shelves: Vec<Option<Shelf>>,
    groups: Vec<Group>,
}

/// For [`GROUP`] slots, who holds a hash.
type Group = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

/// How much of one prompt each server holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(Vec<(ServerKey, u32)>);

impl Held {
    /// Tokens of the prompt in the KV cache of `server`, probably.
    pub fn tokens_at(&self, server: ServerKey) -> u32 {
        let found = self.0.binary_search_by_key(&server, |(key, _)| *key);
        found.map_or(0, |at| self.0[at].1)
    }
}

impl PrefixIndex {
    /// These servers there are from now on, with the tokens of their KV caches as far as told.
    /// All others are forgotten.
    pub fn keep(&mut self, servers: impl IntoIterator<Item = (ServerKey, Option<u64>)>) {
        let mut former = core::mem::take(&mut self.slots);
        let mut newcomers = Vec::new();
        for (key, kv_tokens) in servers {
            let capacity = capacity(kv_tokens);
            match former.remove(&key) {
                None => newcomers.push((key, capacity)),
                Some(slot) => {
                    self.slots.insert(key, slot);
                    self.empty(slot, capacity);
                }
            }
        }
        for slot in former.into_values() {
            self.empty(slot, 0);
            self.shelves[slot] = None;
        }
        for (key, capacity) in newcomers {
            let slot = self.vacant_slot();
            self.shelves[slot] = Some(Shelf::new(capacity));
            self.slots.insert(key, slot);
        }
    }

    /// The server has lost its KV cache: it is another process.
    pub fn forget(&mut self, server: ServerKey) {
        if let Some(slot) = self.slots.get(&server).copied() {
            let capacity = self.shelves[slot].as_ref().map_or(0, Shelf::capacity);
            self.empty(slot, 0);
            self.shelves[slot] = Some(Shelf::new(capacity));
        }
    }

    /// The prompt is sent to `server`, and so will be in its KV cache.
    pub fn enter(&mut self, server: ServerKey, prompt: &Prompt) {
        let Some(&slot) = self.slots.get(&server) else { return };
        let Some(shelf) = &mut self.shelves[slot] else { return };
        let (group, bit) = (&mut self.groups[slot / GROUP], 1 << (slot % GROUP));
        // From its end on, so that its beginning is what was used last.
        for mark in (0..marks(prompt)).rev() {
            let hash = mark_at(prompt, mark);
            if shelf.touch(hash) {
                continue;
            }
            if shelf.is_full()
                && let Some(evicted) = shelf.evict()
            {
                take_out(group, evicted, bit);
            }
            if shelf.add(hash) {
                *group.entry(hash).or_default() |= bit;
            }
        }
    }

    /// How much of the prompt each server holds.
    pub fn held(&self, prompt: &Prompt) -> Held {
        let mut depths = alloc::vec![0; self.shelves.len()];
        for (group, depths) in self.groups.iter().zip(depths.chunks_mut(GROUP)) {
            Search { group, prompt, depths }.run();
        }
        let held = self.slots.iter().filter(|(_, slot)| depths[**slot] > 0);
        Held(held.map(|(key, slot)| (*key, depths[*slot] * MARK_TOKENS)).collect())
    }

    /// Hashes kept, each counted for each server that holds it.
    pub fn len(&self) -> usize {
        self.shelves.iter().flatten().map(Shelf::len).sum()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what a server holds above `capacity`.
    fn empty(&mut self, slot: usize, capacity: usize) {
        let Some(shelf) = &mut self.shelves[slot] else { return };
        let (group, bit) = (&mut self.groups[slot / GROUP], 1 << (slot % GROUP));
        shelf.set_capacity(capacity);
        while shelf.len() > capacity
            && let Some(evicted) = shelf.evict()
        {
            take_out(group, evicted, bit);
        }
    }

    fn vacant_slot(&mut self) -> usize {
        let slot = self.shelves.iter().position(Option::is_none).unwrap_or(self.shelves.len());
        if slot == self.shelves.len() {
            self.shelves.push(None);
        }
        if slot / GROUP == self.groups.len() {
            self.groups.push(Group::default());
        }
        slot
    }
}

fn capacity(kv_tokens: Option<u64>) -> usize {
    let tokens = kv_tokens.unwrap_or(DEFAULT_KV_TOKENS).min(KV_TOKENS_MAX);
    (tokens / u64::from(MARK_TOKENS)) as usize
}

fn take_out(group: &mut Group, hash: u64, bit: u64) {
    if let hashbrown::hash_map::Entry::Occupied(mut holders) = group.entry(hash) {
        *holders.get_mut() &= !bit;
        if *holders.get() == 0 {
            holders.remove();
        }
    }
}

/// The number of hashes that are kept of a prompt.
fn marks(prompt: &Prompt) -> usize {
    prompt.blocks.len() / STRIDE
}

fn mark_at(prompt: &Prompt, mark: usize) -> u64 {
    prompt.blocks[mark * STRIDE + STRIDE - 1]
}

/// Finds for each server of a group how many marks of a prompt it holds from the beginning on.
///
/// Who holds a mark nearly always holds those before it, since they are evicted later. So where the
/// same servers hold a mark and a later one, what lies between is not looked at: the cost grows
/// with the number of different depths, and with the length of the prompt only by its logarithm.
struct Search<'a> {
    group: &'a Group,
    prompt: &'a Prompt,
    depths: &'a mut [u32],
}

impl Search<'_> {
    fn run(mut self) {
        let marks = marks(self.prompt);
        if marks > 0 {
            let holders = self.holders(0);
            self.narrow(1, marks + 1, holders, 0);
        }
    }

    fn holders(&self, mark: usize) -> u64 {
        self.group.get(&mark_at(self.prompt, mark)).copied().unwrap_or(0)
    }

    /// The servers of `at_least` hold `low` marks or more, and those of `more` of these hold `high`.
    fn narrow(&mut self, low: usize, high: usize, at_least: u64, more: u64) {
        let open = at_least & !more;
        if open == 0 {
            return;
        }
        if high - low == 1 {
            for slot in (0..GROUP).filter(|slot| open >> slot & 1 == 1) {
                self.depths[slot] = low as u32;
            }
            return;
        }
        let middle = low.midpoint(high);
        let holders = at_least & (self.holders(middle - 1) | more);
        self.narrow(low, middle, at_least, holders);
        self.narrow(middle, high, holders, more);
    }
}

/// The keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
