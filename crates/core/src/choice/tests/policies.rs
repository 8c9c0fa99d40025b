//! What holds for every policy, and what each is for.

use super::*;
use crate::prefix::PrefixIndex;
use crate::prompt::Prompt;

fn at(millis: u64) -> Timestamp {
    Timestamp::after_start(Duration::from_millis(millis))
}

fn prompt(conversation: u64, tokens: u32) -> Prompt {
    let hash = |n: u32| (conversation << 32 | u64::from(n + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Prompt { blocks: (0..tokens / 16).map(hash).collect(), tokens, ..Prompt::default() }
}

fn index(snapshot: &Snapshot) -> PrefixIndex {
    let mut index = PrefixIndex::default();
    index.keep(snapshot.servers.iter().map(|server| (server.key, None)));
    index
}

fn place(
    policy: Policy,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> Candidate {
    choose(policy, facts, snapshot, &Tried::default(), random, now).unwrap()
}

/// Sends a prompt as the router does, and enters it into the index.
fn send(
    policy: Policy,
    snapshot: &Snapshot,
    index: &mut PrefixIndex,
    prompt: &Prompt,
    now: Timestamp,
) -> Candidate {
    let held = index.held(prompt);
    let facts =
        Facts { model: Some("m"), prompt: Some(prompt), held: Some(&held), ..Facts::default() };
    let mut random = fastrand::Rng::with_seed(now.as_nanos() + 1);
    let candidate = place(policy, snapshot, &facts, &mut random, now);
    index.enter(candidate.server.key, prompt);
    candidate
}

fn nth(candidate: &Candidate) -> usize {
    (0..64).find(|nth| candidate.server.key == ServerKey::nth(*nth)).unwrap() as usize
}

#[test]
fn a_burst_within_a_tenth_of_a_second_spreads_evenly_under_every_policy() {
    for policy in Policy::ALL {
        for prompt in [None, Some(&prompt(1, 4_000))] {
            let snapshot = snapshot(&alloc::vec![server(); 5]);
            let facts = Facts { model: Some("m"), prompt, ..Facts::default() };
            let mut random = fastrand::Rng::with_seed(3);
            let held: Vec<_> = (0..500)
                .map(|nth| place(policy, &snapshot, &facts, &mut random, at(nth / 5)))
                .collect();
            for server in snapshot.servers.iter() {
                let count = server.ledger.in_flight();
                assert!(count.abs_diff(100) <= 1, "{policy:?}: {count}");
            }
            drop(held);
        }
    }
}

#[test]
fn equal_servers_get_equal_shares_under_every_policy() {
    for policy in Policy::ALL {
        let snapshot = snapshot(&alloc::vec![server(); 4]);
        let mut random = fastrand::Rng::with_seed(11);
        let mut counts = [0u32; 4];
        for _ in 0..4_000 {
            counts[nth(&place(policy, &snapshot, &Facts::default(), &mut random, at(0)))] += 1;
        }
        // 1,000 expected each; 150 is more than five standard deviations.
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 150), "{policy:?}: {counts:?}");
    }
}

#[test]
fn a_conversation_goes_on_where_it_began_while_nothing_speaks_against_it() {
    for policy in [Policy::Adaptive, Policy::Prefix] {
        let snapshot = snapshot(&alloc::vec![server(); 4]);
        let mut index = index(&snapshot);
        let homes: Vec<_> = (0..8)
            .map(|conversation| {
                nth(&send(policy, &snapshot, &mut index, &prompt(conversation, 4_000), at(0)))
            })
            .collect();
        for turn in 1..5 {
            for (conversation, home) in (0..).zip(&homes) {
                let prompt = prompt(conversation, 4_000 + 500 * turn);
                let candidate = send(policy, &snapshot, &mut index, &prompt, at(0));
                assert_eq!(nth(&candidate), *home, "{policy:?}");
            }
        }
    }
}

#[test]
fn a_hit_is_not_waited_for_longer_than_it_saves() {
    let snapshot = snapshot(&alloc::vec![server(); 2]);
    let mut index = index(&snapshot);
    let first = send(Policy::Adaptive, &snapshot, &mut index, &prompt(1, 2_000), at(0));
    let home = nth(&first);
    let facts_of = |prompt| Facts { model: Some("m"), prompt: Some(prompt), ..Facts::default() };
    let long = prompt(9, 50_000);
    let busy = snapshot.servers[home].ledger.reserve().with_work(
        facts_of(&long).work_at(&snapshot.servers[home]),
        Pace::default(),
        at(0),
    );
    let again = send(Policy::Adaptive, &snapshot, &mut index, &prompt(1, 2_100), at(0));
    assert_ne!(nth(&again), home);
    drop(busy);
}

#[test]
fn work_counts_and_not_requests() {
    let snapshot = snapshot(&alloc::vec![server(); 2]);
    let mut index = index(&snapshot);
    let long = send(Policy::Adaptive, &snapshot, &mut index, &prompt(0, 40_000), at(0));
    let short: Vec<_> = (1..20)
        .map(|n| send(Policy::Adaptive, &snapshot, &mut index, &prompt(n, 1_000), at(0)))
        .collect();
    assert!(short.iter().all(|candidate| nth(candidate) != nth(&long)));
}

#[test]
fn a_session_stays_where_it_is_and_moves_only_if_its_server_is_gone() {
    let five = snapshot(&alloc::vec![server(); 5]);
    let mut random = fastrand::Rng::with_seed(1);
    let mut home = |snapshot: &Snapshot, session| {
        let facts = Facts { session: Some(session), ..Facts::default() };
        nth(&place(Policy::Session, snapshot, &facts, &mut random, at(0)))
    };
    let homes: Vec<_> = (0..200).map(|session| home(&five, session)).collect();
    assert!((0..5).all(|server| homes.iter().filter(|home| **home == server).count() > 20));
    let mut four = alloc::vec![server(); 5];
    four[2].health = EJECTED;
    let four = snapshot(&four);
    for (session, former) in (0..).zip(&homes) {
        let now = home(&four, session);
        assert!(now == *former || *former == 2 && now != 2);
    }
}

#[test]
fn others_requests_count_where_the_scrapes_show_them() {
    let mut snapshot = snapshot(&alloc::vec![server(); 2]);
    let mut views = snapshot.servers.to_vec();
    let mut crowded = (*views[0]).clone();
    for _ in 0..20 {
        let sample = Sample { running: 20.0, waiting: 10.0, ..*crowded.sample().unwrap() };
        crowded.others = crowded.others.after(&sample);
    }
    views[0] = Arc::new(crowded);
    snapshot.servers = views.into();
    let mut index = index(&snapshot);
    let chosen = send(Policy::Adaptive, &snapshot, &mut index, &prompt(1, 1_000), at(0));
    assert_eq!(nth(&chosen), 1);
}

proptest! {
    #[test]
    fn no_policy_chooses_a_server_that_may_not_be_chosen(
        servers in proptest::collection::vec(any_server(), 1..9),
        seed in any::<u64>(),
        conversation in 0u64..3,
        session in proptest::option::of(any::<u64>()),
    ) {
        let snapshot = snapshot(&servers);
        let mut index = index(&snapshot);
        for nth in 0..servers.len() as u64 {
            index.enter(ServerKey::nth(nth), &prompt(nth % 3, 2_000));
        }
        let prompt = prompt(conversation, 3_000);
        let held = index.held(&prompt);
        let facts =
            Facts { model: Some("m"), prompt: Some(&prompt), held: Some(&held), session, ..Facts::default() };
        let fit = |at: usize| {
            servers[at].health.is_routable()
                && servers[at].models.as_ref().is_some_and(|models| models.contains(&"m"))
        };
        let any_fit = (0..servers.len()).any(fit);
        for policy in Policy::ALL {
            let mut random = fastrand::Rng::with_seed(seed);
            let tried = Tried::default();
            if let Ok(chosen) = choose(policy, &facts, &snapshot, &tried, &mut random, at(0)) {
                prop_assert!(fit(nth(&chosen)) || !any_fit, "{:?}", policy);
            } else {
                prop_assert!(!any_fit);
            }
        }
        for server in snapshot.servers.iter() {
            prop_assert_eq!((server.ledger.in_flight(), server.ledger.prefilling()), (0, 0));
            prop_assert_eq!(server.ledger.resident_tokens(), 0);
        }
    }
}
