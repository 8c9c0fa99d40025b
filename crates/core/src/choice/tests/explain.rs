//! What is said of a choice is what the choice does.

use super::*;
use crate::choice::explain::{Standing, explain};

fn explained(servers: &[Server], facts: &Facts<'_>) -> (Vec<&'static str>, Option<usize>) {
    let snapshot = snapshot(servers);
    let mut random = fastrand::Rng::with_seed(7);
    let tried = Tried::default();
    let explanation = explain(Policy::Load, facts, &snapshot, &tried, &mut random, Timestamp::ZERO);
    let at = |chosen: &Arc<ServerView>| snapshot.servers.iter().position(|s| s.key == chosen.key);
    let words = explanation.servers.iter().map(|considered| considered.standing.words()).collect();
    (words, explanation.choice.ok().and_then(at))
}

#[test]
fn every_server_has_its_reason() {
    let servers = [
        server(),
        Server { models: Some(alloc::vec!["other"]), ..server() },
        Server { admission: Admission::Draining, ..server() },
        Server { health: EJECTED, ..server() },
        Server { health: Health::Unproven, ..server() },
        Server { models: None, ..server() },
    ];
    let facts = Facts { model: Some("m"), ..Facts::default() };
    let expect = [
        "fit",
        "serves other models",
        "gets no new requests by the operator's order",
        "out; asked if nobody else is left",
        "has not been checked yet",
        "has not said what it serves",
    ];
    assert_eq!(explained(&servers, &facts), (expect.to_vec(), Some(0)));
    let facts = Facts { holder: Some(ServerKey::nth(3)), ..facts };
    let (words, choice) = explained(&servers, &facts);
    assert_eq!((words[3], choice), (Standing::Holder.words(), Some(3)));
}

proptest! {
    #[test]
    fn whoever_is_said_to_be_chosen_is_chosen(
        servers in proptest::collection::vec(any_server(), 0..8),
    ) {
        let snapshot = snapshot(&servers);
        let facts = Facts { model: Some("m"), ..Facts::default() };
        let mut random = fastrand::Rng::with_seed(7);
        let tried = Tried::default();
        let explanation =
            explain(Policy::Load, &facts, &snapshot, &tried, &mut random, Timestamp::ZERO);
        let said = explanation.choice.map(|server| server.key);
        prop_assert_eq!(explanation.servers.len(), servers.len());
        if let Ok(key) = said {
            let deciding = |key: ServerKey| {
                let considered = explanation.servers.iter().find(|c| c.server.key == key).unwrap();
                (considered.standing, considered.terms.last().unwrap().value)
            };
            for other in &explanation.servers {
                if other.standing == deciding(key).0 {
                    prop_assert!(deciding(other.server.key).1 >= deciding(key).1);
                }
            }
        }
        let mut random = fastrand::Rng::with_seed(7);
        let chosen = choose(Policy::Load, &facts, &snapshot, &tried, &mut random, Timestamp::ZERO);
        prop_assert_eq!(chosen.map(|candidate| candidate.server.key), said);
    }
}
