use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Map;

fn server(nth: u64) -> ServerKey {
    ServerKey::nth(nth)
}

/// The prompt of a conversation, `blocks` blocks long; conversations share nothing.
fn prompt(conversation: u64, blocks: u64) -> Prompt {
    branch(conversation, 0, blocks, blocks)
}

/// A conversation that leaves that of `trunk` after `shared` blocks.
fn branch(trunk: u64, own: u64, shared: u64, blocks: u64) -> Prompt {
    let hash = |n: u64| {
        // Chained: what follows a branch is known by the branch.
        let of = if n < shared { trunk } else { trunk << 24 | shared << 8 | own << 1 | 1 };
        (of << 32 | n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let tokens = blocks as u32 * BLOCK_TOKENS;
    Prompt { blocks: (0..blocks).map(hash).collect(), tokens, ..Prompt::default() }
}

fn index(servers: u64, kv_tokens: u64) -> PrefixIndex {
    let mut index = PrefixIndex::default();
    index.keep((0..servers).map(|nth| (server(nth), Some(kv_tokens))));
    index
}

#[test]
fn what_was_sent_to_a_server_is_held_there_and_nowhere_else() {
    let mut index = index(3, 64_000);
    index.enter(server(1), &prompt(7, 40));
    let held = index.held(&prompt(7, 40));
    assert_eq!([0, 1, 2].map(|nth| held.tokens_at(server(nth))), [0, 640, 0]);
}

#[test]
fn a_longer_prompt_finds_its_beginning_wherever_that_is() {
    let mut index = index(4, 64_000);
    index.enter(server(0), &prompt(7, 400));
    index.enter(server(1), &prompt(7, 8));
    index.enter(server(2), &branch(7, 9, 100, 300));
    let held = index.held(&prompt(7, 200));
    assert_eq!([0, 1, 2, 3].map(|nth| held.tokens_at(server(nth))), [3200, 128, 1600, 0]);
}

#[test]
fn a_prompt_below_the_grain_of_the_index_is_held_nowhere() {
    let mut index = index(1, 64_000);
    index.enter(server(0), &prompt(7, 3));
    assert!(index.is_empty());
    assert_eq!(index.held(&prompt(7, 3)), Held::default());
}

#[test]
fn the_end_of_a_prompt_is_forgotten_before_its_beginning() {
    let mut index = index(1, 10 * 64);
    index.enter(server(0), &prompt(1, 40));
    index.enter(server(0), &prompt(2, 8));
    assert_eq!(index.held(&prompt(1, 40)).tokens_at(server(0)), 8 * 64);
    assert_eq!(index.held(&prompt(2, 40)).tokens_at(server(0)), 2 * 64);
}

#[test]
fn what_is_used_again_is_kept_longer() {
    let mut index = index(1, 8 * 64);
    index.enter(server(0), &prompt(1, 16));
    index.enter(server(0), &prompt(2, 16));
    index.enter(server(0), &prompt(1, 16));
    index.enter(server(0), &prompt(3, 16));
    assert_eq!(index.held(&prompt(1, 16)).tokens_at(server(0)), 256);
    assert_eq!(index.held(&prompt(2, 16)).tokens_at(server(0)), 0);
}

#[test]
fn a_restarted_server_holds_nothing_and_learns_again() {
    let mut index = index(2, 64_000);
    index.enter(server(0), &prompt(1, 40));
    index.enter(server(1), &prompt(1, 40));
    index.forget(server(0));
    let held = index.held(&prompt(1, 40));
    assert_eq!([0, 1].map(|nth| held.tokens_at(server(nth))), [0, 640]);
    index.enter(server(0), &prompt(1, 40));
    assert_eq!(index.held(&prompt(1, 40)).tokens_at(server(0)), 640);
}

#[test]
fn a_server_that_left_is_forgotten_and_its_room_is_used_again() {
    let mut index = index(2, 64_000);
    index.enter(server(0), &prompt(1, 40));
    index.enter(server(1), &prompt(2, 40));
    index.keep([(server(1), Some(64_000)), (server(9), None)]);
    assert_eq!(index.shelves.len(), 2);
    assert_eq!(index.held(&prompt(1, 40)), Held::default());
    assert_eq!(index.held(&prompt(2, 40)).tokens_at(server(1)), 640);
    index.enter(server(0), &prompt(1, 40));
    assert_eq!(index.len(), 10, "nobody there is held to know anything");
}

#[test]
fn a_smaller_cache_forgets_what_it_cannot_hold() {
    let mut index = index(1, 64_000);
    index.enter(server(0), &prompt(1, 400));
    index.keep([(server(0), Some(640))]);
    assert_eq!(index.held(&prompt(1, 400)).tokens_at(server(0)), 640);
}

#[test]
fn more_servers_than_fit_in_a_word_are_told_apart() {
    let mut index = index(150, 64_000);
    for nth in 0..150 {
        index.enter(server(nth), &prompt(1, 4 * (nth + 1)));
    }
    let held = index.held(&prompt(1, 600));
    assert!((0..150).all(|nth| held.tokens_at(server(nth)) == 64 * (nth as u32 + 1)));
}

/// The same by exhaustion: for each server the hashes that it holds, most recent last.
#[derive(Default)]
struct Reference(Map<u64, Vec<u64>>);

impl Reference {
    fn enter(&mut self, nth: u64, prompt: &Prompt, capacity: usize) {
        let held = self.0.entry(nth).or_default();
        for mark in (0..marks(prompt)).rev() {
            let hash = mark_at(prompt, mark);
            held.retain(|other| *other != hash);
            held.push(hash);
            if held.len() > capacity {
                held.remove(0);
            }
        }
    }

    /// The longest run of marks from the beginning on.
    fn depth(&self, nth: u64, prompt: &Prompt) -> usize {
        let held = self.0.get(&nth).map_or(&[][..], Vec::as_slice);
        (0..marks(prompt)).take_while(|mark| held.contains(&mark_at(prompt, *mark))).count()
    }
}

proptest! {
    #[test]
    fn the_index_never_grows_beyond_the_caches_and_knows_what_a_plain_list_knows(
        sent in proptest::collection::vec((0u64..3, 0u64..4, 0u64..4, 0u64..60, 1u64..80), 1..60),
    ) {
        const CAPACITY: usize = 30;
        let mut index = index(3, CAPACITY as u64 * 64);
        let mut reference = Reference::default();
        for (nth, trunk, own, shared, blocks) in sent {
            let prompt = branch(trunk, own, shared, blocks);
            index.enter(server(nth), &prompt);
            reference.enter(nth, &prompt, CAPACITY);
            prop_assert!(index.len() <= 3 * CAPACITY);
            let held = index.held(&prompt);
            for nth in 0..3 {
                let expected = reference.depth(nth, &prompt) as u32 * MARK_TOKENS;
                prop_assert_eq!(held.tokens_at(server(nth)), expected);
            }
        }
        let kept: usize = reference.0.values().map(Vec::len).sum();
        prop_assert_eq!(index.len(), kept);
        let holders: u32 = index.groups.iter().flat_map(|g| g.values()).map(|m| m.count_ones()).sum();
        prop_assert_eq!(holders as usize, kept);
    }
}
