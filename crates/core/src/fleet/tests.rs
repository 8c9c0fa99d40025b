use super::*;
use crate::ledger::Reservation;
use crate::load::{Capacity, Counters, Sample};
use core::num::NonZeroU32;

const RULES: HealthRules = HealthRules {
    active_checks: true,
    check_interval: Duration::from_secs(30),
    failure_threshold: 2,
    recovery_after: Duration::from_secs(60),
    consecutive_failures: 3,
    min_success_rate: 0.8,
    max_response_time: Duration::from_secs(10),
    window: 10,
    silence_limit: Duration::from_secs(30),
};

fn spec(url: &str) -> ServerSpec {
    let capacity = Capacity::new(NonZeroU32::new(3).unwrap());
    ServerSpec { url: url.into(), capacity, declared_models: None }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::after_start(Duration::from_secs(secs))
}

fn fleet(urls: &[&str]) -> Fleet {
    let mut fleet = Fleet::new(RULES);
    configure(&mut fleet, urls);
    fleet
}

fn configure(fleet: &mut Fleet, urls: &[&str]) -> Vec<Change> {
    let specs = urls.iter().map(|url| spec(url)).collect();
    fleet.apply(Event::Configured(specs, RULES), at(0))
}

fn key(fleet: &Fleet, at: usize) -> ServerKey {
    fleet.snapshot().servers[at].key
}

fn check(found: Result<(), Fault>) -> Check {
    Check { took: Duration::from_millis(3), found }
}

#[test]
fn a_reload_keeps_what_was_learnt_of_the_servers_that_stay() {
    let mut fleet = fleet(&["http://a", "http://b"]);
    let (a, b) = (key(&fleet, 0), key(&fleet, 1));
    fleet.apply(Event::Checked(a, check(Ok(()))), at(1));
    fleet.apply(Event::ModelsLearnt(a, Models::new(["m".into()])), at(1));
    let held = fleet.snapshot().servers[0].ledger.reserve();

    let changes = configure(&mut fleet, &["http://c", "http://a"]);
    let c = key(&fleet, 0);
    assert_eq!(
        changes,
        [Change::Added(c, "http://c".into()), Change::Removed(b, "http://b".into())]
    );
    let kept = &fleet.snapshot().servers[1];
    assert_eq!((kept.key, kept.health), (a, Health::Healthy));
    assert_eq!(kept.ledger.in_flight(), 1);
    assert_eq!(fleet.snapshot().models.servers_of("m"), Some(&[1][..]));
    drop(held);
    assert_eq!(kept.ledger.in_flight(), 0);
}

#[test]
fn a_server_that_comes_back_after_removal_is_a_new_one() {
    let mut fleet = fleet(&["http://a"]);
    let old = key(&fleet, 0);
    let orphan = fleet.snapshot().servers[0].ledger.reserve();
    configure(&mut fleet, &[]);
    configure(&mut fleet, &["http://a"]);
    assert_ne!(key(&fleet, 0), old);
    assert_eq!(fleet.snapshot().servers[0].ledger.in_flight(), 0);
    drop(orphan);
    assert_eq!(fleet.snapshot().servers[0].ledger.in_flight(), 0);
    assert_eq!(fleet.apply(Event::Checked(old, check(Ok(()))), at(9)), []);
}

#[test]
fn one_address_twice_is_two_servers() {
    let mut fleet = fleet(&["http://a", "http://a"]);
    let keys = [key(&fleet, 0), key(&fleet, 1)];
    assert_ne!(keys[0], keys[1]);
    assert_eq!(configure(&mut fleet, &["http://a", "http://a"]), []);
    assert_eq!(keys, [key(&fleet, 0), key(&fleet, 1)]);
}

#[test]
fn the_operators_word_on_a_server_survives_a_reload() {
    let mut fleet = fleet(&["http://a", "http://b"]);
    let draining = Event::Admission("http://b".into(), Admission::Draining);
    let told = fleet.apply(draining, at(1));
    assert_eq!(told, [Change::Admission("http://b".into(), Admission::Draining)]);
    configure(&mut fleet, &["http://b", "http://a"]);
    let admissions: Vec<_> = fleet.snapshot().servers.iter().map(|s| s.admission).collect();
    assert_eq!(admissions, [Admission::Draining, Admission::Open]);
    assert_eq!(fleet.apply(Event::Admission("http://c".into(), Admission::Open), at(2)), []);
}

