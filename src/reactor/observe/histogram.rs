//! Counts of durations, by size.

use std::time::Duration;

/// Upper bounds in microseconds. They are finest around one frame at 60 Hz, where it matters
/// whether a frame is late.
const BOUNDS: [u64; 20] = [
    50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 17_000, 18_000, 20_000, 25_000,
    34_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
];

/// Counts of durations, by size.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The last count is for durations above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
    longest: Duration,
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS.partition_point(|&bound| bound < micros)] += 1;
        self.sum += duration;
        self.longest = self.longest.max(duration);
    }

    /// The number of durations recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest duration.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Each bound, from 50 µs to 1 s, with the number of durations up to that bound. Longer
    /// durations are only in [`count`](Histogram::count).
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut all = 0;
        BOUNDS
            .iter()
            .zip(&self.counts)
            .map(move |(&bound, &count)| {
                all += count;
                (Duration::from_micros(bound), all)
            })
    }

    /// The duration that this share of all durations does not exceed; 0.5 for the median. The
    /// result is interpolated linearly between the bounds around it, and is never more than the
    /// longest duration. Zero if nothing was recorded.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = share.clamp(0.0, 1.0) * self.count() as f64;
        let (mut below, mut lower) = (0, 0);
        for (place, &count) in self.counts.iter().enumerate() {
            let upper = BOUNDS
                .get(place)
                .copied()
                .unwrap_or(u64::MAX)
                .min(self.longest.as_micros() as u64);
            if count > 0 && (below + count) as f64 >= wanted {
                let part = ((wanted - below as f64) / count as f64).max(0.0);
                return Duration::from_micros(
                    lower + (upper.saturating_sub(lower) as f64 * part) as u64,
                );
            }
            (below, lower) = (below + count, upper);
        }
        self.longest
    }

    /// Returns what was recorded since `earlier`, an older copy of this histogram. The result's
    /// longest duration is an upper estimate: the bound of its highest bucket.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut since = self.clone();
        for (count, before) in since.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        since.sum = self.sum.saturating_sub(earlier.sum);
        let highest = since.counts.iter().rposition(|&count| count > 0);
        let bound = highest.map_or(0, |place| BOUNDS.get(place).copied().unwrap_or(u64::MAX));
        since.longest = self.longest.min(Duration::from_micros(bound));
        since
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("longest", &self.longest)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_is_recorded_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        assert_eq!(
            (histogram.quantile(0.5), histogram.count()),
            (Duration::ZERO, 0)
        );
        for duration in [ms(1), ms(1), ms(3), ms(3_000)] {
            histogram.record(duration);
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert!(
            buckets.contains(&(ms(1), 2))
                && buckets.contains(&(ms(2), 2))
                && buckets.contains(&(ms(4), 3))
        );
        assert_eq!(buckets.last(), Some(&(ms(1_000), 3)));
        assert_eq!(
            (histogram.count(), histogram.sum(), histogram.longest()),
            (4, ms(3_005), ms(3_000))
        );
        assert_eq!(histogram.quantile(0.5), ms(1));
        assert_eq!(histogram.quantile(1.0), ms(3_000));
        assert!((ms(2)..=ms(4)).contains(&histogram.quantile(0.7)));
    }

    #[test]
    fn a_later_state_less_an_earlier_one_is_what_came_between() {
        let mut histogram = Histogram::default();
        histogram.record(ms(400));
        let before = histogram.clone();
        assert_eq!(histogram.since(&before), Histogram::default());
        histogram.record(ms(19));
        let since = histogram.since(&before);
        assert_eq!(
            (since.count(), since.sum(), since.longest()),
            (1, ms(19), ms(20))
        );
    }
}
