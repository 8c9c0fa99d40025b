//! `servers.toml` changes while the router runs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mvllm_sim::Fault;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::client::{Client, ask_json};
use crate::raw_server::{LAST_CHUNK, RawServers, STREAM, chunk};
use crate::router::{Router, configuration, entry};
use crate::sims::{addrs, chat, sims};
use crate::wire::Chunk;

const CHAT: &str = "/v1/chat/completions";

/// Waits until the router has so many servers.
async fn servers(router: &Router, count: usize) {
    let what = format!("{count} servers");
    router.until("/health", &what, |report| report["total_servers"] == count).await;
}

fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Starts with one server, changes the file in some way to `two`, and waits until both are in.
async fn is_noticed(change: impl Fn(&Path, &str)) {
    let sims = sims(2);
    let listed = addrs(&sims);
    let router = Router::before(&listed[..1], "").await;
    change(&router.config_path(), &configuration(&listed, ""));
    router.routable(2).await;
}

#[tokio::test]
async fn a_file_renamed_over_the_old_one_is_noticed() {
    is_noticed(rename_over).await;
}

#[tokio::test]
async fn a_file_written_in_place_is_noticed() {
    is_noticed(|path, text| fs::write(path, text).unwrap()).await;
}

#[tokio::test]
async fn a_file_with_an_older_time_is_noticed() {
    is_noticed(|path, text| {
        fs::write(path, text).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    })
    .await;
}

/// As Kubernetes does it: `servers.toml` -> `..data/servers.toml`, and `..data` is swapped.
#[tokio::test]
async fn a_swapped_symlink_two_levels_up_is_noticed() {
    let sims = sims(2);
    let folder = tempfile::tempdir().unwrap();
    for (version, servers) in [("v1", &addrs(&sims)[..1]), ("v2", &addrs(&sims)[..])] {
        fs::create_dir(folder.path().join(version)).unwrap();
        let path = folder.path().join(version).join("servers.toml");
        fs::write(path, configuration(servers, "")).unwrap();
    }
    let data = folder.path().join("..data");
    symlink("v1", &data).unwrap();
    let path = folder.path().join("servers.toml");
    symlink("..data/servers.toml", &path).unwrap();
    let router = Router::start_in(folder, &path).await;
    router.routable(1).await;
    let new = data.with_file_name("..data_new");
    symlink("v2", &new).unwrap();
    fs::rename(new, data).unwrap();
    router.routable(2).await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_is_reported_and_can_be_mended() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "").await;
    let path = router.config_path();
    let good = fs::read_to_string(&path).unwrap();
    rename_over(&path, "[servers\nservers = 7");
    router.says("configuration not reloaded").await;
    assert_eq!(ask_json(router.addr, CHAT, &chat(1, false)).await.status(), 200);
    assert_eq!(router.report("/health").await["total_servers"], 2);
    rename_over(&path, &good);
    router.says("again says what is in force").await;
    rename_over(&path, &configuration(&addrs(&sims)[..1], ""));
    servers(&router, 1).await;
}

#[tokio::test]
async fn a_deleted_file_changes_nothing_and_its_return_is_noticed() {
    let sims = sims(2);
    let router = Router::before(&addrs(&sims), "").await;
    fs::remove_file(router.config_path()).unwrap();
    router.says("configuration not reloaded").await;
    assert_eq!(router.report("/health").await["healthy_servers"], 2);
    rename_over(&router.config_path(), &configuration(&addrs(&sims)[1..], ""));
    servers(&router, 1).await;
}

#[tokio::test]
async fn a_router_that_starts_without_its_file_takes_it_when_it_appears() {
    let sims = sims(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    let router = Router::start_in(folder, &path).await;
    router.routable(0).await;
    fs::write(&path, configuration(&addrs(&sims), "")).unwrap();
    router.routable(1).await;
}

#[tokio::test]
async fn sighup_asks_for_a_look_at_once_and_for_being_told_again() {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "").await;
    fs::write(router.config_path(), "nonsense").unwrap();
    let told = || router.process.log().matches("configuration not reloaded").count();
    crate::eventually::until("a complaint", || told() == 1).await;
    router.process.signal(Signal::HUP);
    crate::eventually::until("a second complaint", || told() == 2).await;
}

