//! When a process that takes over may begin: when it knows which servers it can send requests to.

use std::time::Duration;

use tokio::time::timeout;

use crate::board::{Board, Published};
use mvllm_core::health::Health;

/// Waits until every server has been judged once, but no longer than a first judgement takes.
/// Until then another process accepts, or clients wait for their connection: either is better than
/// sending all of them to the server that happened to answer first.
pub(crate) async fn fleet_is_known(board: &Board) {
    let mut changes = board.subscribe();
    let tuning = board.read().settings.tuning.clone();
    let known = async { while !is_known(&board.read()) && changes.changed().await.is_ok() {} };
    // A server that has not answered until then is out anyway.
    let _ = timeout(patience(tuning.connect_timeout, tuning.health_check_timeout), known).await;
}

/// A check connects, asks for the health, and asks for the models.
fn patience(connect: Duration, check: Duration) -> Duration {
    connect + 2 * check
}

fn is_known(published: &Published) -> bool {
    let servers = &published.fleet.servers;
    servers.len() == published.settings.servers.len()
        && servers.iter().all(|server| server.health != Health::Unproven)
}
