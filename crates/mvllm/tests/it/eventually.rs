//! Waiting for what nobody announces.

use std::future::Future;
use std::time::Duration;

/// How long anything may take before a test gives up on it. Far more than it should take: a test
/// that fails by this is to say that something never happened, not that it was slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a state that cannot be subscribed to is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let watch = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    within_patience(what, watch).await
}

/// Waits until `holds` does.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(holds().then_some(()))).await;
}

/// Waits for `future`, which announces itself.
pub(crate) async fn within_patience<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("never happened: {what}"),
    }
}