#[test]
fn a_change_of_health_is_told_once() {
    let mut fleet = fleet(&["http://a"]);
    let a = key(&fleet, 0);
    let told = fleet.apply(Event::Checked(a, check(Ok(()))), at(1));
    let url: Arc<str> = "http://a".into();
    let expected = Change::Health { url, from: Health::Unproven, to: Health::Healthy };
    assert_eq!(told, [expected]);
    assert_eq!(fleet.apply(Event::Checked(a, check(Ok(()))), at(2)), []);
}

#[test]
fn a_refused_scrape_counts_like_a_refused_request() {
    let mut fleet = fleet(&["http://a"]);
    let a = key(&fleet, 0);
    fleet.apply(Event::Checked(a, check(Ok(()))), at(1));
    fleet.apply(Event::ScrapeRefused(a), at(2));
    fleet.apply(Event::ScrapeRefused(a), at(3));
    let health = fleet.snapshot().servers[0].health;
    assert!(matches!(health, Health::Ejected { cause: Fault::Unreachable, .. }), "{health:?}");
}

#[test]
fn a_check_that_times_out_while_tokens_flow_is_excused() {
    let mut fleet = fleet(&["http://a"]);
    let a = key(&fleet, 0);
    fleet.apply(Event::Checked(a, check(Ok(()))), at(1));
    let slow = Check { took: Duration::from_secs(5), found: Err(Fault::Silent) };
    for secs in 10..20 {
        fleet.snapshot().servers[0].ledger.note_progress(at(secs - 2));
        fleet.apply(Event::Checked(a, slow), at(secs));
    }
    assert_eq!(fleet.snapshot().servers[0].health, Health::Healthy);
    for secs in 30..33 {
        fleet.apply(Event::Checked(a, slow), at(secs));
    }
    assert!(matches!(fleet.snapshot().servers[0].health, Health::Ejected { .. }));
}

#[test]
fn switching_active_checks_off_frees_servers_that_were_never_checked() {
    let mut fleet = fleet(&["http://a"]);
    let rules = HealthRules { active_checks: false, ..RULES };
    fleet.apply(Event::Configured([spec("http://a")].into(), rules), at(1));
    assert_eq!(fleet.snapshot().servers[0].health, Health::Healthy);
}

#[test]
fn declared_models_count_only_where_no_server_is_asked() {
    let declared = || {
        let models = Some(Models::new(["m".into()]));
        [ServerSpec { declared_models: models, ..spec("http://a") }].into()
    };
    let unchecked = HealthRules { active_checks: false, ..RULES };
    let mut fleet = Fleet::new(RULES);
    fleet.apply(Event::Configured(declared(), RULES), at(0));
    assert!(fleet.snapshot().models.servers_of("m").is_none());
    let mut fleet = Fleet::new(unchecked);
    fleet.apply(Event::Configured(declared(), unchecked), at(0));
    assert!(fleet.snapshot().models.servers_of("m").is_some());
}

/// A fleet of checked servers that holds a request at each, and has been ticking since.
fn busy_fleet(count: usize, until: u64) -> (Fleet, Vec<Reservation>) {
    let urls: Vec<_> = (0..count).map(|nth| alloc::format!("http://{nth}")).collect();
    let mut fleet = fleet(&urls.iter().map(alloc::string::String::as_str).collect::<Vec<_>>());
    for nth in 0..count {
        let key = key(&fleet, nth);
        fleet.apply(Event::Checked(key, check(Ok(()))), at(1));
    }
    tick(&mut fleet, 1..=1);
    let held = fleet.snapshot().servers.iter().map(|server| server.ledger.reserve()).collect();
    tick(&mut fleet, 2..=until);
    (fleet, held)
}

fn tick(fleet: &mut Fleet, secs: core::ops::RangeInclusive<u64>) -> Vec<Change> {
    secs.flat_map(|secs| fleet.apply(Event::Tick, at(secs))).collect()
}

fn health(fleet: &Fleet, nth: usize) -> Health {
    fleet.snapshot().servers[nth].health
}

