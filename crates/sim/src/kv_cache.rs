//! The KV cache: a pool of blocks, full ones kept under the hash of everything up to them.
//!
//! As in vLLM (`v1/core/block_pool.py`), a block that nobody refers to stays matchable until it is
//! needed for something else, least recently used first. A request gives its blocks back last one
//! first, so the ends of prompts are lost before their beginnings.

use std::collections::HashMap;

use crate::tokenizer::Token;

/// Names a full block together with all that precedes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockHash(pub u64);

/// A block of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(u32);

/// The hashes of a growing token sequence's full blocks.
///
/// A partly filled block has no hash: vLLM matches and keeps only full ones.
#[derive(Clone, Debug)]
pub struct BlockChain {
    block_size: usize,
    blocks: Vec<BlockHash>,
    parent: u64,
    in_tail: usize,
}

impl BlockChain {
    /// An empty chain. Chains of different `salt` (model, LoRA adapter, `cache_salt`) never match.
    pub fn new(block_size: usize, salt: u64) -> Self {
        Self { block_size, blocks: Vec::new(), parent: mix(salt, 0), in_tail: 0 }
    }

    /// A chain over the hashes of a recorded trace, whose tokens are not known: it does not grow.
    pub fn of_hashes(blocks: Vec<BlockHash>) -> Self {
        Self { block_size: usize::MAX, blocks, parent: 0, in_tail: 0 }
    }

    /// Appends one token.
    pub fn push(&mut self, token: Token) {
        self.parent = mix(self.parent, u64::from(token.0) + 1);
        self.in_tail += 1;
        if self.in_tail == self.block_size {
            self.blocks.push(BlockHash(self.parent));
            self.in_tail = 0;
        }
    }

    /// The hashes of the full blocks so far.
    pub fn blocks(&self) -> &[BlockHash] {
        &self.blocks
    }
}

/// A round of SplitMix64's finaliser: cheap, and every input bit reaches every output bit.
pub(crate) fn mix(state: u64, value: u64) -> u64 {
    let mut z = state.rotate_left(23) ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A fixed number of blocks, shared by the requests of one engine.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<Block>,
    by_hash: HashMap<BlockHash, BlockId>,
    free: FreeQueue,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    holders: u32,
    hash: Option<BlockHash>,
}

impl KvCache {
    /// A pool of `capacity` empty blocks.
    pub fn new(capacity: u32) -> Self {
        Self {
            blocks: vec![Block::default(); capacity as usize],
            by_hash: HashMap::new(),
            free: FreeQueue::full(capacity),
        }
    }

    /// The number of blocks in the pool.
    pub fn capacity(&self) -> usize {
        self.blocks.len()
    }

    /// The number of blocks that no request holds, matchable ones included: as vLLM's
    /// `kv_cache_usage_perc`, a cached block without a holder counts as free.
    pub fn free_blocks(&self) -> usize {
        self.free.len
    }

    /// How many of the leading `hashes` are in the cache.
    pub fn matching(&self, hashes: &[BlockHash]) -> usize {
        hashes.iter().take_while(|hash| self.by_hash.contains_key(hash)).count()
    }

    /// Whether `hits` cached blocks and `new` empty ones could be held on top of what is held.
    pub fn fits(&self, hits: &[BlockHash], new: usize) -> bool {
        let idle = hits.iter().filter(|hash| self.is_idle(hash)).count();
        idle + new <= self.free.len
    }

    fn is_idle(&self, hash: &BlockHash) -> bool {
        self.by_hash.get(hash).is_some_and(|id| self.block(*id).holders == 0)
    }

    /// Takes hold of the cached blocks named by `hits`, in order. Hashes that are not in the
    /// cache end the list.
    pub fn hold_cached(&mut self, hits: &[BlockHash]) -> Vec<BlockId> {
        let mut held = Vec::with_capacity(hits.len());
        for hash in hits {
            let Some(&id) = self.by_hash.get(hash) else { break };
            if self.block(id).holders == 0 {
                self.free.unlink(id);
            }
            self.block_mut(id).holders += 1;
            held.push(id);
        }
        held
    }

    /// Takes `count` empty blocks onto the end of `held`, evicting the least recently used.
    /// Takes nothing and answers false if there are not enough.
    #[must_use]
    pub fn hold_new(&mut self, count: usize, held: &mut Vec<BlockId>) -> bool {
        if count > self.free.len {
            return false;
        }
        for _ in 0..count {
            let Some(id) = self.free.pop() else { break };
            if let Some(hash) = self.block_mut(id).hash.take() {
                self.by_hash.remove(&hash);
            }
            self.block_mut(id).holders = 1;
            held.push(id);
        }
        true
    }

    /// Makes a held block matchable. The first block under a hash stays the one that is matched;
    /// vLLM keeps both, which differs only in which copy is evicted.
    pub fn publish(&mut self, id: BlockId, hash: BlockHash) {
        if self.block(id).hash.is_none() && !self.by_hash.contains_key(&hash) {
            self.block_mut(id).hash = Some(hash);
            self.by_hash.insert(hash, id);
        }
    }

    /// Gives blocks back, the last one first (`single_type_kv_cache_manager.py`, `free`).
    pub fn release(&mut self, held: &mut Vec<BlockId>) {
        while let Some(id) = held.pop() {
            let block = self.block_mut(id);
            block.holders -= 1;
            if block.holders == 0 {
                self.free.push(id);
            }
        }
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }
}

