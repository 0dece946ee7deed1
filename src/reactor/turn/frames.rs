//! When the next frame is due, and how much time a slice may use until then.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use super::Core;
use crate::{reactor::observe::FrameMetrics, sys::thread_time};

/// How the thread is shared with a GUI: how long one slice of the network may take. Set with
/// [`Handle::set_pacing`](crate::Handle::set_pacing). The defaults need no tuning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pacing {
    /// Budget while no window draws. The first frame of an animation is delayed by at most this.
    /// Default 2 ms.
    pub idle: Duration,
    /// Maximum budget, even if the next frame is far away, because input and the host's other
    /// sources wait for the slice. Default 4 ms.
    pub max: Duration,
    /// Minimum budget, even if a frame is due or overdue, so that the network continues in a GUI
    /// that is always late. Default 0.2 ms.
    pub min: Duration,
    /// Time to leave between the end of a slice and the start of a frame, for the host loop's own
    /// work. Default 0.2 ms.
    pub margin: Duration,
}

impl Pacing {
    /// Gives every slice the same budget, whatever is drawn.
    pub fn fixed(budget: Duration) -> Self {
        Pacing {
            idle: budget,
            max: budget,
            min: budget,
            margin: Duration::ZERO,
        }
    }
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing {
            idle: Duration::from_millis(2),
            max: Duration::from_millis(4),
            min: Duration::from_micros(200),
            margin: Duration::from_micros(200),
        }
    }
}

/// Tracks the frames of something that draws, such as a window or an output. While a clock exists,
/// the reactor's slices end before its next frame is due.
///
/// A backend makes one clock per window (the GTK and winit backends do). A program makes one for
/// each thing that it draws itself; a compositor, for example, makes one per output. The caller
/// says when a frame begins and ends. The clock learns what a frame costs, and how much earlier
/// than expected frames may come.
///
/// ```
/// # use std::time::Duration;
/// # let reactor = entwined::Standalone::new()?;
/// let clock = reactor.handle().frame_clock();
/// // In the host's callback that draws:
/// clock.begin(Duration::from_nanos(1_000_000_000 / 60));
/// // … draw …
/// clock.end();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FrameClock {
    core: Rc<Core>,
    clock: Rc<Clock>,
}

impl FrameClock {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        let clock = Rc::new(Clock::default());
        let mut clocks = core.frames.clocks.borrow_mut();
        clocks.retain(|clock| clock.strong_count() > 0);
        clocks.push(Rc::downgrade(&clock));
        drop(clocks);
        FrameClock { core, clock }
    }

    /// Call this when a frame begins. `interval` is the time between frames at the display's
    /// current rate, an hour at most.
    pub fn begin(&self, interval: Duration) {
        let interval = interval.min(LONGEST);
        let busy = self.core.meter.busy();
        let between = busy.saturating_sub(self.clock.busy.replace(busy));
        let gap = self.clock.begin(Instant::now(), interval);
        self.clock.processor.set(thread_time());
        self.core.frames.drawn(gap, interval, between);
    }

    /// Call this when the frame has been drawn and handed to the display.
    pub fn end(&self) {
        let cost = thread_time().saturating_sub(self.clock.processor.get());
        self.clock.end(Instant::now(), cost);
    }

    /// Sets the instant at which the host wants the thread, for a frame or for anything else. Has
    /// no effect once that instant has passed; then set it again.
    pub fn expect(&self, at: Option<Instant>) {
        self.clock.wanted.set(at);
    }
}

impl fmt::Debug for FrameClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Clock {
            began,
            interval,
            cost,
            ..
        } = &*self.clock;
        f.debug_struct("FrameClock")
            .field("began", began)
            .field("interval", interval)
            .field("cost", cost)
            .finish()
    }
}

/// All frame clocks of a reactor.
#[derive(Default)]
pub(crate) struct Frames {
    clocks: RefCell<Vec<Weak<Clock>>>,
    pub(crate) pacing: Cell<Pacing>,
    /// By how much slices have recently exceeded their budgets, at worst. A slice exceeds its
    /// budget because the running callback must finish.
    overrun: Cell<Duration>,
    metrics: RefCell<FrameMetrics>,
}

impl Frames {
    /// The budget of a slice that begins at `now`.
    pub(crate) fn budget(&self, now: Instant) -> Duration {
        let Pacing {
            idle,
            max,
            min,
            margin,
        } = self.pacing.get();
        let clocks = self.clocks.borrow();
        let due = clocks
            .iter()
            .filter_map(|clock| clock.upgrade()?.due(now))
            .min();
        due.map_or(idle, |due| {
            let left = due
                .saturating_duration_since(now)
                .saturating_sub(margin.saturating_add(self.overrun.get()));
            left.clamp(min.min(max), max)
        })
    }

