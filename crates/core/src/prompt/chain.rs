//! Content, cut into blocks of one size, and the hash of each that includes those before it.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of a block. A quarter of that is about its tokens in most texts: as many as vLLM's own
/// blocks have on most accelerators.
pub const BLOCK_BYTES: usize = 64;

/// Token ids of a block, four bytes each.
pub const BLOCK_TOKENS: u32 = IDS as u32;

/// As many ids as fill a block.
pub(super) const IDS: usize = BLOCK_BYTES / size_of::<u32>();

/// How many blocks are hashed: of 512 KiB of text, about 128k tokens, which is as long as most
/// models' contexts are. Those of a request take 64 KiB, an eighth of what its body takes. Prompts
/// that share so much and differ behind it are rare, and are taken for the same.
pub const BLOCKS_MAX: usize = 8192;

/// Bytes that an image, a clip or a file is reckoned to be worth: 576 tokens, one for each patch of
/// 14 pixels of an image of 336 by 336 (LLaVA-1.5); today's models use about as many for a small
/// image, and several times as many for a large one.
const MEDIA_BYTES: usize = 576 * BLOCK_BYTES / IDS;

/// Hashes content as it is written.
#[derive(Debug)]
pub(super) struct Chain {
    blocks: Vec<u64>,
    blocks_max: usize,
    latest: u64,
    /// The beginning of the next block.
    partial: [u8; BLOCK_BYTES],
    filled: usize,
    tally: Tally,
}

/// How much was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) text_bytes: u64,
    /// Of these, what stands for images and the like.
    pub(super) media_bytes: u64,
    pub(super) token_ids: u64,
}

impl Chain {
    /// Chains of other models, adapters and tenants have no hash in common with this one.
    pub(super) fn seeded(model: Option<&str>, salt: Option<&str>) -> Self {
        let mut names = Self::digesting();
        names.text(model.unwrap_or_default().as_bytes());
        if let Some(salt) = salt {
            names.latest = names.digest();
            names.text(salt.as_bytes());
        }
        Self { blocks_max: BLOCKS_MAX, latest: names.digest(), ..Self::digesting() }
    }

    /// One that only its [`Self::digest`] is wanted of.
    pub(super) fn digesting() -> Self {
        let (partial, filled) = ([0; BLOCK_BYTES], 0);
        let (blocks, blocks_max) = (Vec::new(), 0);
        Self { blocks, blocks_max, latest: KEYS[0], partial, filled, tally: Tally::default() }
    }

    /// The hash of all that was written.
    pub(super) fn digest(&self) -> u64 {
        let mut last = [0; BLOCK_BYTES];
        last[..self.filled].copy_from_slice(&self.partial[..self.filled]);
        fold(link(self.latest, &last) ^ KEYS[2], self.tally.text_bytes ^ KEYS[3])
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.tally.text_bytes += bytes.len() as u64;
        self.push(bytes);
    }

    pub(super) fn tokens(&mut self, ids: &[u32]) {
        self.tally.token_ids += ids.len() as u64;
        if let Ok(ids) = <[u32; IDS]>::try_from(ids) {
            self.push(ids.map(u32::to_le_bytes).as_flattened());
        } else {
            ids.iter().for_each(|id| self.push(&id.to_le_bytes()));
        }
    }

    /// All that is to be known of an image or the like: whether it is the same one.
    pub(super) fn media(&mut self, digest: u64) {
        let digest = digest.to_le_bytes();
        for _ in 0..MEDIA_BYTES / digest.len() {
            self.push(&digest);
        }
        self.tally.text_bytes += MEDIA_BYTES as u64;
        self.tally.media_bytes += MEDIA_BYTES as u64;
    }

    /// What does not fill a block is not counted: it may go on in another prompt.
    pub(super) fn finish(self) -> (Box<[u64]>, Tally) {
        (self.blocks.into(), self.tally)
    }

