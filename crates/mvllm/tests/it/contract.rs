//! The endpoints of mvllm itself: the paths, the keys and the types that dashboards of 0.1.0 read.

use std::net::SocketAddr;

use mvllm_sim::SimServer;
use serde_json::{Value, json};

use crate::client::{ask, ask_json, bare};
use crate::router::Router;
use crate::sims::{addrs, chat, sims};

/// A router before a server that has been asked, checked and scraped.
async fn start() -> (Vec<SimServer>, Router) {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "").await;
    let answer = ask_json(router.addr, "/v1/chat/completions", &chat(2, false)).await;
    assert_eq!(answer.status(), 200);
    router
        .until("/load-stats", "a scrape", |report| {
            report["servers"][0]["detailed_metrics"]["process_max_fds"] != 0
        })
        .await;
    (sims, router)
}

/// Compares types and keys, not values: in `expected`, a text names a type, an object has exactly
/// these keys, an array has entries of this one shape.
fn check_shape(found: &Value, expected: &Value, at: &str) {
    match expected {
        Value::String(kinds) => {
            assert!(kinds.split('|').any(|kind| is(found, kind)), "{at}: {found} is no {kinds}");
        }
        Value::Object(members) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            let object = found.as_object().unwrap_or_else(|| panic!("{at}: {found}"));
            assert_eq!(keys(object), keys(members), "{at}");
            for (key, shape) in members {
                check_shape(&found[key], shape, &format!("{at}.{key}"));
            }
        }
        Value::Array(shape) => {
            for entry in found.as_array().unwrap_or_else(|| panic!("{at}: {found}")) {
                check_shape(entry, &shape[0], &format!("{at}[]"));
            }
        }
        other => panic!("{other} is no shape"),
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "text" => value.is_string(),
        "whole" => value.is_u64(),
        // Python's floats keep their point: `1.0`, never `1`.
        "float" => value.is_f64(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        "empty" => value.as_array().is_some_and(Vec::is_empty),
        // `datetime.now().isoformat()`: local, naive, with microseconds.
        "time" => value.as_str().is_some_and(|text| {
            let digits = "dddd-dd-ddTdd:dd:dd.dddddd";
            text.len() == digits.len()
                && text.chars().zip(digits.chars()).all(|(found, wanted)| match wanted {
                    'd' => found.is_ascii_digit(),
                    sign => found == sign,
                })
        }),
        other => panic!("{other} is no type"),
    }
}

#[tokio::test]
async fn the_root_says_what_this_is() {
    let (_sims, router) = start().await;
    let expected = json!({
        "service": "vLLM Router", "version": env!("CARGO_PKG_VERSION"), "status": "running",
    });
    assert_eq!(router.report("/").await, expected);
}

#[tokio::test]
async fn health_has_the_shape_of_0_1_0() {
    let (_sims, router) = start().await;
    let report = router.report("/health").await;
    let shape = json!({
        "status": "text",
        "health_score": "float",
        "total_servers": "whole",
        "healthy_servers": "whole",
        "unhealthy_servers": "whole",
        "servers": [{
            "url": "text",
            "healthy": "bool",
            "health_status": "text",
            "last_check": "time|null",
            "consecutive_failures": "whole",
            "success_rate": "float",
            "avg_response_time": "float",
            "last_response_time": "float|null",
            "total_checks": "whole",
            "supported_models": ["text"],
            "models_last_updated": "time|null",
        }],
        "config": {
            "health_check_enabled": "bool",
            "health_check_interval": "whole",
            "min_success_rate": "float",
            "max_response_time": "float",
        },
    });
    check_shape(&report, &shape, "/health");
    assert_eq!((&report["status"], &report["health_score"]), (&json!("healthy"), &json!(1.0)));
    assert_eq!(report["servers"][0]["supported_models"], json!(["sim"]));
    assert_eq!(report["config"]["health_check_interval"], 1);
}

#[tokio::test]
async fn health_is_200_whatever_it_says() {
    let dead: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let router = Router::start(&[dead], "").await;
    let report = router
        .until("/health", "a check", |report| report["servers"][0]["last_check"] != Value::Null);
    let report = report.await;
    assert_eq!((&report["status"], &report["health_score"]), (&json!("unhealthy"), &json!(0.0)));
    assert_eq!(report["unhealthy_servers"], 1);
    assert_eq!(router.get("/health").await.status(), 200);
    let empty = Router::start(&[], "").await;
    let report = empty.report("/health").await;
    assert_eq!((&report["status"], &report["health_score"]), (&json!("no_servers"), &json!(0.0)));
}