#[test]
fn a_server_that_gets_nowhere_with_its_requests_is_tested_and_ejected_unless_it_answers() {
    let (mut fleet, _held) = busy_fleet(1, 10);
    let a = key(&fleet, 0);
    assert_eq!(health(&fleet, 0), Health::Healthy);
    tick(&mut fleet, 11..=11);
    assert_eq!(health(&fleet, 0), Health::UnderTest { since: at(11) });
    fleet.apply(Event::Checked(a, check(Ok(()))), at(12));
    assert_eq!(health(&fleet, 0), Health::UnderTest { since: at(11) }, "a check cannot tell");
    tick(&mut fleet, 12..=21);
    fleet.apply(Event::Probed(a, at(12), Probe::Failed(Fault::NoProgress)), at(22));
    assert!(matches!(health(&fleet, 0), Health::Ejected { cause: Fault::NoProgress, .. }));
    fleet.apply(Event::Checked(a, check(Ok(()))), at(23));
    assert!(!health(&fleet, 0).is_routable(), "a check cannot tell");
    fleet.apply(Event::Probed(a, at(23), Probe::Answered), at(24));
    assert_eq!(health(&fleet, 0), Health::Healthy);
}

#[test]
fn progress_or_an_answered_probe_ends_the_test() {
    let (mut fleet, _held) = busy_fleet(2, 11);
    fleet.snapshot().servers[0].ledger.note_progress(at(12));
    tick(&mut fleet, 12..=12);
    assert_eq!(health(&fleet, 0), Health::Healthy);
    let b = key(&fleet, 1);
    fleet.apply(Event::Probed(b, at(11), Probe::Answered), at(13));
    assert_eq!(health(&fleet, 1), Health::Healthy);
}

#[test]
fn a_probe_that_waited_while_others_were_served_says_nothing() {
    let (mut fleet, _held) = busy_fleet(1, 11);
    let a = key(&fleet, 0);
    fleet.snapshot().servers[0].ledger.note_progress(at(14));
    fleet.apply(Event::Probed(a, at(11), Probe::Failed(Fault::NoProgress)), at(15));
    assert!(health(&fleet, 0).is_routable());
}

#[test]
fn a_server_without_requests_is_never_tested() {
    let (mut fleet, held) = busy_fleet(1, 3);
    drop(held);
    tick(&mut fleet, 4..=500);
    assert_eq!(health(&fleet, 0), Health::Healthy);
}

#[test]
fn slow_and_failed_checks_of_a_server_whose_tokens_flow_are_no_evidence() {
    let (mut fleet, _held) = busy_fleet(1, 2);
    let a = key(&fleet, 0);
    for secs in 3..40 {
        let server = Arc::clone(&fleet.snapshot().servers[0]);
        server.ledger.note_progress(at(secs));
        let found = [Err(Fault::Silent), Ok(()), Err(Fault::Reset), Err(Fault::Status(500))];
        let slow = Check { took: Duration::from_secs(30), found: found[secs as usize % 4] };
        fleet.apply(Event::Checked(a, slow), at(secs));
        assert_eq!(health(&fleet, 0), Health::Healthy);
    }
    let dead = check(Err(Fault::EngineDead));
    fleet.apply(Event::Checked(a, dead), at(40));
    assert!(matches!(health(&fleet, 0), Health::Ejected { cause: Fault::EngineDead, .. }));
}

#[test]
fn if_more_than_half_of_the_fleet_is_silent_at_once_the_observer_is_doubted() {
    let (mut fleet, _held) = busy_fleet(3, 5);
    let ledgers: Vec<_> =
        fleet.snapshot().servers.iter().map(|server| Arc::clone(&server.ledger)).collect();
    ledgers[0].note_progress(at(6));
    ledgers[1].note_progress(at(10));
    let changes = tick(&mut fleet, 6..=17);
    assert!(matches!(health(&fleet, 2), Health::UnderTest { .. }));
    assert!(!changes.contains(&Change::Judgement(Judgement::Doubted)), "one is no pattern");
    let changes = tick(&mut fleet, 18..=18);
    assert!(changes.contains(&Change::Judgement(Judgement::Doubted)));
    assert_eq!(fleet.snapshot().judgement, Judgement::Doubted);
    ledgers[0].note_progress(at(19));
    let changes = tick(&mut fleet, 19..=19);
    assert!(changes.contains(&Change::Judgement(Judgement::Trusted)));
}

