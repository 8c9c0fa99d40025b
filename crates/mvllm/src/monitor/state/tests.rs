//! Scenarios: keys and news in, and what the state then says.

use super::*;
use crate::monitor::samples::{SECOND, fleet, learn, press, server, state, unhealthy};
use crate::monitor::source::AdminError;
use crate::status::Admission;

fn shown(state: &State) -> Vec<&str> {
    let rows = state.rows();
    rows.iter().map(|row| &row.server.url[7..12]).collect()
}

fn selected(state: &State) -> Option<&str> {
    let rows = state.rows();
    state.selected(&rows).map(|row| &rows[row].server.url[7..12])
}

#[test]
fn a_selection_follows_its_server_when_rows_move() {
    let mut state = state(fleet());
    press(&mut state, "jj");
    assert_eq!(selected(&state), Some("gpu-2"));
    press(&mut state, "ssss");
    assert_eq!(shown(&state), ["gpu-3", "gpu-2", "gpu-1"]);
    assert_eq!(selected(&state), Some("gpu-2"));
    press(&mut state, "j");
    assert_eq!(selected(&state), Some("gpu-1"));
    press(&mut state, "j");
    assert_eq!(selected(&state), Some("gpu-1"), "the last row is the end");
}

#[test]
fn a_selected_server_that_goes_leaves_the_selection_at_its_row() {
    let mut state = state(fleet());
    press(&mut state, "jjj");
    learn(&mut state, vec![server("gpu-1", 10.0), server("gpu-2", 10.0)], SECOND);
    assert_eq!(selected(&state), Some("gpu-2"));
    learn(&mut state, Vec::new(), SECOND);
    assert_eq!(selected(&state), None);
    press(&mut state, "jk\n");
    assert!(state.detailed(&state.rows()).is_none());
}

#[test]
fn figures_sort_downwards_and_can_be_reversed() {
    let mut state = state(vec![server("gpu-1", 20.0), unhealthy("gpu-2"), server("gpu-3", 50.0)]);
    press(&mut state, "ss");
    assert_eq!(state.order.by, SortBy::Running);
    assert_eq!(shown(&state), ["gpu-3", "gpu-1", "gpu-2"]);
    press(&mut state, "S");
    assert_eq!(shown(&state), ["gpu-2", "gpu-1", "gpu-3"]);
    press(&mut state, "ssssss");
    assert_eq!(state.order.by, SortBy::State);
    assert_eq!(shown(&state), ["gpu-2", "gpu-1", "gpu-3"], "the worst first, then as configured");
    press(&mut state, "s");
    assert!(state.order.is_plain());
}

#[test]
fn a_filter_takes_all_its_words_from_url_models_and_state() {
    let mut draining = server("gpu-3", 50.0);
    draining.admission = Admission::Draining;
    let mut state = state(vec![server("gpu-1", 20.0), unhealthy("gpu-2"), draining]);
    let mut check = |filter: &str, expect: &[&str]| {
        press(&mut state, &format!("/{filter}\n"));
        assert_eq!(shown(&state), expect, "{filter}");
        press(&mut state, "\x1b");
        assert_eq!(state.filter, "");
    };
    check("QWEN gpu-1", &["gpu-1"]);
    check("healthy", &["gpu-1", "gpu-3"]);
    check("unhealthy", &["gpu-2"]);
    check("drain", &["gpu-3"]);
    check("gpu-1 gpu-2", &[]);
}

#[test]
fn esc_brings_back_the_filter_before() {
    let mut state = state(fleet());
    press(&mut state, "/gpu-1\n/5\x1b");
    assert_eq!(state.filter, "gpu-1");
    assert_eq!(state.mode, Mode::Browse);
}

