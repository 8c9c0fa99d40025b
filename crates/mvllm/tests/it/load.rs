//! What `/load-stats` tells of the servers' metrics, and how requests are spread by it.

use std::net::SocketAddr;

use mvllm_sim::{BadMetrics, Fault};
use serde_json::{Value, json};

use crate::client::{Client, ask_json};
use crate::eventually::until;
use crate::raw_server::{RawServers, json as json_answer, metrics};
use crate::router::{Router, configuration, entry};
use crate::sims::{addrs, chat, sim, sims};

/// Waits until the router has the wanted figures of a server.
async fn figures(router: &Router, server: SocketAddr, running: u32, waiting: u32) -> Value {
    let what = format!("{running} running and {waiting} waiting");
    let report = router
        .until("/load-stats", &what, |report| {
            let metrics = &entry(report, server)["detailed_metrics"];
            metrics["num_requests_running"] == running && metrics["num_requests_waiting"] == waiting
        })
        .await;
    entry(&report, server)
}

/// A server with the given metrics, and what the router makes of them.
async fn shown(text: &str, running: u32, waiting: u32) -> Value {
    let servers = RawServers::start(1).await;
    servers.say(0, |says| says.metrics = text.to_owned());
    let router = Router::before(&servers.addrs(), "").await;
    figures(&router, servers.addrs()[0], running, waiting).await
}

#[tokio::test]
async fn the_load_of_all_engines_behind_an_address_is_added_up() {
    let text = "vllm:num_requests_running{engine=\"0\"} 3.0\n\
                vllm:num_requests_running{engine=\"1\"} 4.0\n\
                vllm:num_requests_waiting{engine=\"0\"} 5.0\n\
                vllm:num_requests_waiting{engine=\"1\"} 0.0\n";
    let load = shown(text, 7, 5).await;
    assert_eq!(load["current_load"], 12);
    assert_eq!(load["max_capacity"], 64);
    assert_eq!(load["available_capacity"], 52);
    assert_eq!(load["utilization_percent"], 18.75);
}

#[tokio::test]
async fn series_whose_names_begin_alike_are_not_mistaken() {
    let text = "vllm:num_requests_waiting{engine=\"0\"} 2.0\n\
                vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 90.0\n\
                vllm:num_requests_running{engine=\"0\"} 1.0\n\
                vllm:num_requests_running_total{engine=\"0\"} 80.0\n";
    shown(text, 1, 2).await;
}

#[tokio::test]
async fn the_names_of_vllm_before_0_9_are_understood() {
    let text = "vllm:num_requests_running{model_name=\"m\"} 2.0\n\
                vllm:num_requests_waiting{model_name=\"m\"} 1.0\n\
                vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.25\n\
                process_max_fds 1024.0\n";
    let load = shown(text, 2, 1).await;
    assert_eq!(load["detailed_metrics"]["gpu_cache_usage_perc"], 0.25);
    assert_eq!(load["detailed_metrics"]["process_max_fds"], 1024);
    // 0.1.0 took the limit of open files for a limit of requests.
    assert_eq!(load["current_load"], 3);
}

#[tokio::test]
async fn the_cache_usage_of_todays_vllm_shows_under_its_old_name() {
    let text = [metrics(1, 0), "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n".to_owned()].concat();
    assert_eq!(shown(&text, 1, 0).await["detailed_metrics"]["gpu_cache_usage_perc"], 0.5);
}

#[tokio::test]
async fn metrics_that_make_no_sense_are_passed_over_and_cost_no_request() {
    let servers = RawServers::start(1).await;
    let server = servers.addrs()[0];
    servers.say(0, |says| says.metrics = metrics(2, 1));
    let router = Router::before(&[server], "").await;
    figures(&router, server, 2, 1).await;
    let nonsense =
        ["vllm:num_requests_running NaN\nvllm:num_requests_waiting -Inf\n", "\0}{ 1e400"];
    for text in nonsense {
        servers.say(0, |says| says.metrics = text.to_owned());
        servers.scraped_anew(0).await;
        let load = router.load_of(server).await;
        // The last that made sense. For how long it counts is not told here.
        assert_eq!(load["detailed_metrics"]["num_requests_running"], 2, "{load}");
        assert_eq!(load["status"], true, "{load}");
    }
    servers.say(0, |says| says.metrics = metrics(5, 0));
    figures(&router, server, 5, 0).await;
    assert_eq!(router.health_of(server).await["healthy"], true);
}

/// A scrape of real vLLM has some 100 KB.
#[tokio::test]
async fn metrics_of_50_megabytes_are_not_read_to_their_end_and_cost_no_request() {
    let mut servers = RawServers::start(1).await;
    let server = servers.addrs()[0];
    servers.say(0, |says| says.metrics = metrics(2, 1));
    let router = Router::before(&[server], "").await;
    figures(&router, server, 2, 1).await;
    let before = router.peak_bytes();
    servers.say(0, |says| says.metrics = metrics(7, 7) + &"# much ado\n".repeat(5_000_000));
    servers.scraped_anew(0).await;
    assert_eq!(router.load_of(server).await["detailed_metrics"]["num_requests_running"], 2);
    let mut client = Client::connect(router.addr).await;
    client.post("/v1/completions", "{}").await;
    servers.next().await.respond(json_answer(200, "{}")).await;
    assert_eq!(client.answer().await.status(), 200);
    let grown = router.peak_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "the router has grown by {grown} bytes");
    assert_eq!(router.health_of(server).await["healthy"], true);
}

