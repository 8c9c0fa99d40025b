//! Where a request would go, and why; and where one came from.

use serde_json::{Value, json};

use crate::client::{Client, ask, ask_json, bare, post};
use crate::router::{Router, mvllm};
use crate::sims::{addrs, chat, sims};

fn entry(explanation: &Value, at: usize) -> (&str, bool) {
    let server = &explanation["servers"][at];
    (server["standing"].as_str().unwrap(), server["chosen"].as_bool().unwrap())
}

#[tokio::test]
async fn a_request_is_explained_and_sent_nowhere() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "policy = \"load\"").await;
    let cordon = format!("/admin/servers/cordon?url=http://{}", sims[0].addr());
    assert_eq!(ask(router.addr, bare("POST", &cordon)).await.status(), 200);
    let explanation = ask_json(router.addr, "/explain", &chat(5, false)).await.json();
    assert_eq!(explanation["server"], format!("http://{}", sims[1].addr()));
    assert_eq!(explanation["model"], "sim");
    assert_eq!(explanation["prompt"]["max_tokens"], 5);
    assert!(!entry(&explanation, 0).1);
    assert!(entry(&explanation, 0).0.contains("operator"), "{explanation}");
    assert_eq!(entry(&explanation, 1), ("fit", true));
    assert_eq!(explanation["servers"][1]["terms"]["score"], 0.0);
    assert_eq!(sims[1].stats().received, 0, "it was only asked about");

    let body = json!({"model": "nobody's", "prompt": "x"});
    let path = "/explain?path=/v1/completions";
    let explanation = ask_json(router.addr, path, &body).await.json();
    assert_eq!(explanation["server"], Value::Null);
    assert_eq!(explanation["refusal"], "no server lists the model");
    assert_eq!(ask(router.addr, bare("GET", "/explain")).await.status(), 405);
}

#[tokio::test]
async fn the_command_shows_the_same() {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request.json");
    std::fs::write(&file, chat(5, false).to_string()).unwrap();
    let mut command = mvllm();
    command.arg("explain").arg(&file).args(["--url", &format!("http://{}", router.addr)]);
    let shown = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let expect = format!("goes to http://{}\nmodel sim, prompt of about ", sims[0].addr());
    assert!(shown.starts_with(&expect), "{shown}");
}

#[tokio::test]
async fn an_answer_says_where_it_comes_from_only_if_asked() {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "").await;
    let request = post("/v1/chat/completions", chat(1, false).to_string().as_bytes());
    let plain = ask(router.addr, &request).await;
    assert_eq!(plain.head.get("x-mvllm-server"), None);
    let asking = String::from_utf8(request).unwrap();
    let mut client = Client::connect(router.addr).await;
    client.send(asking.replacen("\r\n", "\r\nX-Mvllm-Explain: 1\r\n", 1)).await;
    let answer = client.answer().await;
    let server = format!("http://{}", sims[0].addr());
    assert_eq!(answer.head.get("x-mvllm-server"), Some(server.as_str()));
    assert_eq!(answer.head.get("x-mvllm-attempts"), Some("1"));
}
