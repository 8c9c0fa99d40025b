//! Whatever happens in whatever order: the edges that there are, and the way back that there is.

use super::*;
use alloc::vec;
use alloc::vec::Vec;

#[derive(Debug, Clone, Copy)]
enum Step {
    Checked(Result<(), Fault>),
    Probed(Probe),
    Failed(Fault),
    Succeeded { sent_before: u64 },
    Stalled,
    Progressed,
    Restarted,
    Tick,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Unreachable),
        Just(Fault::Reset),
        Just(Fault::Silent),
        Just(Fault::EngineDead),
        Just(Fault::Status(500)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Checked(Ok(()))),
        fault().prop_map(|fault| Step::Checked(Err(fault))),
        Just(Step::Probed(Probe::Answered)),
        Just(Step::Probed(Probe::CannotTell)),
        fault().prop_map(|fault| Step::Probed(Probe::Failed(fault))),
        fault().prop_map(Step::Failed),
        (0u64..100).prop_map(|sent_before| Step::Succeeded { sent_before }),
        Just(Step::Stalled),
        Just(Step::Progressed),
        Just(Step::Restarted),
        Just(Step::Tick),
    ]
}

fn take(record: &mut HealthRecord, step: Step, rules: &HealthRules, now: u64) {
    match step {
        Step::Checked(found) => {
            record.checked(Check { found, ..good() }, rules, at(now));
        }
        Step::Probed(probe) => record.probed(probe, rules, at(now)),
        Step::Failed(fault) => record.request_failed(fault, rules, at(now)),
        Step::Succeeded { sent_before } => {
            record.request_succeeded(at(now.saturating_sub(sent_before)), at(now));
        }
        Step::Stalled => record.stalled(rules, at(now)),
        Step::Progressed => record.progressed(at(now)),
        Step::Restarted => record.restarted(at(now)),
        Step::Tick => record.tick(rules, at(now)),
    }
}

/// Whether the transition is in the picture at the head of health.rs, and on that step.
fn is_named(before: Health, step: Step, after: Health, now: Timestamp) -> bool {
    use Health::*;
    let checked_well = matches!(step, Step::Checked(Ok(())));
    let probed = |wanted: Probe| matches!(step, Step::Probed(probe) if probe == wanted);
    let failed =
        matches!(step, Step::Checked(Err(_)) | Step::Failed(_) | Step::Probed(Probe::Failed(_)));
    let succeeded = matches!(step, Step::Succeeded { .. });
    let is_let_out = |until: Timestamp| until <= now;
    match (before, after) {
        (Unproven, Healthy) => checked_well || matches!(step, Step::Tick),
        (Unproven | Healthy | Suspect | UnderTest { .. } | Probation, Ejected { .. }) => failed,
        (Healthy, Suspect) => matches!(step, Step::Failed(_)),
        (Suspect, Healthy) => succeeded || matches!(step, Step::Tick | Step::Restarted),
        (Healthy | Suspect, UnderTest { .. }) => matches!(step, Step::Stalled),
        (UnderTest { .. }, Healthy | Suspect) => {
            succeeded
                || probed(Probe::Answered)
                || matches!(step, Step::Progressed | Step::Restarted | Step::Tick)
        }
        (UnderTest { .. }, Probation) => probed(Probe::CannotTell),
        (Probation, Healthy) => succeeded || matches!(step, Step::Restarted),
        (Ejected { until, proof, .. }, Healthy) => {
            succeeded
                || is_let_out(until)
                    && (probed(Probe::Answered) || checked_well && proof == Proof::Check)
        }
        (Ejected { until, .. }, Probation) => {
            is_let_out(until) && (probed(Probe::CannotTell) || matches!(step, Step::Tick))
        }
        (Ejected { since, until, .. }, Ejected { since: s, until: u, .. }) => {
            (since, until) == (s, u)
        }
        _ => before == after,
    }
}

fn history() -> impl Strategy<Value = Vec<(Step, u64)>> {
    proptest::collection::vec((step(), 0u64..50), 0..80)
}

/// Lives through a history; the record, and when it ended.
fn lived(history: &[(Step, u64)], rules: &HealthRules) -> (HealthRecord, u64) {
    let (mut record, mut now) = (HealthRecord::new(rules), 0);
    for (step, wait) in history {
        now += wait;
        take(&mut record, *step, rules, now);
    }
    (record, now)
}

proptest! {
    #[test]
    fn there_are_no_other_transitions_than_those_in_the_picture(
        history in history(),
        active_checks in any::<bool>(),
    ) {
        let rules = HealthRules { active_checks, ..RULES };
        let (mut record, mut now) = (HealthRecord::new(&rules), 0);
        for (step, wait) in history {
            now += wait;
            let before = record.state();
            take(&mut record, step, &rules, now);
            let after = record.state();
            prop_assert!(
                is_named(before, step, after, at(now)),
                "{before:?} -- {step:?} --> {after:?}"
            );
        }
    }

    #[test]
    fn a_well_server_is_in_after_its_hold_down_one_check_and_one_probe(history in history()) {
        let (mut record, mut now) = lived(&history, &RULES);
        if let Health::Ejected { until, .. } = record.state() {
            let longest = RULES.check_interval * 10;
            prop_assert!(until.since(at(now)) <= longest, "held down for too long");
            now = now.max(until.since(Timestamp::ZERO).as_secs());
        }
        record.checked(good(), &RULES, at(now));
        if record.state().wants_probe(at(now)) {
            record.probed(Probe::Answered, &RULES, at(now));
        }
        prop_assert!(record.state().is_routable(), "{:?}", record.state());
        prop_assert!(!record.state().wants_probe(at(now)), "{:?}", record.state());
    }

    #[test]
    fn a_well_server_that_cannot_be_probed_is_in_after_one_request(history in history()) {
        let (mut record, now) = lived(&history, &RULES);
        let later = now + 1_000;
        record.checked(good(), &RULES, at(later));
        record.probed(Probe::CannotTell, &RULES, at(later));
        prop_assert!(record.state().is_routable());
        record.request_succeeded(at(later), at(later));
        prop_assert_eq!(record.state(), Health::Healthy);
    }

    #[test]
    fn a_well_server_that_nobody_checks_is_in_after_its_time(history in history()) {
        let (mut record, now) = lived(&history, &UNCHECKED);
        let recovery = UNCHECKED.recovery_after.max(UNCHECKED.check_interval * 10);
        let later = at(now) + recovery;
        record.tick(&UNCHECKED, later);
        prop_assert!(record.state().is_routable());
        record.request_succeeded(later, later);
        prop_assert!(matches!(record.state(), Health::Healthy | Health::Suspect));
    }
}