#[tokio::test]
async fn a_server_with_broken_metrics_still_gets_requests() {
    for how in [BadMetrics::Garbage, BadMetrics::Nan, BadMetrics::Slow] {
        let sim = sim();
        sim.set_fault(Fault::Metrics { how }, None);
        let router = Router::before(&[sim.addr()], "").await;
        let answer = ask_json(router.addr, "/v1/chat/completions", &chat(2, false)).await;
        assert_eq!(answer.status(), 200, "{how:?}");
    }
}

#[tokio::test]
async fn slow_metrics_of_one_server_do_not_hold_up_anothers() {
    let servers = RawServers::start(1).await;
    let slow = sim();
    slow.set_fault(Fault::Metrics { how: BadMetrics::Slow }, None);
    let quick = servers.addrs()[0];
    let router = Router::before(&[slow.addr(), quick], "").await;
    for running in 1..=4 {
        servers.say(0, |says| says.metrics = metrics(running, 0));
        figures(&router, quick, running, 0).await;
    }
    let asked = slow.log().iter().filter(|request| request.target == "/metrics").count();
    assert_eq!(asked, 1, "the slow one has answered in between");
}

#[tokio::test]
async fn requests_go_where_the_metrics_show_the_least_load() {
    let mut servers = RawServers::start(3).await;
    for (server, running) in [(0, 20), (1, 3), (2, 40)] {
        servers.say(server, |says| says.metrics = metrics(running, 0));
    }
    let router = Router::before(&servers.addrs(), "policy = \"load\"").await;
    for (server, running) in servers.addrs().into_iter().zip([20, 3, 40]) {
        figures(&router, server, running, 0).await;
    }
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(router.addr).await;
        client.post("/v1/completions", r#"{"model":"m"}"#).await;
        let exchange = servers.next().await;
        assert_eq!(exchange.server, 1);
        open.push((client, exchange));
    }
}

#[tokio::test]
async fn requests_are_shared_out_by_capacity() {
    assert_eq!(shares_of_30_and_10("policy = \"load\"").await, [30, 10]);
}

/// It gives a request's own time some weight beside that of those who wait.
#[tokio::test]
async fn adaptive_goes_by_capacities_as_long_as_it_knows_no_better() {
    let [large, small] = shares_of_30_and_10("policy = \"adaptive\"").await;
    assert!(large >= 2 * small && small > 0, "{large} and {small}");
}

/// How many of 40 requests at once two servers of these capacities get, when neither has answered
/// any.
async fn shares_of_30_and_10(policy: &str) -> [u64; 2] {
    let sims = sims(2);
    sims.iter().for_each(|sim| sim.set_fault(Fault::Hang, None));
    let text = configuration(&addrs(&sims), &format!("request_timeout = 600\n{policy}"));
    let text = text.replacen("= 64", "= 30", 1).replace("= 64", "= 10");
    let router = Router::start_with(&text).await;
    router.routable(2).await;
    let _clients = burst(&router, 40).await;
    until("all requests at the servers", || received(&sims).iter().sum::<u64>() == 40).await;
    received(&sims).try_into().unwrap()
}

#[tokio::test]
async fn a_burst_between_two_scrapes_is_spread_evenly() {
    let sims = sims(5);
    sims.iter().for_each(|sim| sim.set_fault(Fault::Hang, None));
    let router = Router::before(&addrs(&sims), "request_timeout = 600").await;
    let _clients = burst(&router, 500).await;
    until("all requests at the servers", || received(&sims).iter().sum::<u64>() == 500).await;
    let shares = received(&sims);
    let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
    assert!(spread <= 3, "{shares:?}");
}

/// So many requests at once, each on a connection of its own.
async fn burst(router: &Router, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(router.addr).await);
    }
    for client in &mut clients {
        client.post("/v1/chat/completions", chat(5, false).to_string()).await;
    }
    clients
}

fn received(sims: &[mvllm_sim::SimServer]) -> Vec<u64> {
    sims.iter().map(|sim| sim.stats().received).collect()
}

#[tokio::test]
async fn a_removed_or_dead_server_is_not_in_the_totals() {
    let servers = RawServers::start(2).await;
    servers.say(0, |says| says.metrics = metrics(3, 0));
    servers.say(1, |says| says.metrics = metrics(4, 0));
    let router = Router::before(&servers.addrs(), "").await;
    for (server, running) in servers.addrs().into_iter().zip([3, 4]) {
        figures(&router, server, running, 0).await;
    }
    let one_left = configuration(&servers.addrs()[..1], "");
    std::fs::write(router.config_path(), one_left).unwrap();
    let report = router
        .until("/load-stats", "one server", |report| report["summary"]["total_servers"] == 1)
        .await;
    assert_eq!(report["summary"]["total_active_load"], json!(3));
}
