use super::*;
use proptest::prelude::*;

const RULES: HealthRules = HealthRules {
    active_checks: true,
    failure_threshold: 2,
    recovery_after: Duration::from_secs(60),
    consecutive_failures: 3,
    min_success_rate: 0.8,
    max_response_time: Duration::from_secs(10),
    window: 10,
};

fn at(secs: u64) -> Timestamp {
    Timestamp::after_start(Duration::from_secs(secs))
}

fn good() -> Check {
    Check { took: Duration::from_millis(5), found: Ok(()) }
}

fn bad() -> Check {
    Check { took: Duration::from_millis(5), found: Err(Fault::Unreachable) }
}

fn record(checks: &[Check]) -> HealthRecord {
    let mut record = HealthRecord::new(&RULES);
    for (secs, check) in checks.iter().enumerate() {
        record.checked(*check, &RULES, at(secs as u64));
    }
    record
}

#[test]
fn a_new_server_gets_nothing_until_its_first_good_check() {
    assert_eq!(record(&[]).state(), Health::Unproven);
    assert_eq!(record(&[good()]).state(), Health::Healthy);
    assert!(matches!(record(&[bad()]).state(), Health::Ejected { .. }));
}

#[test]
fn without_active_checks_a_new_server_is_trusted() {
    let rules = HealthRules { active_checks: false, ..RULES };
    assert_eq!(HealthRecord::new(&rules).state(), Health::Healthy);
}

#[test]
fn consecutive_failures_eject_and_one_good_check_brings_back() {
    let mut record = record(&[good(), bad(), bad()]);
    assert_eq!(record.state(), Health::Healthy);
    record.checked(bad(), &RULES, at(9));
    assert_eq!(record.state(), Health::Ejected { since: at(9), cause: Fault::Unreachable });
    for secs in 10..4_000 {
        record.checked(bad(), &RULES, at(secs));
    }
    record.checked(good(), &RULES, at(4_000));
    assert_eq!(record.state(), Health::Healthy);
}

#[test]
fn a_server_that_fails_every_third_check_is_ejected_by_its_success_rate() {
    let mut record = record(&[]);
    let mut ejected = None;
    for secs in 0..9 {
        record.checked(if secs % 3 == 2 { bad() } else { good() }, &RULES, at(secs));
        if let Health::Ejected { cause, .. } = record.state() {
            ejected.get_or_insert((secs, cause));
        }
    }
    assert_eq!(ejected, Some((8, Fault::SuccessRate)));
}

#[test]
fn slow_checks_eject() {
    let slow = Check { took: Duration::from_secs(11), found: Ok(()) };
    assert!(matches!(record(&[slow]).state(), Health::Ejected { cause: Fault::SlowChecks, .. }));
}

#[test]
fn failed_requests_make_suspect_then_eject() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Reset, &RULES, at(1));
    assert_eq!(record.state(), Health::Suspect);
    assert!(record.state().is_routable());
    record.request_failed(Fault::Status(500), &RULES, at(2));
    assert_eq!(record.state(), Health::Ejected { since: at(2), cause: Fault::Status(500) });
}

#[test]
fn an_answered_request_clears_suspicion() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Reset, &RULES, at(1));
    record.request_succeeded();
    assert_eq!(record.state(), Health::Healthy);
    record.request_failed(Fault::Reset, &RULES, at(2));
    assert_eq!(record.state(), Health::Suspect);
}

#[test]
fn a_good_check_does_not_outweigh_failed_requests() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Silent, &RULES, at(1));
    record.checked(good(), &RULES, at(2));
    assert_eq!(record.state(), Health::Suspect);
    record.request_failed(Fault::Silent, &RULES, at(31));
    record.checked(good(), &RULES, at(32));
    assert_eq!(record.state(), Health::Suspect, "back on probation");
    record.request_failed(Fault::Silent, &RULES, at(33));
    assert!(matches!(record.state(), Health::Ejected { .. }), "one failure is enough now");
}

#[test]
fn a_server_that_was_gone_comes_back_without_a_past() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Unreachable, &RULES, at(1));
    record.request_failed(Fault::Unreachable, &RULES, at(2));
    assert!(matches!(record.state(), Health::Ejected { .. }));
    record.request_failed(Fault::Unreachable, &RULES, at(3));
    record.checked(good(), &RULES, at(4));
    assert_eq!(record.state(), Health::Healthy);
    assert_eq!(record.figures().consecutive_failures, 0);
}

#[test]
fn an_old_failure_is_forgotten() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Reset, &RULES, at(1));
    record.tick(&RULES, at(61));
    assert_eq!(record.state(), Health::Suspect);
    record.tick(&RULES, at(62));
    assert_eq!(record.state(), Health::Healthy);
    record.request_failed(Fault::Reset, &RULES, at(63));
    assert_eq!(record.state(), Health::Suspect);
}

#[test]
fn without_active_checks_an_ejected_server_comes_back_on_probation() {
    let rules = HealthRules { active_checks: false, ..RULES };
    let mut record = HealthRecord::new(&rules);
    record.request_failed(Fault::Reset, &rules, at(0));
    record.request_failed(Fault::Reset, &rules, at(1));
    record.tick(&rules, at(60));
    assert!(!record.state().is_routable());
    record.tick(&rules, at(61));
    assert_eq!(record.state(), Health::Suspect);
}

#[derive(Debug, Clone)]
enum Step {
    Check(bool),
    Failed,
    Succeeded,
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Check),
        Just(Step::Failed),
        Just(Step::Succeeded),
        Just(Step::Tick),
    ]
}

proptest! {
    #[test]
    fn whatever_happened_one_good_check_makes_a_server_routable(
        steps in proptest::collection::vec((step(), 0u64..50), 0..60),
    ) {
        let mut record = HealthRecord::new(&RULES);
        let mut now = 0;
        for (step, wait) in steps {
            now += wait;
            let before = record.state();
            match step {
                Step::Check(true) => record.checked(good(), &RULES, at(now)),
                Step::Check(false) => record.checked(bad(), &RULES, at(now)),
                Step::Failed => record.request_failed(Fault::Reset, &RULES, at(now)),
                Step::Succeeded => record.request_succeeded(),
                Step::Tick => record.tick(&RULES, at(now)),
            }
            prop_assert!(record.state() != Health::Unproven || before == Health::Unproven);
        }
        record.checked(good(), &RULES, at(now));
        prop_assert!(record.state().is_routable());
    }
}
