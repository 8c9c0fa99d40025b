use proptest::prelude::*;

use super::*;
use crate::kv_cache::{BlockChain, BlockHash};
use crate::tokenizer::encode;
use crate::writer::Ending;

const MODEL: Model = Model { seed: 0, cache_salt: 0, ending: Ending::Never };

fn engine(num_blocks: u32, max_num_seqs: usize) -> Engine {
    let mut profile = Profile::fast();
    profile.max_num_batched_tokens = 64;
    Engine::new(EngineConfig { profile, max_num_seqs, block_size: 16, num_blocks })
}

fn prompt(words: usize) -> Vec<Token> {
    encode(&" server".repeat(words))
}

fn request(prompt_tokens: usize, max_tokens: usize) -> Submission {
    Submission::text(&prompt(prompt_tokens), max_tokens, 16, MODEL)
}

/// Runs until nothing is left to do.
fn drain(engine: &mut Engine) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(deadline) = engine.next_deadline() {
        events.extend(engine.advance(deadline));
    }
    events
}

fn kinds(events: &[Event], id: RequestId) -> Vec<EventKind> {
    events.iter().filter(|event| event.request == id).map(|event| event.kind).collect()
}

fn times(events: &[Event], id: RequestId) -> Vec<Duration> {
    events
        .iter()
        .filter(|event| event.request == id && matches!(event.kind, EventKind::Token(_)))
        .map(|event| event.at)
        .collect()
}

#[test]
fn a_request_is_scheduled_then_written_then_finished() {
    let mut engine = engine(64, 4);
    let id = engine.submit(request(10, 3), Duration::ZERO).unwrap();
    let events = drain(&mut engine);
    let kinds = kinds(&events, id);
    assert_eq!(kinds[0], EventKind::Scheduled { cached_tokens: 0 });
    assert!(kinds[1..4].iter().all(|kind| matches!(kind, EventKind::Token(Some(_)))));
    assert_eq!(kinds[4..], [EventKind::Finished(FinishReason::Length)]);
    assert_eq!(engine.stats().finished_length, 1);
    assert_eq!(engine.stats().generation_tokens, 3);
}

#[test]
fn a_prompt_longer_than_the_budget_takes_several_steps() {
    let mut engine = engine(64, 4);
    let id = engine.submit(request(150, 2), Duration::ZERO).unwrap();
    let events = drain(&mut engine);
    let full = engine.config().profile.step_time(64, 0);
    let rest = engine.config().profile.step_time(22, 0);
    assert_eq!(times(&events, id)[0], full + full + rest);
}

#[test]
fn decodes_go_on_while_a_long_prompt_is_computed() {
    let mut engine = engine(64, 4);
    let short = engine.submit(request(5, 30), Duration::ZERO).unwrap();
    let mut events = engine.advance(Duration::ZERO);
    let long = engine.submit(request(200, 1), Duration::ZERO).unwrap();
    events.extend(drain(&mut engine));
    let first_of_long = times(&events, long)[0];
    let before = times(&events, short).iter().filter(|at| **at <= first_of_long).count();
    assert_eq!(before, 5, "one from its own prefill, then one with each chunk of 63");
}

#[test]
fn a_repeated_prompt_hits_all_full_blocks_but_never_the_last_token() {
    let mut engine = engine(64, 4);
    engine.submit(request(32, 1), Duration::ZERO).unwrap();
    let mut events = drain(&mut engine);
    let again = engine.submit(request(32, 1), engine.now).unwrap();
    let longer = engine.submit(request(33, 1), engine.now).unwrap();
    events.extend(drain(&mut engine));
    assert_eq!(kinds(&events, again)[0], EventKind::Scheduled { cached_tokens: 16 });
    assert_eq!(kinds(&events, longer)[0], EventKind::Scheduled { cached_tokens: 32 });
}

#[test]
fn two_equal_prompts_of_one_step_share_their_blocks() {
    let mut engine = engine(64, 4);
    engine.submit(request(40, 1), Duration::ZERO).unwrap();
    let second = engine.submit(request(40, 1), Duration::ZERO).unwrap();
    let events = drain(&mut engine);
    assert_eq!(kinds(&events, second)[0], EventKind::Scheduled { cached_tokens: 32 });
}

#[test]
fn a_later_turn_hits_the_blocks_of_the_earlier_answer() {
    let mut engine = engine(64, 4);
    let first = engine.submit(request(16, 32), Duration::ZERO).unwrap();
    let events = drain(&mut engine);
    let mut tokens = prompt(16);
    tokens.extend(kinds(&events, first).iter().filter_map(|kind| match kind {
        EventKind::Token(token) => *token,
        _ => None,
    }));
    let turn = Submission::text(&tokens, 1, 16, MODEL);
    let second = engine.submit(turn, engine.now).unwrap();
    let events = drain(&mut engine);
    assert_eq!(kinds(&events, second)[0], EventKind::Scheduled { cached_tokens: 32 });
}

#[test]
fn the_youngest_is_preempted_and_says_the_same_in_the_end() {
    let alone = |tokens| {
        let mut engine = engine(64, 4);
        let id = engine.submit(request(tokens, 40), Duration::ZERO).unwrap();
        kinds(&drain(&mut engine), id)[1..].to_vec()
    };
    // Two answers of 30 + 40 tokens need 5 blocks each.
    let mut engine = engine(6, 4);
    let ids = [29, 30].map(|n| engine.submit(request(n, 40), Duration::ZERO).unwrap());
    let events = drain(&mut engine);
    assert!(engine.stats().preemptions > 0);
    assert_eq!(kinds(&events, ids[0])[1..], alone(29));
    assert_eq!(kinds(&events, ids[1])[1..], alone(30));
}

