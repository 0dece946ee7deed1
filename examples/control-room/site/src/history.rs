//! Requests per second over the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often the rate is sampled.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// How many samples are kept: one minute.
pub const SAMPLES: usize = 120;

/// A ring of rates, newest last.
#[derive(Debug)]
pub(crate) struct History {
    rates: VecDeque<u32>,
    seen: u64,
    sampled_at: Option<Instant>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            rates: VecDeque::from(vec![0; SAMPLES]),
            seen: 0,
            sampled_at: None,
        }
    }

    /// Takes a sample if one is due; returns whether it did.
    ///
    /// If the call is late (the thread was blocked, or nothing ticked for a while), the count is
    /// spread over all the intervals that passed, so that a stall does not look like a burst.
    pub(crate) fn sample(&mut self, now: Instant, requests: u64) -> bool {
        let Some(last) = self.sampled_at else {
            self.sampled_at = Some(now);
            return false;
        };
        let elapsed = now.saturating_duration_since(last);
        if elapsed < SAMPLE_INTERVAL {
            return false;
        }
        let rate = ((requests - self.seen) as f64 / elapsed.as_secs_f64()).round();
        let intervals = elapsed.as_nanos() / SAMPLE_INTERVAL.as_nanos();
        for _ in 0..intervals.min(SAMPLES as u128) {
            self.rates.pop_front();
            self.rates.push_back(rate as u32);
        }
        self.seen = requests;
        self.sampled_at = Some(now);
        true
    }

    /// Returns the newest rate.
    pub(crate) fn rate(&self) -> u32 {
        self.rates.back().copied().unwrap_or(0)
    }

    /// Returns whether a whole minute passed without a request, so that time alone changes nothing
    /// any more.
    pub(crate) fn is_quiet(&self, requests: u64) -> bool {
        self.seen == requests && self.rates.iter().all(|rate| *rate == 0)
    }

    pub(crate) fn rates(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.rates.iter().copied()
    }

    /// Returns how far the next sample has progressed, 0 to 1: the offset of a plot that scrolls
    /// smoothly.
    pub(crate) fn phase(&self, now: Instant) -> f64 {
        let Some(last) = self.sampled_at else {
            return 0.0;
        };
        let elapsed = now.saturating_duration_since(last);
        (elapsed.as_secs_f64() / SAMPLE_INTERVAL.as_secs_f64()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(history: &History, n: usize) -> Vec<u32> {
        history.rates().skip(SAMPLES - n).collect()
    }

    #[test]
    fn samples_only_when_due() {
        let start = Instant::now();
        let mut history = History::new();
        assert!(!history.sample(start, 0));
        assert!(!history.sample(start + SAMPLE_INTERVAL / 2, 10));
        assert!(history.sample(start + SAMPLE_INTERVAL, 50));
        assert_eq!(history.rate(), 100);
        assert_eq!(newest(&history, 2), [0, 100]);
    }

    #[test]
    fn a_late_sample_is_spread_over_what_it_missed() {
        let start = Instant::now();
        let mut history = History::new();
        history.sample(start, 0);
        history.sample(start + SAMPLE_INTERVAL * 4, 200);
        assert_eq!(newest(&history, 5), [0, 100, 100, 100, 100]);
    }

    #[test]
    fn a_very_late_sample_costs_no_more_than_the_ring() {
        let start = Instant::now();
        let mut history = History::new();
        history.sample(start, 0);
        history.sample(start + Duration::from_secs(1_000_000), 7);
        assert_eq!(history.rates().len(), SAMPLES);
        assert!(history.is_quiet(7));
    }

    #[test]
    fn quiet_only_after_the_last_rate_left_the_ring() {
        let mut now = Instant::now();
        let mut history = History::new();
        history.sample(now, 0);
        assert!(history.is_quiet(0));
        assert!(!history.is_quiet(9), "requests that were not sampled yet");
        now += SAMPLE_INTERVAL;
        history.sample(now, 9);
        for _ in 0..SAMPLES {
            assert!(!history.is_quiet(9));
            now += SAMPLE_INTERVAL;
            history.sample(now, 9);
        }
        assert!(history.is_quiet(9));
    }

    #[test]
    fn the_phase_runs_from_nothing_to_one() {
        let start = Instant::now();
        let mut history = History::new();
        assert_eq!(history.phase(start), 0.0);
        history.sample(start, 0);
        assert!((history.phase(start + SAMPLE_INTERVAL / 4) - 0.25).abs() < 1e-9);
        assert_eq!(history.phase(start + SAMPLE_INTERVAL * 9), 1.0);
    }
}