    /// Records that a slice exceeded its budget by `time`.
    pub(crate) fn overran(&self, time: Duration) {
        // A very long overrun is unlikely to repeat soon: a stall must not bring the network to a
        // halt.
        self.overrun
            .set(time.min(MOST_OVERRUN).max(self.overrun.get() * 63 / 64));
    }

    fn drawn(&self, gap: Option<Duration>, interval: Duration, busy: Duration) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.drawn += 1;
        // In a longer gap, nobody may have wanted a frame, unless this reactor's callbacks took
        // most of the gap.
        if let Some(gap) = gap.filter(|&gap| gap < LEFT_OUT * interval || 2 * busy > gap) {
            metrics.gaps.record(gap);
            let intervals = (gap.as_secs_f64() / interval.as_secs_f64().max(1e-6)).round() as u64;
            metrics.lost += intervals.saturating_sub(1);
        }
    }

    pub(crate) fn metrics(&self) -> FrameMetrics {
        let clocks = self.clocks.borrow();
        let cost = clocks
            .iter()
            .filter_map(|clock| Some(clock.upgrade()?.cost.get()))
            .max();
        FrameMetrics {
            cost: cost.unwrap_or_default(),
            ..self.metrics.borrow().clone()
        }
    }
}

/// Longest time between two frames.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Maximum overrun that later slices allow for.
const MOST_OVERRUN: Duration = Duration::from_millis(2);

/// A window that skipped this many frames counts as idle.
const LEFT_OUT: u32 = 3;

/// The maximum of `Clock::waits`. Above half of it, frames are assumed to wait for the display.
/// Three frames in a row that waited exceed that threshold; at most 32 frames that did not wait go
/// back below it.
const SURE: u32 = 64;

/// What is known about one window's frames.
#[derive(Default)]
struct Clock {
    /// When the last frame began.
    began: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
    interval: Cell<Duration>,
    /// By how much frames recently began earlier than expected, at worst.
    early: Cell<Duration>,
    /// What frames recently cost, at worst.
    cost: Cell<Duration>,
    /// How sure we are that frames wait for the display, so that the end of a frame tells when the
    /// next is due. Goes up when a frame took much longer than it cost, and down otherwise.
    waits: Cell<u32>,
    wanted: Cell<Option<Instant>>,
    /// This thread's processor time when the last frame began.
    processor: Cell<Duration>,
    /// The total time in the reactor's callbacks when the last frame began.
    busy: Cell<Duration>,
}

impl Clock {
    /// Returns the time since the last frame began.
    fn begin(&self, now: Instant, interval: Duration) -> Option<Duration> {
        if let Some(expected) = self.expected(now) {
            let early = expected
                .saturating_duration_since(now)
                .max(self.early.get() * 15 / 16);
            self.early.set(early.min(interval / 2));
        }
        self.interval.set(interval);
        Some(now.saturating_duration_since(self.began.replace(Some(now))?))
    }

    fn end(&self, now: Instant, cost: Duration) {
        let Some(began) = self.began.get() else {
            return;
        };
        let took = now.saturating_duration_since(began);
        let waits = self.waits.get();
        let waited = took.saturating_sub(cost) > self.interval.get() / 8;
        self.waits.set(if waited {
            SURE.min(waits + SURE / 4)
        } else {
            waits.saturating_sub(1)
        });
        self.cost.set(cost.max(self.cost.get() * 15 / 16));
        self.ended.set(Some(now));
    }

    /// When the frame after the last one should begin, during continuous drawing.
    fn expected(&self, now: Instant) -> Option<Instant> {
        let (began, interval) = (self.began.get()?, self.interval.get());
        (now.saturating_duration_since(began) < LEFT_OUT * interval).then(|| began + interval)
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let next = self.expected(now).map(|expected| {
            let due = expected - self.early.get();
            match self.ended.get() {
                // The display took the last frame when that frame ended, and takes the next one an
                // interval later.
                Some(ended) if self.waits.get() > SURE / 2 => {
                    due.min(ended + self.interval.get().saturating_sub(self.cost.get()))
                }
                _ => due,
            }
        });
        let wanted = self.wanted.get().filter(|&at| at > now);
        next.into_iter().chain(wanted).min()
    }
}

#[cfg(test)]
mod rates;

