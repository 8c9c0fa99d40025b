//! Connections that stop speaking HTTP, like the WebSocket of `/v1/realtime`: bytes both ways until
//! either side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mvllm_core::choice::Candidate;
use tokio::io::copy_bidirectional;
use tracing::debug;

use crate::traffic::{Ending, Record};
use crate::upstream::Lease;

/// Relays. The place at the server is held for as long as the connection lives.
pub(super) async fn relay(
    client: OnUpgrade,
    server: OnUpgrade,
    lease: Lease,
    candidate: Candidate,
    mut record: Record,
) {
    let server_side = server.await;
    let (client_side, server_side) = match (client.await, server_side) {
        (Ok(client), Ok(server)) => (client, server),
        (Err(error), _) | (_, Err(error)) => {
            debug!(server = %candidate.server.spec.url, "no upgrade came about: {error}");
            return;
        }
    };
    let (mut client, mut server) = (TokioIo::new(client_side), TokioIo::new(server_side));
    // An error here is one side's way to hang up; the other is then hung up on by the drop.
    let _ = copy_bidirectional(&mut client, &mut server).await;
    record.ends(Ending::Complete);
    drop(lease);
    drop(candidate.reservation);
}
