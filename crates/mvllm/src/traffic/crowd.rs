//! How many connections of clients are open, and waiting for fewer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// All open connections of clients.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    open: AtomicUsize,
    left: Notify,
}

/// One of them. It leaves when dropped.
#[derive(Debug)]
pub(crate) struct Member(Arc<Crowd>);

impl Crowd {
    /// One more comes.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        self.open.fetch_add(1, Ordering::Relaxed);
        Member(Arc::clone(self))
    }

    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until somebody leaves. One waiter at a time: it hears of a leave that came just before.
    pub(crate) async fn shrinks(&self) {
        self.left.notified().await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_a_leave_hears_of_it() {
        let crowd = Arc::<Crowd>::default();
        let (first, second) = (crowd.join(), crowd.join());
        assert_eq!(crowd.count(), 2);
        drop(first);
        crowd.shrinks().await;
        assert_eq!(crowd.count(), 1);
        let waiting = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.shrinks().await }
        });
        tokio::task::yield_now().await;
        drop(second);
        waiting.await.unwrap();
        assert_eq!(crowd.count(), 0);
    }
}