#[test]
fn after_an_absence_of_our_own_nobody_is_judged_by_what_took_long_meanwhile() {
    let (mut fleet, _held) = busy_fleet(3, 10);
    let keys = [0, 1, 2].map(|nth| key(&fleet, nth));
    let slow = Check { took: Duration::from_secs(30), found: Err(Fault::Silent) };
    let mut changes = Vec::new();
    for key in keys {
        for _ in 0..3 {
            changes.extend(fleet.apply(Event::Checked(key, slow), at(40)));
            changes.extend(fleet.apply(Event::RequestFailed(key, Fault::Silent), at(40)));
        }
    }
    changes.extend(tick(&mut fleet, 40..=49));
    assert_eq!(changes, [Change::Overslept(Duration::from_secs(30))]);
    tick(&mut fleet, 50..=50);
    assert_eq!(health(&fleet, 0), Health::UnderTest { since: at(50) }, "from then on as always");
}

#[test]
fn a_check_that_was_answered_while_we_stood_still_was_not_slow() {
    let mut fleet = fleet(&["http://a", "http://b"]);
    let keys = [0, 1].map(|nth| key(&fleet, nth));
    for key in keys {
        fleet.apply(Event::Checked(key, check(Ok(()))), at(0));
    }
    tick(&mut fleet, 0..=1);
    for key in keys {
        let changes = fleet.apply(
            Event::Checked(key, Check { took: Duration::from_secs(60), found: Ok(()) }),
            at(61),
        );
        assert!(
            !changes.iter().any(|change| matches!(change, Change::Health { .. })),
            "{changes:?}"
        );
    }
    // Nor does it weigh on what comes when all is as always.
    let changes = fleet.apply(Event::Checked(keys[0], check(Ok(()))), at(90));
    assert!(!changes.iter().any(|change| matches!(change, Change::Health { .. })), "{changes:?}");
}

fn reading(started: Option<f64>, tokens: u64) -> Reading {
    let sample = Sample {
        sent_at: at(0),
        own_in_flight: 0,
        running: 0.0,
        waiting: 0.0,
        kv_cache_usage: 0.0,
    };
    let counters = Counters { generation_tokens: Some(tokens), ..Counters::default() };
    Reading { sample, counters, kv_tokens: None, process_max_fds: None, started }
}

/// The readings of one server one after the other: how many restarts they tell of.
fn restarts(readings: &[Reading]) -> usize {
    let mut fleet = fleet(&["http://a"]);
    let a = key(&fleet, 0);
    let apply = |reading: &Reading| fleet.apply(Event::Scraped(a, *reading), at(1));
    let changes: Vec<_> = readings.iter().flat_map(apply).collect();
    changes.iter().filter(|change| matches!(change, Change::Restarted(..))).count()
}

#[test]
fn a_later_start_or_else_counters_that_went_back_are_a_restart() {
    let (old, new) = (Some(100.25), Some(160.5));
    assert_eq!(restarts(&[reading(old, 5), reading(old, 9), reading(old, 9)]), 0);
    assert_eq!(restarts(&[reading(old, 5), reading(new, 0), reading(new, 3)]), 1);
    assert_eq!(restarts(&[reading(None, 5), reading(None, 4), reading(None, 4)]), 1);
    let two_processes_in_turn = [reading(old, 5), reading(new, 2), reading(old, 5)];
    assert_eq!(restarts(&[two_processes_in_turn, two_processes_in_turn].concat()), 1);
}

#[test]
fn a_restarted_server_has_a_clean_record_and_keeps_its_reservations() {
    let mut fleet = fleet(&["http://a"]);
    let a = key(&fleet, 0);
    fleet.apply(Event::Checked(a, check(Ok(()))), at(1));
    fleet.apply(Event::Scraped(a, reading(Some(1.0), 7)), at(1));
    let held = fleet.snapshot().servers[0].ledger.reserve();
    fleet.apply(Event::RequestFailed(a, Fault::Reset), at(2));
    let changes = fleet.apply(Event::Scraped(a, reading(Some(3.0), 0)), at(3));
    assert_eq!(changes[0], Change::Restarted(a, "http://a".into()));
    let server = Arc::clone(&fleet.snapshot().servers[0]);
    assert_eq!((server.health, server.figures.consecutive_failures), (Health::Healthy, 0));
    assert!(server.handicap.is_ramping(at(3)), "its caches are cold");
    assert_eq!(server.ledger.in_flight(), 1);
    drop(held);
}

mod shares;
