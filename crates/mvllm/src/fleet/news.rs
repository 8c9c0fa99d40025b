//! Changes of the fleet, told to whoever reads the log.

use mvllm_core::fleet::Change;
use mvllm_core::health::{Fault, Health};
use tracing::{info, warn};

pub(super) fn tell(change: &Change) {
    match change {
        Change::Added(_, url) => info!(server = %url, "server added"),
        Change::Removed(_, url) => info!(server = %url, "server removed; its open streams finish"),
        Change::Models(url, models) => {
            let names: Vec<_> = models.iter().map(AsRef::as_ref).collect();
            info!(server = %url, "server serves {}", names.join(", "));
        }
        Change::Health { url, to: Health::Ejected { cause, .. }, .. } => {
            warn!(server = %url, "server taken out: {}", reason(*cause));
        }
        Change::Health { url, from: Health::Ejected { .. }, .. } => {
            info!(server = %url, "server is back");
        }
        Change::Health { url, to: Health::Suspect, .. } => {
            warn!(server = %url, "a request failed; one more failure may take the server out");
        }
        Change::Health { url, .. } => info!(server = %url, "server is healthy"),
    }
}

fn reason(fault: Fault) -> String {
    match fault {
        Fault::Unreachable => "it accepts no connections".to_owned(),
        Fault::Reset => "its connections break".to_owned(),
        Fault::Silent => "it does not answer in time".to_owned(),
        Fault::Status(status) => format!("it answers with status {status}"),
        Fault::ErrorEvent => "its streams carry errors".to_owned(),
        Fault::Malformed => "it does not speak HTTP".to_owned(),
        Fault::SuccessRate => "too many of its health checks failed".to_owned(),
        Fault::SlowChecks => "its health checks take too long".to_owned(),
    }
}
