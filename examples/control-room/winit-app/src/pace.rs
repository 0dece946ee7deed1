//! When the next frame is due.

use std::time::{Duration, Instant};

/// 60 frames a second.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// An even beat. Late frames do not shift it, and missed frames are not made up for.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Instant,
}

impl Pace {
    /// The first frame is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// Returns whether a frame is due. If so, the next one is due one interval later.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next += INTERVAL;
        if self.next <= now {
            self.next = now + INTERVAL;
        }
        true
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_frame_keeps_the_beat() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.due(start));
        assert!(!pace.due(start + INTERVAL / 2));
        assert!(pace.due(start + INTERVAL * 3 / 2));
        assert_eq!(pace.next(), start + INTERVAL * 2);
    }

    #[test]
    fn a_stall_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let late = start + INTERVAL * 100;
        assert!(pace.due(late));
        assert!(!pace.due(late));
        assert_eq!(pace.next(), late + INTERVAL);
    }
}
