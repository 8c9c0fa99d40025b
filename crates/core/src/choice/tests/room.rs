//! Prompts and the servers that they fit on; what only one server holds.

use super::*;
use crate::prompt::Prompt;

fn prompt(least_tokens: u32) -> Prompt {
    Prompt { least_tokens, tokens: least_tokens, ..Prompt::default() }
}

fn room(max_len: u32) -> Server {
    Server { max_len: Some(max_len), ..server() }
}

fn check_long(
    least_tokens: u32,
    servers: &[Server],
    tried: &Tried,
    expect: Result<usize, Refusal>,
) {
    let prompt = prompt(least_tokens);
    let facts = Facts { model: Some("m"), prompt: Some(&prompt), ..Facts::default() };
    assert_eq!(asks(&facts, &snapshot(servers), tried), expect);
}

#[test]
fn a_prompt_goes_where_it_fits_while_there_is_such_a_server() {
    let busy = Server { running: 99.0, ..room(1000) };
    let full = Server { health: UNDER_TEST, ..room(1000) };
    let tried = Tried::default();
    check_long(500, &[room(100), busy.clone()], &tried, Ok(1));
    check_long(500, &[room(100), full], &tried, Ok(1));
    check_long(100, &[room(100), busy.clone()], &tried, Ok(0));
    check_long(500, &[room(100), Server { running: 99.0, ..server() }], &tried, Ok(1));
    check_long(5000, &[room(100), busy], &tried, Ok(0));
}

#[test]
fn an_estimate_refuses_nobody() {
    let out = Server { health: EJECTED, ..room(1000) };
    check_long(500, &[room(100)], &Tried::default(), Ok(0));
    check_long(500, &[room(100), out], &Tried::default(), Ok(0));
}

#[test]
fn after_a_server_found_the_prompt_too_long_only_larger_ones_are_tried() {
    let mut tried = Tried::default();
    tried.note(ServerKey::nth(0), Failure::TooLong { max_len: 100 });
    check_long(9, &[room(100), room(100), room(50)], &tried, Err(Refusal::Exhausted));
    check_long(9, &[room(100), room(100), Server { running: 9.0, ..room(101) }], &tried, Ok(2));
    check_long(9, &[room(100), room(100), server()], &tried, Ok(2));
}

#[test]
fn somebody_else_has_more_room_if_he_says_so_and_was_not_tried() {
    let has_more = |servers: &[Server], tried: &Tried| {
        let snapshot = snapshot(servers);
        let facts = Facts { model: Some("m"), ..Facts::default() };
        has_more_room_elsewhere(&facts, &snapshot, tried, &snapshot.servers[0])
    };
    let mut tried = Tried::default();
    assert!(has_more(&[room(100), room(101)], &tried));
    assert!(!has_more(&[room(100), room(100), server()], &tried));
    assert!(!has_more(&[server(), room(100)], &tried));
    let other = Server { models: Some(alloc::vec!["other"]), ..room(1000) };
    let cordoned = Server { admission: Admission::Cordoned, ..room(1000) };
    assert!(!has_more(&[room(100), other, cordoned], &tried));
    tried.note(ServerKey::nth(1), Failure::Lost);
    assert!(!has_more(&[room(100), room(101)], &tried));
}

#[test]
fn what_one_server_holds_is_asked_of_that_server_whatever_its_state() {
    let facts = Facts { holder: Some(ServerKey::nth(1)), ..Facts::default() };
    for holder in [
        Server { running: 99.0, ..server() },
        Server { health: EJECTED, ..server() },
        Server { admission: Admission::Draining, ..server() },
    ] {
        let snapshot = snapshot(&[server(), holder]);
        assert_eq!(asks(&facts, &snapshot, &Tried::default()), Ok(1));
        let mut tried = Tried::default();
        tried.note(ServerKey::nth(1), Failure::NotHeld);
        assert_eq!(asks(&facts, &snapshot, &tried), Ok(0));
    }
    assert_eq!(asks(&facts, &snapshot(&[server()]), &Tried::default()), Ok(0), "it has left");
}

#[test]
fn what_a_server_does_not_hold_another_may_that_gets_requests_and_was_not_tried() {
    let may_be = |servers: &[Server], tried: &Tried| {
        let snapshot = snapshot(servers);
        let facts = Facts { model: Some("m"), ..Facts::default() };
        may_be_held_elsewhere(&facts, &snapshot, tried, &snapshot.servers[0])
    };
    let mut tried = Tried::default();
    let out = Server { health: EJECTED, ..server() };
    let other = Server { models: Some(alloc::vec!["other"]), ..server() };
    assert!(may_be(&[server(), server()], &tried));
    assert!(!may_be(&[server(), out, other], &tried));
    tried.note(ServerKey::nth(1), Failure::NotHeld);
    assert!(!may_be(&[server(), server()], &tried));
}
