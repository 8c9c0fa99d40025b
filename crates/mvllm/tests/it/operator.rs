//! What an operator sees and orders: admission, metrics, the status report, the log.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, ask, ask_json, bare};
use crate::raw_server::{RawServers, STREAM, chunk};
use crate::router::{Process, Router, configuration, mvllm};
use crate::sims::{addrs, chat, sim, sims};

async fn order(router: &Router, verb: &str, server: SocketAddr, more: &str) -> Value {
    let target = format!("/admin/servers/{verb}?url=http://{server}");
    let request =
        format!("POST {target} HTTP/1.1\r\nhost: router\r\n{more}content-length: 0\r\n\r\n");
    let answer = ask(router.addr, request).await;
    let mut report = answer.json();
    report["status"] = answer.status().into();
    report
}

fn status_of(report: &Value, server: SocketAddr) -> Value {
    crate::router::entry(report, server)
}

#[tokio::test]
async fn a_drained_server_gets_nothing_new_and_finishes_what_it_has() {
    let mut servers = RawServers::start(2).await;
    for server in 0..2 {
        servers.say(server, |says| says.models = vec!["sim".to_owned()]);
    }
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/chat/completions", chat(9, true).to_string()).await;
    let mut first = servers.next().await;
    let drained = servers.addrs()[first.server];
    first.send(STREAM).await;
    first.send(chunk("data: {\"x\":1}\n\n")).await;
    client.head().await;

    let report = order(&router, "drain", drained, "").await;
    assert_eq!(report["admission"], "draining", "{report}");
    assert_eq!(report["in_flight"], 1);
    for _ in 0..8 {
        let mut other = Client::connect(router.addr).await;
        other.post("/v1/chat/completions", chat(9, false).to_string()).await;
        let exchange = servers.next().await;
        assert_ne!(exchange.server, first.server);
        exchange.respond(crate::raw_server::json(200, "{}")).await;
        assert_eq!(other.answer().await.status(), 200);
    }
    assert_eq!(client.data().await, b"data: {\"x\":1}\n\n");
    first.send(chunk("data: [DONE]\n\n")).await;
    first.send(crate::raw_server::LAST_CHUNK).await;
    assert_eq!(client.data().await, b"data: [DONE]\n\n");
    router
        .until("/status", "a drained server", |report| {
            status_of(report, drained)["admission"] == "drained"
        })
        .await;

    assert_eq!(order(&router, "uncordon", drained, "").await["admission"], "open");
    router.routable(2).await;
}

#[tokio::test]
async fn a_server_is_drained_to_zero_under_load_without_an_error() {
    let sims = sims(3);
    let router = Router::before(&addrs(&sims), "").await;
    let addr = router.addr;
    let clients: Vec<_> = (0..12)
        .map(|nth| {
            tokio::spawn(async move {
                for _ in 0..10 {
                    let answer =
                        ask_json(addr, "/v1/chat/completions", &chat(20, nth % 2 == 0)).await;
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    assert!(!answer.text().contains("error"), "{}", answer.text());
                }
            })
        })
        .collect();
    order(&router, "drain", sims[0].addr(), "").await;
    router
        .until("/status", "the server to be empty", |report| {
            status_of(report, sims[0].addr())["admission"] == "drained"
        })
        .await;
    let received = sims[0].stats().received;
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(sims[0].stats().received, received);
}

#[tokio::test]
async fn only_this_machine_or_the_key_may_order() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "").await;
    let forwarded = order(&router, "cordon", sim.addr(), "x-forwarded-for: 10.0.0.9\r\n").await;
    assert_eq!(forwarded["status"], 403);
    let page = order(&router, "cordon", sim.addr(), "origin: http://evil.example\r\n").await;
    assert_eq!(page["status"], 403);
    let unknown = order(&router, "cordon", "127.0.0.1:1".parse().unwrap(), "").await;
    assert_eq!(unknown["status"], 404);
    assert_eq!(router.get("/admin/servers/cordon").await.status(), 405);
    router.routable(1).await;

    let router = Router::before(&[sim.addr()], "admin_key = \"k-1\"").await;
    assert_eq!(order(&router, "cordon", sim.addr(), "").await["status"], 403);
    let key = "authorization: Bearer k-1\r\nx-forwarded-for: 10.0.0.9\r\n";
    assert_eq!(order(&router, "cordon", sim.addr(), key).await["admission"], "cordoned");
    router.routable(0).await;
    let answer = ask_json(router.addr, "/v1/chat/completions", &chat(1, false)).await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(!router.process.log().contains("k-1"));
}

#[tokio::test]
async fn the_commands_drain_and_uncordon() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "").await;
    let (server, url) = (format!("http://{}", sim.addr()), format!("http://{}", router.addr));
    for (verb, said) in [("drain", "drained, in flight: 0"), ("uncordon", "open, in flight: 0")] {
        let mut command = mvllm();
        command.args([verb, &server, "--url", &url]);
        if verb == "drain" {
            command.arg("--wait");
        }
        let mut process = Process::start(&mut command);
        process.says(said).await;
        assert!(process.ended().await.success());
    }
    router.routable(1).await;
    let mut stranger = Process::start(mvllm().args(["drain", "http://nowhere", "--url", &url]));
    assert!(!stranger.ended().await.success());
    assert!(Process::start(mvllm().args(["health", "--url", &url])).ended().await.success());
}