#[test]
fn a_request_that_does_not_fit_keeps_the_queue_waiting() {
    let mut engine = engine(6, 4);
    engine.submit(request(60, 2), Duration::ZERO).unwrap();
    engine.advance(Duration::ZERO);
    let mut other = MODEL;
    other.cache_salt = 1;
    let big = Submission::text(&prompt(60), 2, 16, other);
    engine.submit(big, Duration::ZERO).unwrap();
    engine.submit(request(2, 2), Duration::ZERO).unwrap();
    engine.advance(engine.next_deadline().unwrap());
    assert_eq!(engine.load(), Load { running: 1, waiting: 2 });
}

#[test]
fn an_aborted_request_is_gone_at_once_with_its_blocks() {
    let mut engine = engine(64, 1);
    let running = engine.submit(request(40, 100), Duration::ZERO).unwrap();
    let waiting = engine.submit(request(40, 100), Duration::ZERO).unwrap();
    engine.advance(Duration::ZERO);
    assert!(engine.abort(running) && engine.abort(waiting) && !engine.abort(running));
    assert_eq!(engine.load(), Load::default());
    assert_eq!(engine.stats().load, Load::default());
    assert_eq!(engine.cache.free_blocks(), engine.cache.capacity());
    assert_eq!(drain(&mut engine).len(), 0);
    assert_eq!(engine.stats().finished_stop + engine.stats().finished_length, 0);
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut engine = engine(4, 4);
    let refused = engine.submit(request(60, 5), Duration::ZERO);
    assert_eq!(refused, Err(Refused::NeverFits { needed: 5, capacity: 4 }));
    assert_eq!(engine.submit(request(0, 5), Duration::ZERO), Err(Refused::Empty));
}

#[test]
fn a_replayed_request_is_matched_by_its_hashes_and_ends_at_its_length() {
    let replay = || Submission {
        prompt_tokens: 40,
        chain: BlockChain::of_hashes(vec![BlockHash(7), BlockHash(8)]),
        output: Output::Length(20),
        max_tokens: 100,
    };
    let mut engine = engine(64, 4);
    let first = engine.submit(replay(), Duration::ZERO).unwrap();
    let events = drain(&mut engine);
    assert_eq!(times(&events, first).len(), 20);
    assert_eq!(kinds(&events, first).last(), Some(&EventKind::Finished(FinishReason::Stop)));
    let second = engine.submit(replay(), engine.now).unwrap();
    let events = drain(&mut engine);
    assert_eq!(kinds(&events, second)[0], EventKind::Scheduled { cached_tokens: 32 });
}

#[test]
fn looking_late_changes_nothing_but_the_hour_of_the_look() {
    let run = |look: &dyn Fn(&mut Engine) -> Vec<Event>| {
        let mut engine = engine(64, 4);
        engine.submit(request(100, 20), Duration::ZERO).unwrap();
        engine.advance(Duration::ZERO).into_iter().chain(look(&mut engine)).collect::<Vec<_>>()
    };
    let punctual = run(&drain);
    let late = run(&|engine| engine.advance(Duration::from_secs(60)));
    assert_eq!(punctual, late);
}

#[derive(Clone, Debug)]
enum Call {
    Submit { family: u64, prompt: usize, max_tokens: usize },
    Abort(usize),
    Wait(u64),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0_u64..3, 1_usize..150, 1_usize..40)
            .prop_map(|(family, prompt, max_tokens)| Call::Submit { family, prompt, max_tokens }),
        1 => (0_usize..20).prop_map(Call::Abort),
        4 => (0_u64..20_000).prop_map(Call::Wait),
    ]
}

/// Makes the calls, checking what must hold at all times; then lets everything end.
fn play(calls: &[Call]) -> Vec<Event> {
    let mut engine = engine(14, 3);
    let mut ids = Vec::new();
    let mut aborted = Vec::new();
    let mut events = Vec::new();
    let mut now = Duration::ZERO;
    for call in calls {
        match *call {
            Call::Submit { family, prompt: length, max_tokens } => {
                let model = Model { cache_salt: family, ..MODEL };
                let submission = Submission::text(&prompt(length), max_tokens, 16, model);
                ids.push((engine.submit(submission, now).unwrap(), length));
            }
            Call::Abort(index) => {
                aborted.extend(ids.get(index).filter(|(id, _)| engine.abort(*id)));
            }
            Call::Wait(micros) => now += Duration::from_micros(micros),
        }
        events.extend(engine.advance(now));
        assert!(engine.load().running <= 3);
    }
    events.extend(drain(&mut engine));
    assert_eq!(engine.cache.free_blocks(), 14, "no block is lost");
    for (id, length) in ids {
        let kinds = kinds(&events, id);
        let ended = matches!(kinds.last(), Some(EventKind::Finished(_)));
        assert_ne!(ended, aborted.iter().any(|(gone, _)| *gone == id));
        if let Some(EventKind::Scheduled { cached_tokens }) = kinds.first() {
            assert!(*cached_tokens < length);
        }
    }
    events
}

proptest! {
    #[test]
    fn every_request_ends_and_no_block_is_lost(calls in proptest::collection::vec(call(), 1..60)) {
        let events = play(&calls);
        prop_assert!(events.is_sorted_by_key(|event| event.at), "time does not run backwards");
        prop_assert_eq!(events, play(&calls), "the same calls give the same events");
    }
}
