//! How the server is chosen under other policies than the default.

use std::collections::BTreeSet;

use mvllm_sim::SimServer;
use serde_json::{Value, json};

use crate::client::ask_json;
use crate::router::Router;
use crate::sims::{addrs, sims};

const CHAT: &str = "/v1/chat/completions";

/// A turn of a conversation that is about 1,500 tokens long when it begins.
fn turn(conversation: usize, turn: usize) -> Value {
    let say = |n: usize| json!({ "role": "user", "content": format!("Go on, {n}. ").repeat(20) });
    let opening = format!("conversation-{conversation} is about a matter of its own. ").repeat(120);
    let opening = json!({ "role": "user", "content": opening });
    let messages: Vec<_> = std::iter::once(opening).chain((0..turn).map(say)).collect();
    json!({ "model": "sim", "messages": messages, "max_tokens": 3, "stream": turn.is_multiple_of(2) })
}

/// Which of the servers have had requests of that conversation.
fn homes(sims: &[SimServer], conversation: usize) -> BTreeSet<usize> {
    let name = format!("conversation-{conversation} ");
    let knows = |sim: &SimServer| {
        sim.log().iter().any(|request| String::from_utf8_lossy(&request.body).contains(&name))
    };
    (0..sims.len()).filter(|nth| knows(&sims[*nth])).collect()
}

async fn converse(policy: &str) -> Vec<BTreeSet<usize>> {
    let sims = sims(3);
    let router = Router::before(&addrs(&sims), &format!("policy = \"{policy}\"\n")).await;
    for nth in 0..4 {
        for conversation in 0..5 {
            let answer = ask_json(router.addr, CHAT, &turn(conversation, nth)).await;
            assert_eq!(answer.status(), 200);
        }
    }
    (0..5).map(|conversation| homes(&sims, conversation)).collect()
}

#[tokio::test]
async fn a_conversation_stays_where_its_beginning_is_cached() {
    for policy in ["adaptive", "prefix"] {
        let homes = converse(policy).await;
        assert!(homes.iter().all(|homes| homes.len() == 1), "{policy}: {homes:?}");
    }
}

#[tokio::test]
async fn round_robin_takes_no_notice_of_it() {
    let homes = converse("round_robin").await;
    assert!(homes.iter().any(|homes| homes.len() > 1), "{homes:?}");
}

#[tokio::test]
async fn an_explanation_has_the_terms_of_the_policy_in_force() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "policy = \"adaptive\"\n").await;
    let explanation = ask_json(router.addr, "/explain", &turn(0, 0)).await.json();
    assert_eq!(explanation["policy"], "adaptive");
    let terms = &explanation["servers"][0]["terms"];
    assert!(terms["own"].as_f64().unwrap() > 0.0, "{explanation}");
    assert!(terms["cost"].as_f64().unwrap() >= terms["own"].as_f64().unwrap());
}
