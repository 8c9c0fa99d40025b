//! What systemd is told, if it is there to listen (`Type=notify`; sd_notify(3)).

use sd_notify::NotifyState;
use tracing::debug;

/// Requests are accepted.
pub(crate) fn is_ready() {
    tell(&[NotifyState::Ready]);
}

/// The end has been ordered. Not for a router that was relieved: systemd would begin to count
/// `TimeoutStopSec=`, and nobody waits for that one.
pub(crate) fn is_stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("the supervisor does not hear: {error}");
    }
}
