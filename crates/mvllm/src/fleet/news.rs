//! Changes of the fleet, told to whoever reads the log.

use mvllm_core::fleet::Change;
use mvllm_core::health::Health;
use mvllm_core::snapshot::Admission;
use tracing::{info, warn};

use crate::status::fault_in_words;

pub(super) fn tell(change: &Change) {
    match change {
        Change::Added(_, url) => info!(server = %url, "server added"),
        Change::Removed(_, url) => info!(server = %url, "server removed; its open streams finish"),
        Change::Admission(url, admission) => match admission {
            Admission::Open => info!(server = %url, "server gets requests again"),
            Admission::Cordoned => info!(server = %url, "server cordoned: it gets no new requests"),
            Admission::Draining => {
                info!(server = %url, "server draining: no new requests, those under way finish");
            }
        },
        Change::Models(url, models) => {
            let names: Vec<_> = models.iter().map(AsRef::as_ref).collect();
            info!(server = %url, "server serves {}", names.join(", "));
        }
        Change::Health { url, to: Health::Ejected { cause, .. }, .. } => {
            warn!(server = %url, "server taken out: it {}", fault_in_words(*cause));
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
