//! Delays between attempts.

use std::time::Duration;

/// Growing delays with random jitter. The jitter keeps a thousand clients of a restarted server
/// from coming back all at once.
///
/// ```
/// use std::time::Duration;
/// use entwined::service::Backoff;
///
/// let mut backoff = Backoff::default();
/// backoff.jitter = 0.0;
/// let waits: Vec<_> = (0..4).map(|_| backoff.next(0.5).as_secs_f64()).collect();
/// assert_eq!(waits, [1.0, 1.5, 2.25, 3.375]);
/// backoff.reset();
/// assert_eq!(backoff.next(0.5), Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backoff {
    /// The first delay. Default: 1 s.
    pub first: Duration,
    /// Each delay is this many times the one before. Default: 1.5.
    pub factor: f64,
    /// The longest delay. Default: 60 s.
    pub max: Duration,
    /// By what fraction of itself a delay may be shorter or longer, from 0 to 1. Default: 0.1.
    pub jitter: f64,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_secs(1),
            factor: 1.5,
            max: Duration::from_secs(60),
            jitter: 0.1,
            tries: 0,
        }
    }
}

impl Backoff {
    /// Returns the next delay. `chance`, from 0 to 1, selects a value between the shortest and the
    /// longest possible delay.
    pub fn next(&mut self, chance: f64) -> Duration {
        let max = self.max.as_secs_f64();
        let wait =
            (self.first.as_secs_f64() * self.factor.powf(f64::from(self.tries))).clamp(0.0, max);
        self.tries = self.tries.saturating_add(1);
        let jitter = self.jitter.clamp(0.0, 1.0) * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        // A longest delay of for ever is longer than this can say.
        Duration::try_from_secs_f64((wait * (1.0 + jitter)).min(max)).unwrap_or(self.max)
    }

    /// Starts again with the first delay. Call it after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Returns the number of delays since the start or the last reset.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_within_their_jitter() {
        let mut backoff = Backoff::default();
        let mut last = 0.0;
        for try_ in 0..1_000 {
            let (mut shortest, mut longest) = (backoff.clone(), backoff.clone());
            let plain = backoff.next(0.5).as_secs_f64();
            assert!(
                plain >= last && plain <= 60.0,
                "try {try_}: {plain} after {last}"
            );
            assert!((shortest.next(0.0).as_secs_f64() - 0.9 * plain).abs() < 1e-6);
            assert!((longest.next(1.0).as_secs_f64() - (1.1 * plain).min(60.0)).abs() < 1e-6);
            last = plain;
        }
        assert_eq!(last, 60.0);
        assert_eq!(backoff.tries(), 1_000);
    }

    #[test]
    fn strange_figures_do_no_harm() {
        for (factor, jitter) in [
            (0.0, 5.0),
            (f64::INFINITY, -1.0),
            (f64::NAN, 0.1),
            (1e300, 1.0),
        ] {
            let mut backoff = Backoff {
                factor,
                jitter,
                ..Backoff::default()
            };
            for chance in [0.0, 1.0, -3.0, 7.0, 0.5] {
                assert!(backoff.next(chance) <= Duration::from_secs(60));
            }
            backoff.max = Duration::MAX;
            for _ in 0..1_000 {
                let _ = backoff.next(1.0);
            }
        }
    }
}
