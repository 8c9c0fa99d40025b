//! `POST /admin/servers/{cordon,drain,uncordon}?url=…`: the operator's word on a server.
//!
//! From this machine, or with the admin key where one is configured. A request that another proxy
//! passed on comes from this machine only by the look of it.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, FORWARDED, HeaderMap, ORIGIN};
use http::{HeaderName, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mvllm_core::fleet::Event;
use mvllm_core::snapshot::Admission;
use serde_json::json;
use tokio::time::timeout;

use super::respond;
use crate::board::Published;
use crate::config::secret::Secret;
use crate::proxy::{DataThread, Refused, Reply};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The fleet task takes microseconds; whoever waits longer has lost it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The admission that `path` orders, if it is one of these endpoints.
pub(crate) fn order_at(path: &str) -> Option<Admission> {
    match path.strip_prefix("/admin/servers/")? {
        "cordon" => Some(Admission::Cordoned),
        "drain" => Some(Admission::Draining),
        "uncordon" => Some(Admission::Open),
        _ => None,
    }
}

/// Carries the order out, and answers once requests are sent accordingly.
pub(crate) async fn carry_out(
    order: Admission,
    request: &Request<Incoming>,
    client: SocketAddr,
    published: &Published,
    thread: &DataThread,
) -> Result<Response<Reply>, Refused> {
    if request.method() != Method::POST {
        return Err(Refused::Method { allow: "POST" });
    }
    let key = &published.settings.tuning.admin_key;
    if !may_order(request.headers(), client, key) {
        return Err(Refused::NotAdmin);
    }
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let url = pairs.find(|(name, _)| name == "url").map(|(_, url)| url.into_owned());
    let url = url.unwrap_or_default();
    let url = url.trim_end_matches('/');
    if !published.fleet.servers.iter().any(|server| *server.spec.url == *url) {
        return Err(Refused::UnknownServer(url.to_owned()));
    }
    let mut changes = thread.board.subscribe();
    thread.tell(Event::Admission(url.into(), order)).await;
    let obeyed =
        async { while !is_obeyed(thread, url, order) && changes.changed().await.is_ok() {} };
    if timeout(PATIENCE, obeyed).await.is_err() {
        return Err(Refused::Timeout);
    }
    Ok(respond(StatusCode::OK, &described(thread, url, order)))
}

fn may_order(headers: &HeaderMap, client: SocketAddr, key: &Secret) -> bool {
    if key.is_none() {
        let passed_on = headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR);
        // Any page in a browser on this machine can send a POST here; its origin gives it away.
        let from_a_page = headers.contains_key(ORIGIN);
        return client.ip().to_canonical().is_loopback() && !passed_on && !from_a_page;
    }
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    given.strip_prefix(b"Bearer ").is_some_and(|given| key.is(given))
}

fn is_obeyed(thread: &DataThread, url: &str, order: Admission) -> bool {
    let published = thread.board.read();
    let mut concerned = published.fleet.servers.iter().filter(|server| *server.spec.url == *url);
    concerned.all(|server| server.admission == order)
}

fn described(thread: &DataThread, url: &str, order: Admission) -> serde_json::Value {
    let published = thread.board.read();
    let concerned = published.fleet.servers.iter().filter(|server| *server.spec.url == *url);
    let in_flight: u32 = concerned.map(|server| server.ledger.in_flight()).sum();
    let admission = match order {
        Admission::Open => "open",
        Admission::Cordoned => "cordoned",
        Admission::Draining if in_flight > 0 => "draining",
        Admission::Draining => "drained",
    };
    json!({"url": url, "admission": admission, "in_flight": in_flight})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(key: &str, client: &str, headers: &[(&str, &str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        may_order(&headers, client.parse().unwrap(), &Secret::new(key))
    }

    #[test]
    fn without_a_key_only_this_machine_may_order() {
        assert!(may("", "127.0.0.1:9", &[]));
        assert!(may("", "[::ffff:127.0.0.1]:9", &[]));
        assert!(!may("", "10.0.0.1:9", &[]));
        assert!(!may("", "127.0.0.1:9", &[("x-forwarded-for", "10.0.0.1")]));
        assert!(!may("", "127.0.0.1:9", &[("origin", "http://evil.example")]));
    }

    #[test]
    fn with_a_key_whoever_has_it_may_order_and_nobody_else() {
        assert!(may("k1", "10.0.0.1:9", &[("authorization", "Bearer k1")]));
        for wrong in ["Bearer k2", "Bearer k", "Bearer k11", "k1", "Bearer "] {
            assert!(!may("k1", "127.0.0.1:9", &[("authorization", wrong)]), "{wrong}");
        }
        assert!(!may("k1", "127.0.0.1:9", &[]));
    }
}
