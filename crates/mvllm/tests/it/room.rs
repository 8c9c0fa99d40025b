//! Prompts go where they fit, as far as anybody can tell beforehand, and else once a server says so.

use mvllm_sim::{SimConfig, SimServer};
use serde_json::{Value, json};

use crate::client::ask_json;
use crate::router::Router;
use crate::sims::addrs;

const COMPLETIONS: &str = "/v1/completions";

/// How often requests are sent that two servers would share: often enough for either to get some.
const OFTEN: usize = 40;

fn sims(lengths: &[usize]) -> Vec<SimServer> {
    let sim = |&max_model_len: &usize| {
        let loras = vec!["adapter".to_owned()];
        let config = SimConfig { max_model_len, loras, ..SimConfig::fast() };
        SimServer::start_on_free_port(config).unwrap()
    };
    lengths.iter().map(sim).collect()
}

fn completion(model: &str, prompt: impl Into<Value>) -> Value {
    json!({ "model": model, "prompt": prompt.into(), "max_tokens": 1 })
}

/// How many completions the server was asked for.
fn asked(sim: &SimServer) -> usize {
    sim.log().iter().filter(|request| request.target == COMPLETIONS).count()
}

#[tokio::test]
async fn a_prompt_that_cannot_fit_is_not_sent_to_the_smaller_server() {
    let sims = sims(&[64, 8192]);
    let router = Router::before(&addrs(&sims), "").await;
    for model in ["sim", "adapter"] {
        let body = completion(model, vec![7; 100]);
        for _ in 0..OFTEN {
            assert_eq!(ask_json(router.addr, COMPLETIONS, &body).await.status(), 200);
        }
    }
    assert_eq!(asked(&sims[0]), 0);
    assert_eq!(asked(&sims[1]), 2 * OFTEN);
}

#[tokio::test]
async fn a_prompt_that_a_server_finds_too_long_is_sent_to_a_larger_one() {
    let sims = sims(&[64, 8192]);
    let router = Router::before(&addrs(&sims), "max_retries = 0\npolicy = \"load\"\n").await;
    // 200 tokens in 400 bytes: far more than the bytes let expect.
    let body = completion("sim", "a ".repeat(200));
    for _ in 0..OFTEN {
        assert_eq!(ask_json(router.addr, COMPLETIONS, &body).await.status(), 200);
    }
    assert!(asked(&sims[0]) > 0, "nobody knew that it would not fit");
    assert_eq!(asked(&sims[1]), OFTEN);
    assert_eq!(router.health_of(sims[0].addr()).await["healthy"], true);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_for_all_gets_the_answer_of_the_largest() {
    let sims = sims(&[64, 80]);
    let router = Router::before(&addrs(&sims), "").await;
    let body = completion("sim", vec![7; 100]);
    for _ in 0..OFTEN {
        let answer = ask_json(router.addr, COMPLETIONS, &body).await;
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json()["error"]["param"], "input_tokens");
        assert!(answer.text().contains("maximum context length is 80 tokens"), "{}", answer.text());
    }
}