    fn push(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 {
            let taken = bytes.len().min(BLOCK_BYTES - self.filled);
            self.partial[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            if self.filled < BLOCK_BYTES {
                return;
            }
            let block = self.partial;
            self.block(&block);
            bytes = &bytes[taken..];
        }
        while let Some((block, rest)) = bytes.split_first_chunk() {
            self.block(block);
            bytes = rest;
        }
        self.partial[..bytes.len()].copy_from_slice(bytes);
        self.filled = bytes.len();
    }

    fn block(&mut self, block: &[u8; BLOCK_BYTES]) {
        if self.blocks_max == 0 {
            self.latest = link(self.latest, block);
        } else if self.blocks.len() < self.blocks_max {
            self.latest = link(self.latest, block);
            self.blocks.push(self.latest);
        }
    }
}

/// The hash of `block` behind what `previous` stands for. The multiply-and-fold step is that of
/// wyhash (<https://github.com/wangyi-fudan/wyhash>); what the block contributes does not wait for
/// `previous`, so that blocks overlap in the processor.
fn link(previous: u64, block: &[u8; BLOCK_BYTES]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]) ^ KEYS[at];
    let halves = [
        fold(word(0), word(1)) ^ fold(word(2), word(3)).rotate_left(23),
        fold(word(4), word(5)) ^ fold(word(6), word(7)).rotate_left(23),
    ];
    fold(previous ^ halves[0], KEYS[8] ^ halves[1].wrapping_add(previous.rotate_left(32)))
}

/// Digits of pi: numbers with nothing up their sleeve.
const KEYS: [u64; 9] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
];

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_a_block_changes_half_of_the_bits_of_its_hash() {
        let mut block = [0u8; BLOCK_BYTES];
        for (byte, at) in block.iter_mut().zip(0u8..) {
            *byte = at.wrapping_mul(37);
        }
        let before = link(1, &block);
        let mut flipped = [0u32; 64];
        for bit in 0..BLOCK_BYTES * 8 {
            let mut other = block;
            other[bit / 8] ^= 1 << (bit % 8);
            let changed = before ^ link(1, &other);
            assert!(changed.count_ones() > 8, "bit {bit}");
            for (at, count) in (0..).zip(&mut flipped) {
                *count += (changed >> at & 1) as u32;
            }
        }
        // 256 of 512 is the mean; a bit that follows no input bit, or all of them, is far off.
        assert!(flipped.iter().all(|count| (150..362).contains(count)), "{flipped:?}");
    }

    #[test]
    fn the_hash_depends_on_all_that_came_before() {
        let block = [7; BLOCK_BYTES];
        assert_ne!(link(1, &block), link(2, &block));
        let digest = |bytes: &[u8]| {
            let mut chain = Chain::digesting();
            chain.text(bytes);
            chain.digest()
        };
        assert_ne!(digest(b""), digest(b"\0"));
        assert_ne!(digest(&[0; 64]), digest(&[0; 128]));
        let seed = |model, salt| Chain::seeded(model, salt).latest;
        let seeds = [seed(Some("a"), None), seed(Some("b"), None), seed(Some("a"), Some("b"))];
        assert!(seeds[0] != seeds[1] && seeds[0] != seeds[2] && seeds[1] != seeds[2]);
        assert_ne!(seed(Some("a"), None), seed(Some("a"), Some("")));
    }

    #[test]
    fn content_may_be_written_in_pieces_of_any_size() {
        let content: Vec<u8> = (0..1000u32).map(|at| (at * at % 251) as u8).collect();
        let whole = |pieces: usize| {
            let mut chain = Chain::seeded(None, None);
            content.chunks(pieces).for_each(|piece| chain.text(piece));
            chain.finish().0
        };
        assert_eq!(whole(1000).len(), 1000 / BLOCK_BYTES);
        for pieces in [1, 3, 63, 64, 65, 127, 128, 200] {
            assert_eq!(whole(pieces), whole(1000), "{pieces}");
        }
    }

    #[test]
    fn no_more_than_the_limit_is_hashed_and_all_of_it_is_counted() {
        let mut chain = Chain::seeded(None, None);
        let more = BLOCK_BYTES * (BLOCKS_MAX + 9);
        chain.text(&alloc::vec![b'a'; more]);
        let (blocks, tally) = chain.finish();
        assert_eq!((blocks.len(), tally.text_bytes), (BLOCKS_MAX, more as u64));
    }
}
