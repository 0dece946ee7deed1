//! The token bucket. It does not read the clock: time is an argument.

use std::time::{Duration, Instant};

/// Allows a number of bytes per second, plus a burst after idle time. More can be taken than is
/// available: the debt is repaid before anything is available again.
///
/// ```
/// use std::time::{Duration, Instant};
/// use entwined::policy::TokenBucket;
///
/// let start = Instant::now();
/// let mut bucket = TokenBucket::new(1_000, 500, start);
/// assert_eq!(bucket.available(start), 500);
/// bucket.take(500, start);
/// assert_eq!(bucket.available(start + Duration::from_millis(100)), 100);
/// assert_eq!(bucket.when(250, start), start + Duration::from_millis(250));
/// bucket.take(100, start);
/// assert_eq!(bucket.available(start + Duration::from_millis(100)), 0);
/// assert_eq!(bucket.when(250, start), start + Duration::from_millis(350));
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    burst: u64,
    /// Tokens at `since`, in billionths. Negative if there is a debt.
    tokens: i128,
    since: Instant,
}

const NANO: i128 = 1_000_000_000;

impl TokenBucket {
    /// Creates a full bucket of `rate` bytes per second with bursts of `burst` bytes. Both are at
    /// least 1.
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        TokenBucket {
            rate,
            burst,
            tokens: i128::from(burst) * NANO,
            since: now,
        }
    }

    /// How many bytes can be taken now.
    pub fn available(&self, now: Instant) -> u64 {
        // At most the burst, which is a u64.
        (self.at(now) / NANO).max(0) as u64
    }

    /// Takes bytes from the bucket, possibly more than are available.
    pub fn take(&mut self, bytes: u64, now: Instant) {
        self.tokens = self.at(now).saturating_sub(i128::from(bytes) * NANO);
        self.since = self.since.max(now);
    }

    /// When this many bytes, or the whole burst if that is less, will be available.
    pub fn when(&self, bytes: u64, now: Instant) -> Instant {
        let missing = (i128::from(bytes.min(self.burst)) * NANO)
            .saturating_sub(self.at(now))
            .max(0);
        let nanos = missing.unsigned_abs().div_ceil(u128::from(self.rate));
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn at(&self, now: Instant) -> i128 {
        let nanos = now.saturating_duration_since(self.since).as_nanos();
        let gained = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_mul(i128::from(self.rate));
        self.tokens
            .saturating_add(gained)
            .min(i128::from(self.burst) * NANO)
    }
}
