use super::*;
use crate::health::{Fault, Handicap, HealthFigures, Proof};
use crate::ledger::Ledger;
use crate::load::{Capacity, Counters, Others, Reading, Sample};
use crate::pace::Pace;
use crate::snapshot::{Admission, Model, ModelTable, Models, ServerSpec};
use core::num::NonZeroU32;
use core::time::Duration;
use proptest::prelude::*;

mod explain;
mod policies;
mod room;

const EJECTED: Health = ejected(Fault::Reset);

const fn ejected(cause: Fault) -> Health {
    let (since, until) = (Timestamp::ZERO, Timestamp::ZERO);
    Health::Ejected { since, cause, until, proof: Proof::Inference }
}

const UNDER_TEST: Health = Health::UnderTest { since: Timestamp::ZERO };

#[derive(Debug, Clone)]
struct Server {
    health: Health,
    admission: Admission,
    models: Option<Vec<&'static str>>,
    capacity: u32,
    running: f64,
    waiting: f64,
    max_len: Option<u32>,
}

fn server() -> Server {
    Server {
        health: Health::Healthy,
        admission: Admission::Open,
        models: Some(alloc::vec!["m"]),
        capacity: 4,
        running: 0.0,
        waiting: 0.0,
        max_len: None,
    }
}

fn view(nth: usize, server: &Server) -> Arc<ServerView> {
    let spec = ServerSpec {
        url: alloc::format!("http://server-{nth}").into(),
        capacity: Capacity::new(NonZeroU32::new(server.capacity).unwrap()),
        declared_models: None,
    };
    let sample = Sample {
        sent_at: Timestamp::ZERO,
        own_in_flight: 0,
        running: server.running,
        waiting: server.waiting,
        kv_cache_usage: 0.0,
    };
    let figures = HealthFigures {
        consecutive_failures: 0,
        success_rate: 1.0,
        avg_response_time: Duration::ZERO,
        last_response_time: None,
        last_check: None,
        total_checks: 0,
    };
    Arc::new(ServerView {
        key: ServerKey::nth(nth as u64),
        spec: Arc::new(spec),
        health: server.health,
        figures,
        handicap: Handicap::default(),
        admission: server.admission,
        models: server.models.as_ref().map(|names| {
            let model = |name: &&str| Model { name: Arc::from(*name), max_len: server.max_len };
            Models::of(names.iter().map(model))
        }),
        models_updated: None,
        reading: Some(reading(sample)),
        others: Others::default(),
        pace: Pace::default(),
        ledger: Arc::new(Ledger::default()),
    })
}

fn reading(sample: Sample) -> Reading {
    Reading {
        sample,
        counters: Counters::default(),
        kv_tokens: None,
        process_max_fds: None,
        started: None,
    }
}

fn snapshot(servers: &[Server]) -> Snapshot {
    let views: Vec<_> = servers.iter().enumerate().map(|(nth, s)| view(nth, s)).collect();
    let models = Arc::new(ModelTable::of(&views));
    Snapshot { servers: views.into(), models, judgement: Judgement::Trusted }
}

fn ask(snapshot: &Snapshot, model: Option<&str>, tried: &Tried) -> Result<usize, Refusal> {
    asks(&Facts { model, ..Facts::default() }, snapshot, tried)
}

fn asks(facts: &Facts<'_>, snapshot: &Snapshot, tried: &Tried) -> Result<usize, Refusal> {
    let mut random = fastrand::Rng::with_seed(7);
    let candidate = choose(Policy::Load, facts, snapshot, tried, &mut random, Timestamp::ZERO)?;
    Ok(snapshot.servers.iter().position(|s| s.key == candidate.server.key).unwrap())
}

fn check(servers: &[Server], model: Option<&str>, expected: Result<usize, Refusal>) {
    assert_eq!(ask(&snapshot(servers), model, &Tried::default()), expected);
}