#[tokio::test]
async fn load_stats_have_the_shape_of_0_1_0() {
    let (_sims, router) = start().await;
    let report = router.report("/load-stats").await;
    let shape = json!({
        "servers": [{
            "url": "text",
            "current_load": "whole",
            "max_capacity": "whole",
            "available_capacity": "whole",
            "utilization_percent": "float",
            "status": "bool",
            "health_status": "text",
            "last_updated": "time",
            "detailed_metrics": {
                "num_requests_running": "whole",
                "num_requests_waiting": "whole",
                "gpu_cache_usage_perc": "float",
                "process_max_fds": "whole",
            },
        }],
        "summary": {
            "total_servers": "whole",
            "healthy_servers": "whole",
            "total_active_load": "whole",
            "total_capacity": "whole",
            "overall_utilization_percent": "float",
        },
    });
    check_shape(&report, &shape, "/load-stats");
    assert_eq!(report["summary"]["total_capacity"], 64);
}

#[tokio::test]
async fn server_models_have_the_shape_of_0_1_0() {
    let (sims, router) = start().await;
    let report = router.report("/server-models").await;
    let url = format!("http://{}", sims[0].addr());
    let shape = json!({
        "servers": { url: {
            "supported_models": ["text"], "models_last_updated": "time|null", "healthy": "bool",
        }},
        "total_servers": "whole",
        "healthy_servers": "whole",
    });
    check_shape(&report, &shape, "/server-models");
}

#[tokio::test]
async fn the_model_list_has_the_shape_of_0_1_0() {
    let (_sims, router) = start().await;
    let shape = json!({
        "object": "text",
        "data": [{
            "id": "text",
            "object": "text",
            "created": "whole",
            "owned_by": "text",
            "permission": "empty",
            "root": "text",
            "parent": "null",
        }],
    });
    let list = router.report("/v1/models").await;
    check_shape(&list, &shape, "/v1/models");
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("sim")));
    assert_eq!(list["data"][0]["owned_by"], "vllm-router");
    let empty = Router::start(&[], "").await.report("/v1/models").await;
    check_shape(&empty, &shape, "/v1/models");
    assert_eq!(empty["data"][0]["id"], "no-models-available");
    assert_eq!(empty["data"][0]["created"], 0);
}

#[tokio::test]
async fn liveness_is_always_given_and_readiness_with_the_first_routable_server() {
    let empty = Router::start(&[], "").await;
    assert_eq!(empty.get("/livez").await.status(), 200);
    let not_ready = empty.get("/readyz").await;
    assert_eq!(not_ready.status(), 503);
    assert_eq!(not_ready.json()["routable_servers"], 0);
    let (_sims, router) = start().await;
    assert_eq!(router.get("/livez").await.status(), 200);
    assert_eq!(router.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn all_reports_can_be_asked_with_head_and_nothing_but_get_and_head() {
    let (_sims, router) = start().await;
    for path in ["/", "/health", "/load-stats", "/server-models", "/v1/models", "/livez", "/readyz"]
    {
        let get = router.get(path).await;
        assert_eq!(get.status(), 200, "{path}");
        assert_eq!(get.head.get("content-type"), Some("application/json"), "{path}");
        let head = ask(router.addr, bare("HEAD", path)).await;
        assert_eq!(head.status(), 200, "{path}");
        assert!(head.head.get("content-length").is_some_and(|length| length != "0"), "{path}");
        let refused = ask_json(router.addr, path, &json!({})).await;
        assert_eq!(refused.status(), 405, "{path}");
        assert_eq!(refused.head.get("allow"), Some("GET, HEAD"), "{path}");
        check_shape(&refused.json(), &error_shape(), path);
    }
}

#[tokio::test]
async fn a_moment_is_shown_alike_in_every_report() {
    let sims = sims(1);
    let router = Router::before(&addrs(&sims), "health_check_interval = 600").await;
    let moments = || async {
        let server = router.report("/health").await["servers"][0].clone();
        [server["last_check"].clone(), server["models_last_updated"].clone()]
    };
    let first = moments().await;
    for _ in 0..20 {
        assert_eq!(moments().await, first);
    }
}

#[tokio::test]
async fn reports_ignore_a_query() {
    let (_sims, router) = start().await;
    assert_eq!(router.get("/health?verbose=1").await.json()["total_servers"], 1);
}

#[tokio::test]
async fn an_unknown_path_is_a_404_in_openais_shape() {
    let (_sims, router) = start().await;
    for path in ["/nope", "/v1", "/docs", "/metrics/x"] {
        let refused = router.get(path).await;
        assert_eq!(refused.status(), 404, "{path}");
        check_shape(&refused.json(), &error_shape(), path);
        assert_eq!(refused.json()["error"]["code"], 404);
    }
}

fn error_shape() -> Value {
    json!({ "error": {
        "message": "text", "type": "text", "param": "null", "code": "whole",
    }})
}
