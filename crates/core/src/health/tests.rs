use super::*;
use proptest::prelude::*;

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

const UNCHECKED: HealthRules = HealthRules { active_checks: false, ..RULES };

fn at(secs: u64) -> Timestamp {
    Timestamp::after_start(Duration::from_secs(secs))
}

fn good() -> Check {
    Check { took: Duration::from_millis(5), found: Ok(()) }
}

fn bad() -> Check {
    failed(Fault::Unreachable)
}

fn failed(fault: Fault) -> Check {
    Check { took: Duration::from_millis(5), found: Err(fault) }
}

fn record(checks: &[Check]) -> HealthRecord {
    let mut record = HealthRecord::new(&RULES);
    for (secs, check) in checks.iter().enumerate() {
        record.checked(*check, &RULES, at(secs as u64));
    }
    record
}

/// A server that was in for long and whose requests then failed at 1,000 s.
fn ejected(fault: Fault) -> HealthRecord {
    let mut record = record(&[good()]);
    for _ in 0..RULES.failure_threshold {
        record.request_failed(fault, &RULES, at(1_000));
    }
    assert!(is_ejected(&record));
    record
}

fn is_ejected(record: &HealthRecord) -> bool {
    matches!(record.state(), Health::Ejected { .. })
}

#[test]
fn a_new_server_gets_nothing_until_its_first_good_check() {
    assert_eq!(record(&[]).state(), Health::Unproven);
    assert_eq!(record(&[good()]).state(), Health::Healthy);
    assert!(is_ejected(&record(&[bad()])));
}

#[test]
fn without_active_checks_a_new_server_is_trusted() {
    assert_eq!(HealthRecord::new(&UNCHECKED).state(), Health::Healthy);
}

#[test]
fn consecutive_failures_eject_and_one_good_check_brings_back() {
    let mut record = record(&[good(), bad(), bad()]);
    assert_eq!(record.state(), Health::Healthy);
    record.checked(bad(), &RULES, at(9));
    let expected = Health::Ejected {
        since: at(9),
        cause: Fault::Unreachable,
        until: at(9),
        proof: Proof::Check,
    };
    assert_eq!(record.state(), expected);
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
    let mut record = record(&[slow]);
    assert!(matches!(record.state(), Health::Ejected { cause: Fault::SlowChecks, .. }));
    record.checked(slow, &RULES, at(9));
    assert!(is_ejected(&record), "another slow one does not bring it back");
}

#[test]
fn failed_requests_make_suspect_then_eject() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Reset, &RULES, at(1));
    assert_eq!(record.state(), Health::Suspect);
    assert!(record.state().is_routable());
    record.request_failed(Fault::Status(500), &RULES, at(2));
    assert!(matches!(record.state(), Health::Ejected { cause: Fault::Status(500), .. }));
}

#[test]
fn an_answered_request_clears_suspicion() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::Reset, &RULES, at(1));
    record.request_succeeded(at(1), at(1));
    assert_eq!(record.state(), Health::Healthy);
    record.request_failed(Fault::Reset, &RULES, at(2));
    assert_eq!(record.state(), Health::Suspect);
}

#[test]
fn a_dead_engine_ejects_at_once_whoever_says_so_and_needs_an_answer_to_return() {
    let mut by_request = record(&[good()]);
    by_request.request_failed(Fault::EngineDead, &RULES, at(5));
    let by_check = record(&[good(), failed(Fault::EngineDead)]);
    for mut record in [by_request, by_check] {
        assert!(is_ejected(&record));
        for secs in 6..500 {
            record.checked(good(), &RULES, at(secs));
            assert!(is_ejected(&record), "its /health says 200");
        }
        record.probed(Probe::Answered, &RULES, at(500));
        assert_eq!(record.state(), Health::Healthy);
    }
}

#[test]
fn a_good_check_does_not_outweigh_failed_requests() {
    let mut record = ejected(Fault::Silent);
    record.checked(good(), &RULES, at(1_010));
    assert!(is_ejected(&record));
    assert!(record.state().wants_probe(at(1_010)));
    record.probed(Probe::Failed(Fault::NoProgress), &RULES, at(1_025));
    assert!(is_ejected(&record));
    record.probed(Probe::Answered, &RULES, at(1_055));
    assert_eq!(record.state(), Health::Healthy);
}

#[test]
fn a_server_that_was_gone_needs_no_probe_and_comes_back_without_a_past() {
    for mut record in [ejected(Fault::Unreachable), ejected(Fault::EngineDead)] {
        record.request_failed(Fault::Unreachable, &RULES, at(1_003));
        assert!(!record.state().wants_probe(at(1_004)));
        record.checked(good(), &RULES, at(1_004));
        assert_eq!(record.state(), Health::Healthy);
        assert_eq!(record.figures().consecutive_failures, 0);
    }
}

#[test]
fn a_server_that_returns_gets_little_at_first() {
    let mut record = ejected(Fault::Reset);
    record.probed(Probe::Answered, &RULES, at(1_010));
    assert!(record.handicap().is_ramping(at(1_019)));
    assert!(!record.handicap().is_ramping(at(1_020)));
}

#[test]
fn where_a_probe_cannot_tell_one_request_does() {
    let mut record = ejected(Fault::Reset);
    record.probed(Probe::CannotTell, &RULES, at(1_010));
    assert!(is_ejected(&record), "not at once");
    record.probed(Probe::CannotTell, &RULES, at(1_040));
    assert_eq!(record.state(), Health::Probation);
    assert_eq!(record.handicap().factor(at(1_040)), 1.0, "it is to get that request");
    let mut failing = record.clone();
    failing.request_failed(Fault::Reset, &RULES, at(1_041));
    assert!(is_ejected(&failing), "one failure is enough");
    record.request_succeeded(at(1_040), at(1_041));
    assert_eq!(record.state(), Health::Healthy);
}

#[test]
fn a_relapse_is_held_out_longer_each_time() {
    let mut record = record(&[good()]);
    let (mut now, mut absences) = (1_000, alloc::vec::Vec::new());
    for _ in 0..5 {
        let out_at = now;
        while !is_ejected(&record) {
            record.request_failed(Fault::Reset, &RULES, at(now));
        }
        while is_ejected(&record) {
            now += 1;
            record.checked(good(), &RULES, at(now));
            record.probed(Probe::Answered, &RULES, at(now));
        }
        absences.push(now - out_at);
        now += 3;
    }
    assert_eq!(absences, [1, 30, 60, 120, 240]);
}

#[test]
fn only_a_request_sent_as_a_last_resort_ends_a_hold_down() {
    let mut record = record(&[good()]);
    record.request_failed(Fault::EngineDead, &RULES, at(1_000));
    record.probed(Probe::Answered, &RULES, at(1_001));
    record.request_failed(Fault::EngineDead, &RULES, at(1_002));
    record.request_succeeded(at(1_001), at(1_003));
    record.probed(Probe::Answered, &RULES, at(1_003));
    assert!(is_ejected(&record));
    record.request_succeeded(at(1_003), at(1_004));
    assert_eq!(record.state(), Health::Healthy);
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
    let mut record = HealthRecord::new(&UNCHECKED);
    record.request_failed(Fault::Reset, &UNCHECKED, at(0));
    record.request_failed(Fault::Reset, &UNCHECKED, at(1));
    record.tick(&UNCHECKED, at(60));
    assert!(!record.state().is_routable());
    record.tick(&UNCHECKED, at(61));
    assert_eq!(record.state(), Health::Probation);
    record.stalled(&UNCHECKED, at(62));
    assert_eq!(record.state(), Health::Probation, "nobody may test it");
}

mod model;
