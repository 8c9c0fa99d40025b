//! Changes of the fleet, told to whoever reads the log.

use mvllm_core::fleet::Change;
use mvllm_core::health::Health;
use mvllm_core::snapshot::{Admission, Judgement};
use tracing::{debug, info, warn};

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
        Change::Restarted(_, url) => info!(server = %url, "server was restarted"),
        Change::Judgement(Judgement::Doubted) => {
            warn!(
                "more than half of the servers are silent at once: mvllm's own network or machine may be at fault; they keep getting requests"
            );
        }
        Change::Judgement(Judgement::Trusted) => {
            info!("most servers answer again: silent ones are taken out as always");
        }
        Change::Overslept(time) => {
            let secs = time.as_secs();
            warn!("mvllm itself stood still for {secs} s; no server is judged by that time");
        }
        Change::Health { url, from, to } => tell_health(url, *from, *to),
    }
}

fn tell_health(url: &str, from: Health, to: Health) {
    match (from, to) {
        (_, Health::Ejected { cause, .. }) => {
            warn!(server = %url, "server taken out: it {}", fault_in_words(cause));
        }
        (Health::Ejected { .. }, Health::Probation) => {
            info!(server = %url, "server is tried with one request at a time");
        }
        (Health::Ejected { .. } | Health::Probation, _) => {
            info!(server = %url, "server is back");
        }
        // A server whose only requests are idle WebSockets is tested again and again, and passes.
        (_, Health::UnderTest { .. } | Health::Probation) | (Health::UnderTest { .. }, _) => {
            debug!(server = %url, "no progress for a while: {from:?}, now {to:?}");
        }
        (_, Health::Suspect) => {
            warn!(server = %url, "a request failed; one more failure may take the server out");
        }
        _ => info!(server = %url, "server is healthy"),
    }
}