#[tokio::test]
async fn reloads_under_load_cost_no_request_and_no_stream() {
    let sims = sims(3);
    let listed = addrs(&sims);
    let router = Router::before(&listed, "").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for nth in 0..8 {
        let (addr, over) = (router.addr, Arc::clone(&over));
        clients.spawn(async move {
            let mut client = Client::connect(addr).await;
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                client.post(CHAT, chat(100, nth % 2 == 0).to_string()).await;
                let answer = client.answer().await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                let whole = answer.text().ends_with("data: [DONE]\n\n") || nth % 2 == 1;
                assert!(whole, "{}", answer.text());
                answered += 1;
            }
            answered
        });
    }
    for subset in [&listed[..1], &listed[1..], &listed[..1], &listed[..]] {
        rename_over(&router.config_path(), &configuration(subset, ""));
        servers(&router, subset.len()).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(answered) = clients.join_next().await {
        assert!(answered.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_removed_server_gets_no_new_requests_and_finishes_its_stream() {
    let mut raw = RawServers::start(2).await;
    let listed = raw.addrs();
    let router = Router::before(&listed[..1], "").await;
    let mut client = Client::connect(router.addr).await;
    client.post(CHAT, r#"{"model":"m","stream":true}"#).await;
    let mut exchange = raw.next().await;
    exchange.send(STREAM).await;
    exchange.send(chunk("data: {\"n\":1}\n\n")).await;
    client.head().await;
    client.data().await;
    rename_over(&router.config_path(), &configuration(&listed[1..], ""));
    router
        .until("/server-models", "the other server", |report| {
            report["servers"][format!("http://{}", listed[1])]["healthy"] == true
        })
        .await;
    let mut other = Client::connect(router.addr).await;
    other.post(CHAT, r#"{"model":"m"}"#).await;
    assert_eq!(raw.next().await.server, 1);
    let rest = "data: {\"n\":2}\n\ndata: [DONE]\n\n";
    exchange.respond([chunk(rest), LAST_CHUNK.into()].concat()).await;
    assert_eq!(client.data().await, rest.as_bytes());
    assert_eq!(client.chunk().await, Chunk::Last);
}

#[tokio::test]
async fn kept_servers_keep_their_health_their_models_and_their_load() {
    let sims = sims(3);
    let listed = addrs(&sims);
    // No check comes in between: what is known is what was kept.
    let tuning = "health_check_interval = 600\nfailure_threshold = 1";
    let router = Router::before(&listed[..2], tuning).await;
    sims[0].set_fault(Fault::Error500, None);
    sims[1].set_fault(Fault::Hang, None);
    let _held = ask_until_ejected(&router, listed[0]).await;
    let held = crate::sims::stats(&sims[1], "a held request", |stats| stats.received > 0).await;
    let before = router.report("/health").await;
    rename_over(&router.config_path(), &configuration(&listed, tuning));
    servers(&router, 3).await;
    let after = router.report("/health").await;
    for server in &listed[..2] {
        let (before, after) = (entry(&before, *server), entry(&after, *server));
        for key in ["healthy", "health_status", "total_checks", "supported_models"] {
            assert_eq!(after[key], before[key], "{key}");
        }
    }
    let load = router.load_of(listed[1]).await["current_load"].as_u64().unwrap();
    assert!(load >= held.received, "held requests are forgotten: {load}");
}

/// Sends requests, and holds those that are not answered, until a server is out.
async fn ask_until_ejected(router: &Router, server: std::net::SocketAddr) -> Vec<Client> {
    let mut open = Vec::new();
    while router.health_of(server).await["healthy"] == true {
        let mut client = Client::connect(router.addr).await;
        client.post(CHAT, chat(5, true).to_string()).await;
        open.push(client);
    }
    open
}

#[tokio::test]
async fn changed_limits_are_in_force_without_a_restart() {
    let raw = RawServers::start(1).await.answer_all(|_| crate::raw_server::json(200, "{}"));
    let router = Router::before(&raw.addrs, "").await;
    let asked = || async { router.get("/server_info").await.status() };
    assert_eq!(asked().await, 404);
    rename_over(
        &router.config_path(),
        &configuration(&raw.addrs, "open_paths = [\"/server_info\"]"),
    );
    crate::eventually::eventually("an open path", || async {
        (asked().await == 200).then_some(())
    })
    .await;
}
