//! Whose key a server gets to see: the client's, its own, or none.

use crate::client::Client;
use crate::raw_server::{RawServers, json};
use crate::router::{Router, entry};

const OF_THE_CLIENT: &str = "Bearer client-key";
const OF_THE_SERVER: &str = "Bearer server-key";

const PATHS: [&str; 7] = [
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/audio/transcriptions",
    "/v1/models/m",
    "/tokenize",
    "/v1/load_lora_adapter",
    "/v9/unheard-of",
];

/// Two servers, each with these keys in its entry.
async fn router_with(servers: &RawServers, keys: &str) -> Router {
    let mut text = String::new();
    for addr in servers.addrs() {
        text += &format!("[[servers.servers]]\nurl = \"http://{addr}\"\n{keys}\n");
    }
    let router = Router::start_with(&text).await;
    router.routable(servers.addrs().len()).await;
    router
}

/// What servers see of a client that sends both kinds of key, on every path, also when asked second.
async fn check(keys: &str, authorization: Option<&str>, x_api_key: Option<&str>) {
    let mut servers = RawServers::start(2).await;
    for server in 0..2 {
        servers.say(server, |says| says.authorization = authorization.map(str::to_owned));
    }
    let router = router_with(&servers, keys).await;
    for path in PATHS {
        let mut client = Client::connect(router.addr).await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nAuthorization: {OF_THE_CLIENT}\r\n\
             X-API-Key: client-key\r\ncontent-length: 0\r\n\r\n"
        );
        client.send(request).await;
        for status in [429, 200] {
            let exchange = servers.next().await;
            assert_eq!(exchange.head.all("authorization"), Vec::from_iter(authorization), "{path}");
            assert_eq!(exchange.head.all("x-api-key"), Vec::from_iter(x_api_key), "{path}");
            exchange.respond(json(status, "{}")).await;
        }
        assert_eq!(client.answer().await.status(), 200, "{path}");
    }
    let told = router.process.log() + &router.get("/metrics").await.text();
    assert!(!told.contains("client-key") && !told.contains("server-key"), "{told}");
}

#[tokio::test]
async fn by_default_a_server_sees_what_the_client_sent() {
    check("", Some(OF_THE_CLIENT), Some("client-key")).await;
}

#[tokio::test]
async fn a_server_with_a_key_of_its_own_sees_that_one_only() {
    check("api_key = \"server-key\"", Some(OF_THE_SERVER), None).await;
}

#[tokio::test]
async fn a_server_that_is_to_see_no_keys_sees_none() {
    check("pass_credentials = false", None, None).await;
}

#[tokio::test]
async fn a_new_key_is_used_at_once_and_for_mvllms_own_questions_as_well() {
    let servers = RawServers::start(1).await;
    let addr = servers.addrs()[0];
    servers.say(0, |says| says.authorization = Some(OF_THE_SERVER.to_owned()));
    let router = router_with(&servers, "api_key = \"wrong\"").await;
    let models = |report: &serde_json::Value| entry(report, addr)["supported_models"].clone();
    let report = router.report("/health").await;
    assert!(!models(&report).to_string().contains("\"m\""), "{report}");
    let text = std::fs::read_to_string(router.config_path()).unwrap();
    std::fs::write(router.config_path(), text.replace("wrong", "server-key")).unwrap();
    router
        .until("/health", "the model is known", |report| {
            models(report).to_string().contains("\"m\"")
        })
        .await;
}
