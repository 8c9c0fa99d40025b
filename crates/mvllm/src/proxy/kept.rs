//! How much memory may be spent on being able to carry answers on: requests, and what their clients
//! have been told so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of one answer and its request. A long conversation is some hundred KB, and its tokens as much
/// again; what is larger has images in it, and is left to break.
pub(super) const OF_ONE_MAX: usize = 8 * 1024 * 1024;

/// Of all together: with 32 KB each, as many streams as a router has file descriptors for by default
/// in most systems. Beyond, new streams are not kept.
const IN_TOTAL_MAX: usize = 512 * 1024 * 1024;

/// Memory is accounted for in steps of this size, so that a chunk costs no atomic operation.
const STEP: usize = 16 * 1024;

/// The sum over all answers.
#[derive(Debug, Default)]
pub(crate) struct KeptInTotal(AtomicUsize);

/// One answer's share; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    total: Arc<KeptInTotal>,
    bytes: usize,
}

impl Kept {
    /// Room for so many bytes, if there is.
    pub(super) fn begin(total: &Arc<KeptInTotal>, bytes: usize) -> Option<Self> {
        let mut kept = Self { total: Arc::clone(total), bytes: 0 };
        kept.covers(bytes).then_some(kept)
    }

    /// Makes room for so many bytes in all; false if there is none.
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            return true;
        }
        let more = bytes.next_multiple_of(STEP) - self.bytes;
        if self.bytes + more > OF_ONE_MAX {
            return false;
        }
        let before = self.total.0.fetch_add(more, Ordering::Relaxed);
        if before + more > IN_TOTAL_MAX {
            self.total.0.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.total.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_for_others() {
        let total = Arc::default();
        let mut all = Vec::new();
        while let Some(kept) = Kept::begin(&total, OF_ONE_MAX) {
            all.push(kept);
        }
        assert_eq!(all.len(), IN_TOTAL_MAX / OF_ONE_MAX);
        assert!(Kept::begin(&total, 1).is_none());
        all.pop();
        assert!(Kept::begin(&total, OF_ONE_MAX).is_some());
        all.clear();
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_answer_grows_up_to_its_own_limit() {
        let total = Arc::default();
        let mut kept = Kept::begin(&total, 1).unwrap();
        assert!(kept.covers(STEP) && kept.covers(STEP + 1) && kept.covers(OF_ONE_MAX));
        assert!(!kept.covers(OF_ONE_MAX + 1));
        assert!(kept.covers(OF_ONE_MAX), "what it has it keeps");
    }
}
