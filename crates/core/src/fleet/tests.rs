use super::*;
use crate::load::Capacity;
use core::num::NonZeroU32;

const RULES: HealthRules = HealthRules {
    active_checks: true,
    failure_threshold: 2,
    recovery_after: Duration::from_secs(60),
    consecutive_failures: 3,
    min_success_rate: 0.8,
    max_response_time: Duration::from_secs(10),
    window: 10,
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
    let expected = Health::Ejected { since: at(3), cause: Fault::Unreachable };
    assert_eq!(fleet.snapshot().servers[0].health, expected);
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
