//! Measures how evenly frames were drawn.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer gaps are counted as this one; after an hour without a frame there is no frame rate to
/// speak of.
const LONGEST_GAP_US: u64 = 3_600_000_000;

/// Records the gaps between frames in bounded memory.
///
/// Pass it the moment when a frame was really painted, not the moment for which it was planned: a
/// frame clock that predicts evenly would hide exactly the stalls that this must show. Gaps keep
/// three significant digits (17.0 ms and 17.1 ms stay distinct), in some 200 KiB however long the
/// program runs.
#[derive(Debug)]
pub struct FrameRecorder {
    gaps_us: Histogram<u64>,
    frames: u64,
    last: Option<Instant>,
}

/// What a [`FrameRecorder`] recorded. Gaps are in milliseconds, 0 if there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FrameSummary {
    /// Frames painted.
    #[serde(skip)]
    pub frames: u64,
    /// Half of the gaps were no longer than this.
    pub p50: f64,
    /// 99 of 100 gaps were no longer than this.
    pub p99: f64,
    /// The longest gap.
    pub max: f64,
}

impl FrameRecorder {
    /// Creates an empty recorder.
    pub fn new() -> Self {
        let gaps_us = Histogram::new_with_max(LONGEST_GAP_US, 3);
        Self {
            gaps_us: gaps_us.expect("constant bounds are valid"),
            frames: 0,
            last: None,
        }
    }

    /// Records a frame painted at `now`. A `now` before the last one counts as a gap of zero.
    pub fn record(&mut self, now: Instant) {
        self.frames += 1;
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.gaps_us.saturating_record(micros(gap));
        }
    }

    /// Forgets the last frame's time, so that the gap up to the next one does not count. For a
    /// window that is not drawn because it is not visible.
    pub fn pause(&mut self) {
        self.last = None;
    }

    /// Returns the number of frames painted so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the figures so far.
    pub fn summary(&self) -> FrameSummary {
        if self.gaps_us.is_empty() {
            return FrameSummary {
                frames: self.frames,
                ..FrameSummary::default()
            };
        }
        FrameSummary {
            frames: self.frames,
            p50: millis(self.gaps_us.value_at_quantile(0.50)),
            p99: millis(self.gaps_us.value_at_quantile(0.99)),
            max: millis(self.gaps_us.max()),
        }
    }
}

impl Default for FrameRecorder {
    fn default() -> Self {
        Self::new()
    }
}

fn micros(gap: Duration) -> u64 {
    u64::try_from(gap.as_micros()).unwrap_or(u64::MAX)
}

/// Converts to milliseconds with two decimals, which is what three significant digits give at 60
/// Hz.
fn millis(us: u64) -> f64 {
    (us as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: f64) -> Instant {
        start + Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(FrameRecorder::new().summary(), FrameSummary::default());
    }

    #[test]
    fn one_frame_has_no_gap() {
        let mut frames = FrameRecorder::new();
        frames.record(Instant::now());
        assert_eq!(frames.frames(), 1);
        assert_eq!(frames.summary().max, 0.0);
    }

    #[test]
    fn percentiles_and_maximum_are_the_gaps_own() {
        let mut frames = FrameRecorder::new();
        let mut now = Instant::now();
        frames.record(now);
        for gap in std::iter::repeat_n(16.7, 980).chain(std::iter::repeat_n(33.4, 20)) {
            now = after(now, gap);
            frames.record(now);
        }
        now = after(now, 250.0);
        frames.record(now);
        let summary = frames.summary();
        assert_eq!(summary.frames, 1002);
        assert!((summary.p50 - 16.7).abs() < 0.05, "{summary:?}");
        assert!((summary.p99 - 33.4).abs() < 0.05, "{summary:?}");
        assert!((summary.max - 250.0).abs() < 0.5, "{summary:?}");
    }

    #[test]
    fn a_pause_is_no_gap() {
        let mut frames = FrameRecorder::new();
        let start = Instant::now();
        frames.record(start);
        frames.record(after(start, 16.0));
        frames.pause();
        frames.record(after(start, 90_000.0));
        assert_eq!(frames.frames(), 3);
        assert!(frames.summary().max < 17.0);
    }

    #[test]
    fn a_gap_beyond_the_longest_is_clamped_and_time_may_stand_still() {
        let mut frames = FrameRecorder::new();
        let start = Instant::now();
        frames.record(start);
        frames.record(after(start, 86_400_000.0));
        frames.record(start);
        assert!(frames.summary().max >= 3_600_000.0);
        assert_eq!(frames.frames(), 3);
    }
}