#[test]
fn the_least_loaded_server_by_capacity_is_chosen() {
    let small = Server { running: 1.0, capacity: 2, ..server() };
    let large = Server { running: 3.0, capacity: 10, ..server() };
    check(&[small, large], Some("m"), Ok(1));
}

#[test]
fn waiting_requests_count_half() {
    let queueing = Server { running: 2.0, waiting: 3.0, ..server() };
    let running = Server { running: 4.0, ..server() };
    check(&[running, queueing], None, Ok(1));
}

#[test]
fn only_servers_that_list_the_model_are_asked() {
    let other = Server { models: Some(alloc::vec!["other"]), ..server() };
    let busy = Server { running: 9.0, ..server() };
    check(&[other.clone(), busy], Some("m"), Ok(1));
    check(&[other], Some("m"), Err(Refusal::UnknownModel));
}

#[test]
fn a_server_that_has_not_said_what_it_serves_is_asked_when_nobody_else_is_there() {
    let silent = Server { models: None, ..server() };
    let other = Server { models: Some(alloc::vec!["other"]), ..server() };
    check(&[silent.clone(), Server { running: 9.0, ..server() }], Some("m"), Ok(1));
    check(&[other, silent], Some("m"), Ok(1));
}

#[test]
fn ejected_servers_are_the_last_resort() {
    let out = Server { health: EJECTED, ..server() };
    check(&[out.clone(), Server { running: 99.0, ..server() }], Some("m"), Ok(1));
    check(&[out], Some("m"), Ok(0));
}

#[test]
fn a_server_that_said_it_is_full_comes_after_those_that_did_not() {
    let busy = Server { running: 9.0, ..server() };
    let out = Server { health: EJECTED, ..server() };
    let snapshot = snapshot(&[server(), busy, out]);
    snapshot.servers[0].ledger.note_full(Timestamp::from_nanos(1));
    assert_eq!(ask(&snapshot, Some("m"), &Tried::default()), Ok(1));
    let mut tried = Tried::default();
    tried.note(ServerKey::nth(1), Failure::Overloaded(429));
    assert_eq!(ask(&snapshot, Some("m"), &tried), Ok(0), "rather full than ejected");
}

#[test]
fn a_cordoned_server_gets_nothing_not_even_as_a_last_resort() {
    let cordoned = Server { admission: Admission::Cordoned, ..server() };
    let draining = Server { admission: Admission::Draining, ..server() };
    let busy = Server { running: 99.0, ..server() };
    check(&[cordoned.clone(), draining.clone(), busy], Some("m"), Ok(2));
    check(&[cordoned.clone(), draining], Some("m"), Err(Refusal::Exhausted));
    let out = Server { health: EJECTED, ..cordoned };
    check(&[out], Some("m"), Err(Refusal::Exhausted));
}

#[test]
fn a_last_resort_is_not_tried_once_somebody_has_answered() {
    let out = Server { health: EJECTED, ..server() };
    let snapshot = snapshot(&[server(), out]);
    let mut tried = Tried::default();
    tried.note(ServerKey::nth(0), Failure::Lost);
    assert_eq!(ask(&snapshot, Some("m"), &tried), Ok(1));
    let mut tried = Tried::default();
    tried.note(ServerKey::nth(0), Failure::ServerError(500));
    assert_eq!(ask(&snapshot, Some("m"), &tried), Err(Refusal::Exhausted));
}

#[test]
fn servers_not_yet_checked_are_waited_for_rather_than_the_last_resort_taken() {
    let unproven = Server { health: Health::Unproven, models: None, ..server() };
    let out = Server { health: EJECTED, ..server() };
    check(core::slice::from_ref(&unproven), Some("m"), Err(Refusal::NotYet));
    check(&[unproven.clone(), out], Some("m"), Err(Refusal::NotYet));
    check(&[unproven, server()], Some("m"), Ok(1));
}

