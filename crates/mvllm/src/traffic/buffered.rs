//! The memory that all request bodies take together. A body is kept until its request need not be
//! sent again, which may be long; so what is bounded for one must be bounded for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// What bodies hold of the memory that they may take; one for all threads.
#[derive(Debug, Default)]
pub(crate) struct Buffered {
    held: AtomicUsize,
}

/// One body's part of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    buffered: Arc<Buffered>,
    bytes: usize,
}

impl Buffered {
    /// Bytes that are held now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { buffered: Arc::clone(self), bytes: 0 }
    }

    /// Whether so many more are still within `limit`; then they are taken.
    fn take(&self, bytes: usize, limit: usize) -> bool {
        let within = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }
}

impl Share {
    /// Takes more, so that it is `bytes` in all, unless that would be over `limit` for everybody
    /// together.
    pub(crate) fn grow_to(&mut self, bytes: usize, limit: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let granted = self.buffered.take(more, limit);
        if granted {
            self.bytes += more;
        }
        granted
    }

    /// Gives back what is more than `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.buffered.held.fetch_sub(less, Ordering::Relaxed);
    }

    /// `data`, whose last copy gives the share back.
    pub(crate) fn holds(self, data: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(Held { data, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

struct Held<T> {
    data: T,
    _share: Share,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_refused_over_the_limit_and_given_back_with_the_last_copy() {
        let buffered = Arc::<Buffered>::default();
        let mut share = buffered.share();
        assert!(share.grow_to(60, 100));
        let mut other = buffered.share();
        assert!(!other.grow_to(41, 100));
        assert!(other.grow_to(40, 100));
        assert_eq!(buffered.held(), 100);
        drop(other);
        share.shrink_to(3);
        let body = share.holds(vec![1, 2, 3]);
        let copy = body.slice(1..2);
        drop(body);
        assert_eq!(buffered.held(), 3);
        drop(copy);
        assert_eq!(buffered.held(), 0);
    }

    #[test]
    fn a_limit_that_was_lowered_under_what_is_held_grants_nothing() {
        let buffered = Arc::<Buffered>::default();
        let mut share = buffered.share();
        assert!(share.grow_to(60, 100));
        assert!(!share.grow_to(61, 50));
        assert!(share.grow_to(10, 100), "a share does not shrink by growing");
        assert_eq!(buffered.held(), 60);
    }
}
