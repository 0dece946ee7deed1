//! Points in time for cheap arithmetic.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A reading of the monotonic clock (clock_gettime(2)) as one number. Subtracting two of them costs
/// a tenth of subtracting two [`Instant`](std::time::Instant)s, and every callback is timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    nanoseconds: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        // The clock starts near system boot, so this lasts for 584 years.
        Moment {
            nanoseconds: tv_sec as u64 * 1_000_000_000 + tv_nsec as u64,
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
