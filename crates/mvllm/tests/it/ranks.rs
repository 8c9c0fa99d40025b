//! Several engines behind one address: requests are spread over them by a header that vLLM reads.

use std::num::NonZeroUsize;

use mvllm_sim::{SimConfig, SimServer};

use crate::client::{Client, ask, ask_json, post};
use crate::raw_server::{Exchange, RawServers, json, metrics};
use crate::router::Router;
use crate::sims::chat;

const RANK: &str = "x-data-parallel-rank";
const BODY: &[u8] = br#"{"model":"m","prompt":"a question"}"#;

/// A server that tells of two engines, as far as the router has seen.
async fn two_ranks() -> (RawServers, Router) {
    let servers = RawServers::start(1).await;
    let two = metrics(0, 0) + &metrics(0, 0).replace("engine=\"0\"", "engine=\"1\"");
    servers.say(0, |says| says.metrics = two);
    let router = Router::before(&servers.addrs(), "max_retries = 0\n").await;
    servers.scraped_anew(0).await;
    (servers, router)
}

fn rank_of(exchange: &Exchange) -> Option<String> {
    exchange.head.get(RANK).map(str::to_owned)
}

#[tokio::test]
async fn requests_are_spread_over_the_ranks() {
    let (mut servers, router) = two_ranks().await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(router.addr).await;
        client.post("/v1/completions", BODY).await;
        open.push((client, servers.next().await));
    }
    let mut ranks: Vec<_> = open.iter().filter_map(|(_, exchange)| rank_of(exchange)).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, ["0", "0", "0", "1", "1", "1"]);
}

#[tokio::test]
async fn a_rank_that_the_client_names_stays_and_other_requests_have_none() {
    let (mut servers, router) = two_ranks().await;
    let mut client = Client::connect(router.addr).await;
    let named = String::from_utf8(post("/v1/completions", BODY)).unwrap();
    client.send(named.replacen("\r\n", "\r\nX-Data-Parallel-Rank: 7\r\n", 1)).await;
    assert_eq!(rank_of(&servers.next().await).as_deref(), Some("7"));
    let mut client = Client::connect(router.addr).await;
    client.post("/tokenize", BODY).await;
    assert_eq!(rank_of(&servers.next().await), None);
}

#[tokio::test]
async fn a_server_that_refuses_ranks_is_asked_again_without_and_never_with_one_any_more() {
    let (mut servers, router) = two_ranks().await;
    let asking = tokio::spawn(ask(router.addr, post("/v1/completions", BODY)));
    let first = servers.next().await;
    assert!(rank_of(&first).is_some());
    let refusal = "data_parallel_rank 1 is out of range [0, 1).";
    first.respond(json(400, &format!(r#"{{"error":{{"message":"{refusal}"}}}}"#))).await;
    let second = servers.next().await;
    assert_eq!((rank_of(&second), &second.body[..]), (None, BODY));
    second.respond(json(200, "{}")).await;
    assert_eq!(asking.await.unwrap().status(), 200);
    let asking = tokio::spawn(ask(router.addr, post("/v1/completions", BODY)));
    let third = servers.next().await;
    assert_eq!(rank_of(&third), None);
    third.respond(json(200, "{}")).await;
    assert_eq!(asking.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_server_of_several_engines_takes_the_ranks_that_are_named() {
    let data_parallel_size = NonZeroUsize::new(4).unwrap();
    let config = SimConfig { data_parallel_size, ..SimConfig::fast() };
    let sim = SimServer::start_on_free_port(config).unwrap();
    let router = Router::before(&[sim.addr()], "max_retries = 0\n").await;
    let named = || {
        let log = sim.log();
        log.iter().filter(|request| request.headers.iter().any(|(name, _)| name == RANK)).count()
    };
    crate::eventually::eventually("a rank at the server", || async {
        let answer = ask_json(router.addr, "/v1/chat/completions", &chat(1, false)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        (named() >= 8).then_some(())
    })
    .await;
}
