//! `GET /v1/models`, all servers as one, and `GET /server-models`, each by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use mvllm_core::snapshot::Models;
use mvllm_core::time::Timestamp;
use serde_json::{Map, Value, json};

use super::health::names;
use super::wall::{iso, unix_seconds};
use crate::board::Published;
use crate::clock::Clock;

/// The union of what the servers that get requests list. The keys and the owner are 0.1.0's, the
/// entry for an empty list as well: clients of it exist.
pub(super) fn merged(published: &Published, clock: Clock) -> Value {
    let servers = published.fleet.servers.iter().filter(|server| server.is_routable());
    let names: BTreeSet<&Arc<str>> =
        servers.filter_map(|server| server.models.as_ref()).flat_map(Models::iter).collect();
    let created = unix_seconds(Timestamp::ZERO, clock);
    let data: Vec<_> = match names.len() {
        0 => vec![entry("no-models-available", 0)],
        _ => names.into_iter().map(|name| entry(name, created)).collect(),
    };
    json!({"object": "list", "data": data})
}

fn entry(id: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": created,
        "owned_by": "vllm-router",
        "permission": [],
        "root": id,
        "parent": null,
    })
}

pub(super) fn by_server(published: &Published, clock: Clock) -> Value {
    let views = &published.fleet.servers;
    let servers: Map<String, Value> = views
        .iter()
        .map(|server| {
            let described = json!({
                "supported_models": names(server.models.as_ref()),
                "models_last_updated": server.models_updated.map(|at| iso(at, clock)),
                "healthy": server.is_routable(),
            });
            (server.spec.url.to_string(), described)
        })
        .collect();
    json!({
        "servers": servers,
        "total_servers": views.len(),
        "healthy_servers": views.iter().filter(|server| server.is_routable()).count(),
    })
}