#[tokio::test]
async fn the_metrics_count_what_passed_by_server_and_model() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "").await;
    let whole = ask_json(router.addr, "/v1/chat/completions", &chat(7, false)).await;
    assert_eq!(whole.status(), 200);
    ask_json(router.addr, "/v1/chat/completions", &chat(7, true)).await;
    for nth in 0..50 {
        let body = json!({"model": format!("made-up-{nth}"), "prompt": "x"});
        assert_eq!(ask_json(router.addr, "/v1/completions", &body).await.status(), 404);
    }
    router.idle().await;
    let page = router.get("/metrics").await;
    assert!(page.head.get("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    let labels = format!("server=\"http://{}\",model=\"sim\"", sim.addr());
    for line in [
        format!("mvllm_requests_total{{{labels},status=\"200\"}} 2"),
        "mvllm_requests_total{server=\"\",model=\"\",status=\"404\"} 50".to_owned(),
        "mvllm_refusals_total{reason=\"unknown_model\"} 50".to_owned(),
        format!("mvllm_time_to_first_token_seconds_count{{{labels}}} 1"),
        format!("mvllm_request_duration_seconds_count{{{labels}}} 2"),
        format!("mvllm_completion_tokens_total{{{labels}}} {}", completion_tokens(&whole.json())),
        format!("mvllm_server_up{{server=\"http://{}\"}} 1", sim.addr()),
        "mvllm_requests_under_way 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("made-up"), "names that clients make up are no labels");
    each_series_once(&text);
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let sim = sim();
    let router = Router::before(&[sim.addr()], "").await;
    ask_json(router.addr, "/v1/chat/completions", &chat(7, true)).await;
    router
        .until("/status", "a scrape", |report| !report["servers"][0]["kv_cache_usage"].is_null())
        .await;
    let page = router.get("/metrics").await.text();
    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");
    for file in ["prometheus/alerts.yaml", "grafana/mvllm.json"] {
        let text = std::fs::read_to_string(format!("{packaging}/{file}")).unwrap();
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in names.filter(|name| name.starts_with("mvllm_")) {
            assert!(there.contains(name), "{file} asks for {name}");
        }
    }
}

fn completion_tokens(answer: &Value) -> &Value {
    &answer["usage"]["completion_tokens"]
}

fn each_series_once(text: &str) {
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series} is there twice");
    }
}

#[tokio::test]
async fn the_status_report_lists_servers_events_and_requests_under_way() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client
        .send(
            "POST /v1/completions HTTP/1.1\r\nhost: r\r\nx-request-id: mine-1\r\n\
             content-length: 2\r\n\r\n{}",
        )
        .await;
    let exchange = servers.next().await;
    let report = router
        .until("/status", "a request under way", |report| report["slowest"][0]["id"] == "mine-1")
        .await;
    assert_eq!(report["slowest"][0]["phase"], "waiting");
    assert_eq!(report["slowest"][0]["attempts"], 1);
    let server = status_of(&report, servers.addrs()[0]);
    assert_eq!((&server["health"], &server["in_flight"]), (&"healthy".into(), &1.into()));
    let told = report["events"].as_array().unwrap();
    assert!(told.iter().any(|event| event["text"].as_str().unwrap().contains("healthy")));
    exchange.respond(crate::raw_server::json(200, "{}")).await;
    assert_eq!(client.answer().await.head.get("x-request-id"), Some("mine-1"));
    router.until("/status", "no request under way", |report| report["slowest"] == json!([])).await;
}

#[tokio::test]
async fn a_request_without_an_id_gets_one_that_the_server_sees_too() {
    let mut servers = RawServers::start(1).await;
    let router = Router::before(&servers.addrs(), "").await;
    let mut client = Client::connect(router.addr).await;
    client.send(bare("GET", "/v1/files")).await;
    let exchange = servers.next().await;
    let id = exchange.head.get("x-request-id").unwrap().to_owned();
    exchange.respond(crate::raw_server::json(200, "{}")).await;
    assert_eq!(client.answer().await.head.get("x-request-id"), Some(&*id));
}

#[tokio::test]
async fn every_request_has_a_line_in_the_log_and_no_secret_is_in_any() {
    let folder = tempfile::tempdir().unwrap();
    let (sim, path) = (sim(), folder.path().join("servers.toml"));
    std::fs::write(&path, configuration(&[sim.addr()], "")).unwrap();
    let logs = folder.path().join("logs");
    let router = Router::start_in(folder, &path).await;
    router.routable(1).await;
    let body = chat(3, false).to_string();
    let request = format!(
        "POST /v1/chat/completions?key=hush-1 HTTP/1.1\r\nhost: r\r\nauthorization: Bearer hush-2\r\n\
         x-api-key: hush-3\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(ask(router.addr, request).await.status(), 200);
    router.says("POST /v1/chat/completions 200").await;
    let line = access_line(&logs).await;
    assert_eq!(line["model"], "sim");
    assert_eq!(line["server"], format!("http://{}", sim.addr()));
    assert_eq!(line["ending"], "complete");
    assert_eq!(line["completion_tokens"], 3);
    assert!(line["total_s"].as_f64().unwrap() > 0.0);
    for file in ["mvllm.log", "mvllm-error.log", "mvllm-structured.log"] {
        let text = std::fs::read_to_string(logs.join(file)).unwrap();
        assert!(!text.contains("hush-"), "{file}: {text}");
    }
    assert!(!router.process.log().contains("hush-"));
}

/// The access line, once the log's own thread has written it.
async fn access_line(logs: &std::path::Path) -> Value {
    let path = logs.join("mvllm-structured.log");
    crate::eventually::eventually("an access line", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.find(|line| line["target"] == "mvllm::access");
        async move { found }
    })
    .await
}

#[tokio::test]
async fn where_no_file_can_be_written_there_is_a_warning_and_the_console() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    std::fs::write(&path, configuration(&[], "")).unwrap();
    // A file where the folder should be: that stops even root.
    std::fs::write(folder.path().join("logs"), "").unwrap();
    let router = Router::start_in(folder, &path).await;
    router.says("no log files, because").await;
}