#[test]
fn without_servers_there_is_nobody_to_ask() {
    check(&[], None, Err(Refusal::NoServers));
}

#[test]
fn a_server_whose_scrapes_have_stopped_is_avoided_but_not_given_up() {
    let snapshot = snapshot(&[server()]);
    let mut random = fastrand::Rng::with_seed(1);
    let late = Timestamp::after_start(Duration::from_secs(60));
    let fresh = {
        let mut fresh = (*view(1, &Server { running: 50.0, ..server() })).clone();
        fresh.reading = fresh.sample().map(|sample| reading(Sample { sent_at: late, ..*sample }));
        Arc::new(fresh)
    };
    let views: Vec<_> = snapshot.servers.iter().cloned().chain([fresh]).collect();
    let models = Arc::new(ModelTable::of(&views));
    let both = Snapshot { models, servers: views.into(), judgement: Judgement::Trusted };
    let facts = Facts { model: Some("m"), ..Facts::default() };
    let mut pick = |snapshot: &Snapshot| {
        choose(Policy::Load, &facts, snapshot, &Tried::default(), &mut random, late)
            .map(|candidate| candidate.server.key)
    };
    assert_eq!(pick(&both), Ok(ServerKey::nth(1)));
    assert_eq!(pick(&snapshot), Ok(ServerKey::nth(0)));
}

#[test]
fn a_server_whose_tokens_flow_is_not_avoided_for_its_slow_metrics() {
    let snapshot = snapshot(&[server(), Server { running: 50.0, ..server() }]);
    let late = Timestamp::after_start(Duration::from_secs(60));
    snapshot.servers[0].ledger.note_progress(late);
    assert!(!snapshot.servers[0].has_fallen_silent(late));
    assert!(snapshot.servers[1].has_fallen_silent(late));
}

#[test]
fn a_server_under_test_gets_requests_only_if_nobody_else_can_take_them() {
    let tested = Server { health: UNDER_TEST, ..server() };
    check(&[tested.clone(), Server { running: 99.0, ..server() }], Some("m"), Ok(1));
    check(&[tested.clone(), Server { health: EJECTED, ..server() }], Some("m"), Ok(0));
    let silent = Server { models: None, ..server() };
    check(&[silent, tested], Some("m"), Ok(1));
}

#[test]
fn a_server_on_probation_has_one_request_at_a_time_as_long_as_others_are_there() {
    let probation = Server { health: Health::Probation, ..server() };
    let both = snapshot(&[probation.clone(), Server { running: 9.0, ..server() }]);
    let mut random = fastrand::Rng::with_seed(5);
    let (facts, tried) = (Facts { model: Some("m"), ..Facts::default() }, Tried::default());
    let mut place = |snapshot: &Snapshot| {
        choose(Policy::Load, &facts, snapshot, &tried, &mut random, Timestamp::ZERO).unwrap()
    };
    let first = place(&both);
    assert_eq!(first.server.key, ServerKey::nth(0));
    assert_eq!(place(&both).server.key, ServerKey::nth(1));
    drop(first);
    assert_eq!(place(&both).server.key, ServerKey::nth(0));
    let alone = snapshot(&[probation]);
    let held = [place(&alone), place(&alone), place(&alone)];
    assert_eq!(alone.servers[0].ledger.in_flight(), 3);
    drop(held);
    assert!(!alone.servers[0].ledger.is_on_trial());
}