#[test]
fn a_command_is_sent_only_after_a_yes() {
    let mut state = state(fleet());
    press(&mut state, "jjd");
    let drain = AdminCommand { verb: Verb::Drain, url: "http://gpu-2:8000".to_owned() };
    assert_eq!(state.mode, Mode::Confirm(drain.clone()));
    press(&mut state, "\nxn");
    assert_eq!(state.mode, Mode::Browse);
    press(&mut state, "d");
    assert_eq!(state.apply(Input::Confirm, SECOND), Some(Action::Order(drain)));
    assert_eq!(state.mode, Mode::Browse);
    assert_eq!(state.apply(Input::Confirm, SECOND), None, "one question, one order");
}

#[test]
fn a_command_goes_to_the_server_that_was_asked_about() {
    let mut state = state(fleet());
    press(&mut state, "jc");
    learn(&mut state, vec![server("gpu-9", 1.0)], SECOND);
    let expect = AdminCommand { verb: Verb::Cordon, url: "http://gpu-1:8000".to_owned() };
    assert_eq!(state.apply(Input::Confirm, SECOND), Some(Action::Order(expect)));
}

#[test]
fn the_result_of_a_command_is_shown_for_a_while() {
    let mut state = state(fleet());
    let command = AdminCommand { verb: Verb::Drain, url: "http://gpu-2:8000".to_owned() };
    let outcome = Err(AdminError::UnknownServer);
    state.apply(Input::News(News::Answered { command, outcome }), SECOND);
    let notice = state.notice(SECOND * 2).unwrap();
    assert_eq!(notice.severity, Severity::Error);
    let text = "http://gpu-2:8000 was not drained: no such server is configured";
    assert_eq!(notice.text, text);
    assert_eq!(state.notice(SECOND * 20), None);
}

#[test]
fn without_a_selection_nothing_is_asked() {
    let mut state = state(fleet());
    press(&mut state, "u");
    assert_eq!(state.mode, Mode::Browse);
    assert_eq!(state.notice(SECOND).unwrap().severity, Severity::Warning);
}

#[test]
fn a_paused_screen_keeps_its_report() {
    let mut state = state(fleet());
    press(&mut state, "p");
    learn(&mut state, vec![unhealthy("gpu-1")], SECOND);
    assert_eq!(state.rows().len(), 3);
    press(&mut state, "p");
    assert_eq!(state.rows().len(), 1);
}

#[test]
fn a_lost_connection_keeps_the_last_report_and_counts_from_the_first_failure() {
    let mut state = State::new("http://router:8888".to_owned(), Models::Hidden);
    assert_eq!(state.link(SECOND), Link::Connecting);
    let lost = |why: &str| Input::News(News::Lost { why: why.to_owned() });
    state.apply(lost("connection refused"), SECOND);
    state.apply(lost("no answer"), SECOND * 3);
    assert_eq!(state.link(SECOND * 4), Link::Lost { lasted: SECOND * 3, why: "no answer" });
    assert!(state.report().is_none());
    learn(&mut state, fleet(), SECOND * 5);
    assert_eq!(state.link(SECOND * 6), Link::Live);
    state.apply(lost("connection reset"), SECOND * 7);
    assert_eq!(state.rows().len(), 3);
}

#[test]
fn a_report_grows_old() {
    let state = state(fleet());
    assert_eq!(state.link(STALE_AFTER), Link::Live);
    assert_eq!(state.link(STALE_AFTER * 2), Link::Stale(STALE_AFTER * 2));
}

#[test]
fn esc_goes_back_one_step_at_a_time() {
    let mut state = state(fleet());
    press(&mut state, "/gpu\n\n?");
    assert_eq!(state.mode, Mode::Help);
    press(&mut state, "\x1b");
    assert!(state.detailed(&state.rows()).is_some());
    press(&mut state, "\x1b");
    assert!(state.detailed(&state.rows()).is_none());
    assert_eq!(state.filter, "gpu");
    press(&mut state, "\x1b\x1b");
    assert_eq!((state.filter.as_str(), selected(&state)), ("", None));
}