/// Unheld blocks, least recently used first: a list linked through an array, because a hit takes a
/// block out of the middle.
#[derive(Debug)]
struct FreeQueue {
    links: Vec<Link>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

impl FreeQueue {
    /// The entry after the last block is the list's head and tail in one.
    fn full(capacity: u32) -> Self {
        let round = capacity + 1;
        let links = (0..round)
            .map(|i| Link { before: (i + capacity) % round, after: (i + 1) % round })
            .collect();
        Self { links, len: capacity as usize }
    }

    fn anchor(&self) -> u32 {
        self.links.len() as u32 - 1
    }

    fn pop(&mut self) -> Option<BlockId> {
        let first = BlockId(self.links[self.anchor() as usize].after);
        (self.len > 0).then(|| {
            self.unlink(first);
            first
        })
    }

    fn unlink(&mut self, BlockId(id): BlockId) {
        let Link { before, after } = self.links[id as usize];
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
        self.len -= 1;
    }

    fn push(&mut self, BlockId(id): BlockId) {
        let anchor = self.anchor();
        let last = self.links[anchor as usize].before;
        self.links[id as usize] = Link { before: last, after: anchor };
        self.links[last as usize].after = id;
        self.links[anchor as usize].before = id;
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(tokens: std::ops::Range<u32>) -> BlockChain {
        let mut chain = BlockChain::new(4, 0);
        tokens.for_each(|t| chain.push(Token(t)));
        chain
    }

    /// Fills `cache` with the chain's full blocks and lets them go.
    fn store(cache: &mut KvCache, chain: &BlockChain) {
        let mut held = Vec::new();
        assert!(cache.hold_new(chain.blocks().len(), &mut held));
        for (id, hash) in held.iter().zip(chain.blocks()) {
            cache.publish(*id, *hash);
        }
        cache.release(&mut held);
    }

    #[test]
    fn only_full_blocks_have_a_hash() {
        assert_eq!(chain(0..11).blocks().len(), 2);
        assert_eq!(chain(0..12).blocks().len(), 3);
    }

    #[test]
    fn a_block_hash_covers_everything_before_it() {
        let mut other = BlockChain::new(4, 0);
        [9, 1, 2, 3, 4, 5, 6, 7].into_iter().for_each(|t| other.push(Token(t)));
        assert_ne!(chain(0..8).blocks()[1], other.blocks()[1]);
        let mut salted = BlockChain::new(4, 1);
        (0..4).for_each(|t| salted.push(Token(t)));
        assert_ne!(chain(0..4).blocks()[0], salted.blocks()[0]);
    }

    #[test]
    fn released_blocks_stay_matchable() {
        let mut cache = KvCache::new(8);
        store(&mut cache, &chain(0..16));
        assert_eq!(cache.free_blocks(), 8);
        assert_eq!(cache.matching(chain(0..32).blocks()), 4);
    }

    #[test]
    fn the_end_of_a_prompt_is_evicted_before_its_beginning() {
        let mut cache = KvCache::new(4);
        store(&mut cache, &chain(0..16));
        let mut held = Vec::new();
        assert!(cache.hold_new(1, &mut held));
        assert_eq!(cache.matching(chain(0..16).blocks()), 3);
    }

    #[test]
    fn a_hit_saves_a_block_from_eviction() {
        let mut cache = KvCache::new(4);
        let (old, young) = (chain(0..8), chain(100..108));
        store(&mut cache, &old);
        store(&mut cache, &young);
        let mut hit = cache.hold_cached(old.blocks());
        cache.release(&mut hit);
        let mut held = Vec::new();
        assert!(cache.hold_new(2, &mut held));
        assert_eq!(cache.matching(old.blocks()), 2);
        assert_eq!(cache.matching(young.blocks()), 0);
    }

    #[test]
    fn a_held_block_is_never_evicted() {
        let mut cache = KvCache::new(2);
        store(&mut cache, &chain(0..4));
        let hit = cache.hold_cached(chain(0..4).blocks());
        assert_eq!(hit.len(), 1);
        let mut held = Vec::new();
        assert!(!cache.hold_new(2, &mut held));
        assert!(held.is_empty());
        assert!(!cache.fits(chain(0..4).blocks(), 2));
        assert!(cache.fits(chain(0..4).blocks(), 1));
    }

    proptest! {
        #[test]
        fn blocks_are_neither_lost_nor_held_beyond_the_pool(
            calls in proptest::collection::vec((0_u32..6, 0_u32..40, any::<bool>()), 1..80)
        ) {
            const CAPACITY: u32 = 12;
            let mut cache = KvCache::new(CAPACITY);
            let mut requests: Vec<Vec<BlockId>> = Vec::new();
            for (family, tokens, release) in calls {
                if release && !requests.is_empty() {
                    let mut held = requests.swap_remove(tokens as usize % requests.len());
                    cache.release(&mut held);
                } else {
                    let chain = chain(family * 100..family * 100 + tokens);
                    let hits = cache.matching(chain.blocks());
                    let missing = chain.blocks().len() - hits;
                    let fits = cache.fits(&chain.blocks()[..hits], missing);
                    let mut held = cache.hold_cached(&chain.blocks()[..hits]);
                    prop_assert_eq!(held.len(), hits);
                    prop_assert_eq!(cache.hold_new(missing, &mut held), fits);
                    for (id, hash) in held.iter().zip(chain.blocks()) {
                        cache.publish(*id, *hash);
                    }
                    requests.push(held);
                }
                let distinct: std::collections::HashSet<_> = requests.iter().flatten().collect();
                prop_assert_eq!(cache.free_blocks() + distinct.len(), CAPACITY as usize);
            }
            requests.iter_mut().for_each(|held| cache.release(held));
            prop_assert_eq!(cache.free_blocks(), CAPACITY as usize);
        }
    }
}
