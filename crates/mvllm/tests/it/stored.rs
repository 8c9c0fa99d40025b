//! Responses live in the memory of one server: what names one goes there.

use mvllm_sim::{SimConfig, SimServer};
use serde_json::{Value, json};

use crate::client::{ask, ask_json, bare};
use crate::router::Router;
use crate::sims::addrs;

const RESPONSES: &str = "/v1/responses";

async fn start() -> (Vec<SimServer>, Router) {
    let config = || SimConfig { responses_store: true, ..SimConfig::fast() };
    let sims: Vec<_> = (0..3).map(|_| SimServer::start_on_free_port(config()).unwrap()).collect();
    // One that has it is among three, and three may be asked, whatever is retried.
    let router = Router::before(&addrs(&sims), "max_retries = 0\n").await;
    (sims, router)
}

fn question(previous: Option<&str>) -> Value {
    json!({
        "model": "sim",
        "input": "How are you?",
        "max_output_tokens": 2,
        "previous_response_id": previous,
    })
}

/// How many requests for stored responses each server got.
fn asked(sims: &[SimServer], what: &str) -> Vec<usize> {
    let is_meant = |request: &mvllm_sim::LoggedRequest| {
        let body = String::from_utf8_lossy(&request.body);
        request.target.starts_with(RESPONSES)
            && (request.target.contains(what) || body.contains(what))
    };
    sims.iter().map(|sim| sim.log().into_iter().filter(is_meant).count()).collect()
}

#[tokio::test]
async fn a_conversation_goes_on_at_the_server_that_holds_it() {
    let (sims, router) = start().await;
    let mut id = ask_json(router.addr, RESPONSES, &question(None)).await.json()["id"].clone();
    for _ in 0..12 {
        let answer = ask_json(router.addr, RESPONSES, &question(id.as_str())).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        id = answer.json()["id"].clone();
    }
    let asked = asked(&sims, "\"previous_response_id\":\"resp_");
    assert_eq!(asked.iter().filter(|&&times| times > 0).count(), 1, "{asked:?}");
    assert_eq!(asked.iter().sum::<usize>(), 12);
}

#[tokio::test]
async fn a_streamed_response_is_found_again_too() {
    let (sims, router) = start().await;
    for _ in 0..12 {
        let mut body = question(None);
        body["stream"] = json!(true);
        let streamed = ask_json(router.addr, RESPONSES, &body).await.text();
        let created = streamed.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let created: Value = serde_json::from_str(created).unwrap();
        let id = created["response"]["id"].as_str().unwrap();
        let path = format!("{RESPONSES}/{id}");
        assert_eq!(ask(router.addr, bare("GET", &path)).await.json()["id"], id);
        let cancelled = ask(router.addr, bare("POST", &format!("{path}/cancel"))).await;
        assert_eq!(cancelled.status(), 400, "it was not running: {}", cancelled.text());
        let asked = asked(&sims, id);
        assert_eq!(asked.iter().filter(|&&times| times > 0).count(), 1, "{asked:?}");
    }
}

#[tokio::test]
async fn a_response_of_before_this_router_is_looked_for_at_every_server() {
    let (sims, router) = start().await;
    for sim in &sims {
        let id = ask_json(sim.addr(), RESPONSES, &question(None)).await.json()["id"].clone();
        let id = id.as_str().unwrap();
        let answer = ask_json(router.addr, RESPONSES, &question(Some(id))).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let id = ask_json(sim.addr(), RESPONSES, &question(None)).await.json()["id"].clone();
        let path = format!("{RESPONSES}/{}", id.as_str().unwrap());
        assert_eq!(ask(router.addr, bare("GET", &path)).await.json()["id"], id);
    }
}

#[tokio::test]
async fn a_response_that_nobody_has_is_not_found_and_nobody_is_to_blame() {
    let (sims, router) = start().await;
    let answer = ask(router.addr, bare("GET", "/v1/responses/resp_none")).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.json()["error"]["message"], "Response with id 'resp_none' not found.");
    assert_eq!(asked(&sims, "resp_none"), [1, 1, 1]);
    for sim in &sims {
        assert_eq!(router.health_of(sim.addr()).await["healthy"], true);
    }
}
