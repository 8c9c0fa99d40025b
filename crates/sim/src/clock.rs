//! Simulated time: real time, scaled, without the hours in which the engines stood still.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the time since the server's start.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    speed: f64,
    stood_still: Duration,
    stopped_at: Option<Instant>,
}

impl Clock {
    pub(crate) fn start(speed: f64) -> Self {
        Self { started: Instant::now(), speed, stood_still: Duration::ZERO, stopped_at: None }
    }

    pub(crate) fn now(&self) -> Duration {
        let now = self.stopped_at.unwrap_or_else(Instant::now);
        (now - self.started - self.stood_still).mul_f64(self.speed)
    }

    /// The real time until the clock shows `then`; `None` while it stands still.
    pub(crate) fn until(&self, then: Duration) -> Option<Duration> {
        let left = then.saturating_sub(self.now());
        self.stopped_at.is_none().then(|| left.div_f64(self.speed))
    }

    pub(crate) fn stop(&mut self) {
        self.stopped_at.get_or_insert_with(Instant::now);
    }

    pub(crate) fn go_on(&mut self) {
        if let Some(stopped) = self.stopped_at.take() {
            self.stood_still += stopped.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_clock_loses_the_time_it_stood() {
        let mut clock = Clock::start(2.0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Duration::from_secs(2));
        clock.stop();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(clock.now(), Duration::from_secs(2));
        assert_eq!(clock.until(Duration::from_secs(3)), None);
        clock.go_on();
        assert_eq!(clock.until(Duration::from_secs(3)), Some(Duration::from_millis(500)));
    }
}