// These tests imitate hosts that time their frames differently. An arbitrary `Instant` cannot be
// constructed, so all tests start now.
#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_micros(16_667);

    fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    #[test]
    fn a_clock_without_frames_expects_none() {
        assert_eq!(Clock::default().due(Instant::now()), None);
    }

    #[test]
    fn the_next_frame_is_due_an_interval_after_the_last() {
        let (clock, start) = (Clock::default(), Instant::now());
        assert_eq!(clock.begin(start, INTERVAL), None);
        assert_eq!(clock.due(start + us(5_000)), Some(start + INTERVAL));
        assert_eq!(
            clock.due(start + us(40_000)),
            Some(start + INTERVAL),
            "an overdue one is still awaited"
        );
        assert_eq!(clock.due(start + us(60_000)), None, "nobody draws any more");
        assert_eq!(clock.begin(start + us(17_000), INTERVAL), Some(us(17_000)));
    }

    #[test]
    fn frames_that_come_early_are_expected_early_until_they_no_longer_do() {
        let (clock, mut now) = (Clock::default(), Instant::now());
        clock.begin(now, INTERVAL);
        now += INTERVAL - us(500);
        clock.begin(now, INTERVAL);
        assert_eq!(clock.due(now), Some(now + INTERVAL - us(500)));
        for _ in 0..100 {
            now += INTERVAL + us(100);
            clock.begin(now, INTERVAL);
        }
        let due = clock.due(now).expect("one is");
        assert!(
            due > now + INTERVAL - us(2),
            "still {:?} early",
            now + INTERVAL - due
        );
    }

    #[test]
    fn a_frame_that_waits_for_the_display_is_begun_in_time_for_what_it_costs() {
        let (clock, start) = (Clock::default(), Instant::now());
        // The display takes a frame at each whole interval. Each frame begins later than the one
        // before and costs 3 ms.
        for number in 0..4 {
            clock.begin(start + number * INTERVAL + us(1_000) * number, INTERVAL);
            clock.end(start + (number + 1) * INTERVAL, us(3_000));
        }
        let (taken, began) = (start + 4 * INTERVAL, start + 3 * INTERVAL + us(3_000));
        assert_eq!(
            clock.due(taken),
            Some(began + INTERVAL),
            "there is more time than it needs"
        );
        clock.begin(taken + us(13_600), INTERVAL);
        clock.end(taken + INTERVAL, us(3_000));
        let latest = taken + INTERVAL + (INTERVAL - us(3_000));
        assert_eq!(
            clock.due(taken + INTERVAL),
            Some(latest.min(taken + us(13_600) + INTERVAL))
        );
        clock.begin(taken + INTERVAL + us(13_900), INTERVAL);
        clock.end(taken + 2 * INTERVAL, us(2_700));
        assert!(
            clock.due(taken + 2 * INTERVAL) < Some(taken + 2 * INTERVAL + us(13_900)),
            "it would come too late"
        );
    }

    #[test]
    fn what_the_host_wants_comes_first() {
        let (clock, start) = (Clock::default(), Instant::now());
        clock.wanted.set(Some(start + us(700)));
        assert_eq!(clock.due(start), Some(start + us(700)));
        clock.begin(start, INTERVAL);
        assert_eq!(clock.due(start), Some(start + us(700)));
        assert_eq!(
            clock.due(start + us(900)),
            Some(start + INTERVAL),
            "it is past"
        );
    }

    #[test]
    fn a_slice_ends_before_the_frame_and_is_neither_too_long_nor_too_short() {
        let (frames, clock) = (Frames::default(), Rc::new(Clock::default()));
        frames.clocks.borrow_mut().push(Rc::downgrade(&clock));
        let start = Instant::now();
        assert_eq!(frames.budget(start), us(2_000), "nothing draws");
        clock.begin(start, INTERVAL);
        assert_eq!(frames.budget(start), us(4_000));
        assert_eq!(frames.budget(start + INTERVAL - us(1_200)), us(1_000));
        assert_eq!(
            frames.budget(start + INTERVAL + us(3_000)),
            us(200),
            "overdue"
        );
        frames.pacing.set(Pacing::fixed(us(700)));
        assert_eq!(frames.budget(start), us(700));
        frames.pacing.set(Pacing::default());
        // After a long callback, another one is expected; this expectation fades over time.
        frames.overran(us(50_000));
        assert_eq!(frames.budget(start + INTERVAL - us(3_200)), us(1_000));
        for _ in 0..500 {
            frames.overran(us(0));
        }
        assert!(frames.budget(start + INTERVAL - us(3_200)) > us(2_900));
        drop(clock);
        assert_eq!(frames.budget(start), us(2_000), "the window is gone");
    }

    #[test]
    fn gaps_count_while_frames_come_one_after_another_or_the_reactor_made_them() {
        let frames = Frames::default();
        frames.drawn(None, INTERVAL, Duration::ZERO);
        frames.drawn(Some(INTERVAL), INTERVAL, Duration::ZERO);
        frames.drawn(Some(us(33_000)), INTERVAL, Duration::ZERO);
        // Nothing moved for a second.
        frames.drawn(Some(us(1_000_000)), INTERVAL, us(5_000));
        // A callback held the thread.
        frames.drawn(Some(us(300_000)), INTERVAL, us(290_000));
        let metrics = frames.metrics();
        assert_eq!(
            (metrics.drawn, metrics.gaps.count(), metrics.lost),
            (5, 3, 1 + 17)
        );
    }
}