#[test]
fn where_our_judgement_is_in_doubt_silent_servers_keep_their_share_and_broken_ones_do_not() {
    let silent = Server { health: ejected(Fault::Silent), ..server() };
    let tested = Server { health: UNDER_TEST, running: 1.0, ..server() };
    let refusing = Server { health: ejected(Fault::Unreachable), ..server() };
    let well = Server { running: 9.0, ..server() };
    let mut snapshot = snapshot(&[refusing, well, tested, silent]);
    assert_eq!(ask(&snapshot, Some("m"), &Tried::default()), Ok(1));
    snapshot.judgement = Judgement::Doubted;
    let mut tried = Tried::default();
    for expected in [3, 2, 1] {
        assert_eq!(ask(&snapshot, Some("m"), &tried), Ok(expected));
        tried.note(ServerKey::nth(expected as u64), Failure::ServerError(500));
    }
    assert_eq!(ask(&snapshot, Some("m"), &tried), Err(Refusal::Exhausted));
}

#[test]
fn a_burst_over_idle_equal_servers_spreads_evenly() {
    let snapshot = snapshot(&alloc::vec![server(); 5]);
    let mut random = fastrand::Rng::with_seed(3);
    let held: Vec<_> = (0..500)
        .map(|_| {
            let (facts, tried) = (Facts { model: Some("m"), ..Facts::default() }, Tried::default());
            choose(Policy::Load, &facts, &snapshot, &tried, &mut random, Timestamp::ZERO)
                .unwrap()
                .reservation
        })
        .collect();
    for server in snapshot.servers.iter() {
        assert_eq!(server.ledger.in_flight(), 100);
    }
    drop(held);
}

#[test]
fn ties_are_broken_fairly() {
    let snapshot = snapshot(&alloc::vec![server(); 4]);
    let mut random = fastrand::Rng::with_seed(11);
    let mut counts = [0u32; 4];
    for _ in 0..4_000 {
        let (facts, tried) = (Facts::default(), Tried::default());
        let chosen =
            choose(Policy::Load, &facts, &snapshot, &tried, &mut random, Timestamp::ZERO).unwrap();
        let at = snapshot.servers.iter().position(|s| s.key == chosen.server.key).unwrap();
        counts[at] += 1;
    }
    // 1,000 expected each; 150 is more than five standard deviations.
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 150), "{counts:?}");
}

fn any_server() -> impl Strategy<Value = Server> {
    let health = prop_oneof![
        Just(Health::Unproven),
        Just(Health::Healthy),
        Just(Health::Suspect),
        Just(Health::Probation),
        Just(EJECTED)
    ];
    let models = prop_oneof![
        Just(None),
        Just(Some(alloc::vec!["m"])),
        Just(Some(alloc::vec!["other"])),
        Just(Some(alloc::vec!["m", "other"])),
    ];
    (health, models, 1u32..20, 0u32..30, 0u32..30).prop_map(
        |(health, models, capacity, running, waiting)| Server {
            health,
            admission: Admission::Open,
            models,
            capacity,
            running: running.into(),
            waiting: waiting.into(),
            max_len: None,
        },
    )
}

proptest! {
    #[test]
    fn whoever_is_chosen_may_serve_the_model_and_was_not_tried(
        servers in proptest::collection::vec(any_server(), 0..12),
        tried_at in proptest::collection::btree_set(0usize..12, 0..4),
    ) {
        let snapshot = snapshot(&servers);
        let mut tried = Tried::default();
        for at in &tried_at {
            tried.note(ServerKey::nth(*at as u64), Failure::Lost);
        }
        let fit = |at: usize| {
            servers[at].health.is_routable()
                && servers[at].models.as_ref().is_some_and(|models| models.contains(&"m"))
                && !tried_at.contains(&at)
        };
        match ask(&snapshot, Some("m"), &tried) {
            Ok(at) => {
                prop_assert!(!tried_at.contains(&at));
                prop_assert!(servers[at].models.as_ref().is_none_or(|m| m.contains(&"m")));
                prop_assert!(servers[at].health != Health::Unproven);
                prop_assert!(fit(at) || !(0..servers.len()).any(fit));
            }
            Err(_) => prop_assert!(!(0..servers.len()).any(fit)),
        }
        prop_assert!(snapshot.servers.iter().all(|server| server.ledger.in_flight() == 0));
    }
}
