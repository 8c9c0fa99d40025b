//! Figures that only grow, looked at once a second, to tell what they did in the last minute.

use std::collections::VecDeque;

/// How many seconds are kept.
const KEPT: usize = 60;

/// The latest minute of some figures.
#[derive(Debug, Clone)]
pub(super) struct Minute<T> {
    marks: VecDeque<T>,
}

impl<T> Default for Minute<T> {
    fn default() -> Self {
        Self { marks: VecDeque::new() }
    }
}

impl<T: Clone> Minute<T> {
    /// Adds this second's figures; returns those of a minute ago, or the oldest there are, and how
    /// many seconds ago that was.
    pub(super) fn push(&mut self, latest: T) -> (T, f64) {
        self.marks.push_back(latest.clone());
        while self.marks.len() > KEPT + 1 {
            self.marks.pop_front();
        }
        let seconds = self.marks.len() - 1;
        let oldest = self.marks.front().cloned().unwrap_or(latest);
        (oldest, seconds as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_mark_is_a_minute_old_at_most() {
        let mut minute = Minute::default();
        assert_eq!(minute.push(0), (0, 0.0));
        assert_eq!(minute.push(1), (0, 1.0));
        for second in 2..=100 {
            minute.push(second);
        }
        assert_eq!(minute.push(101), (41, 60.0));
    }
}
