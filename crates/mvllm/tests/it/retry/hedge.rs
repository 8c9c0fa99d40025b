//! `hedge_after`: a second server is asked when the first takes long, and the first answer counts.

use crate::client::Client;
use crate::raw_server::{RawServers, json};
use crate::router::Router;

use super::{BODY, CHAT};

const TUNING: &str = "hedge_after = 0.05\nfailure_threshold = 1000000";

#[tokio::test]
async fn the_first_answer_counts_and_the_other_server_is_told_to_stop() {
    let mut servers = RawServers::start(3).await;
    let router = Router::before(&servers.addrs(), TUNING).await;
    for fastest in [0, 1] {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        let mut asked = vec![servers.next().await, servers.next().await];
        assert_ne!(asked[0].server, asked[1].server);
        assert_eq!(asked[1].body, BODY.as_bytes());
        let winner = asked.remove(fastest);
        winner.respond(json(200, r#"{"won":1}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"won":1}"#));
        asked[0].closed_by_the_router().await;
        assert!(servers.arrived().is_none(), "a third server was asked");
    }
    router.idle().await;
    assert!(router.get("/metrics").await.text().contains("mvllm_hedges_total 2\n"));
    assert!(router.process.log().contains("hedged=true"));
}

#[tokio::test]
async fn if_one_of_the_two_fails_the_other_is_waited_for() {
    let mut servers = RawServers::start(2).await;
    let router = Router::before(&servers.addrs(), TUNING).await;
    for fails in [0, 1] {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, BODY).await;
        let mut asked = vec![servers.next().await, servers.next().await];
        asked.remove(fails).reset();
        asked.remove(0).respond(json(200, "{}")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

#[tokio::test]
async fn what_is_no_inference_is_never_sent_twice_at_once() {
    let mut servers = RawServers::start(2).await;
    let tuning = format!("{TUNING}\nrequest_timeout = 1");
    let router = Router::before(&servers.addrs(), &tuning).await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/load_lora_adapter", r#"{"lora_name":"x"}"#).await;
    let mut only = servers.next().await;
    only.closed_by_the_router().await;
    assert_eq!(client.answer().await.status(), 504);
    assert!(servers.arrived().is_none());
}

#[tokio::test]
async fn with_one_server_there_is_nobody_to_race() {
    let mut servers = RawServers::start(1).await;
    let tuning = format!("{TUNING}\nrequest_timeout = 1");
    let router = Router::before(&servers.addrs(), &tuning).await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, BODY).await;
    let mut only = servers.next().await;
    only.closed_by_the_router().await;
    assert_eq!(client.answer().await.status(), 504);
}
