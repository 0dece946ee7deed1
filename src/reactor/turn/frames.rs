//! When the next frame is due, and what may be spent until then.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::Core;
use crate::reactor::observe::FrameMetrics;

/// How the thread is shared with a GUI: what one slice of the network may take. Set by
/// [`Handle::set_pacing`](crate::Handle::set_pacing); the defaults need no tuning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pacing {
    /// While no window draws: the first frame of an animation waits for that long at most. 2 ms.
    pub idle: Duration,
    /// However much time there is until the next frame: input, and the host's other sources, wait
    /// for it. 4 ms.
    pub max: Duration,
    /// When a frame is due, or overdue: the network goes on in a GUI that is always late. 0.2 ms.
    pub min: Duration,
    /// What lies between the end of a slice and the start of a frame: the host loop's own work. 0.2
    /// ms.
    pub margin: Duration,
}

impl Pacing {
    /// The same for each slice, whatever is drawn.
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

/// Who draws frames: a window, an output. While it lives, the reactor's slices end before its next
/// frame is due.
///
/// A backend makes one for each of its windows (the GTK and winit backends do); a program makes one
/// for what it draws itself, such as a compositor for each output. It says when a frame begins and
/// ends; what a frame costs, and by how much it may come early, is learned.
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

    /// A frame begins. `interval` is what lies between two of them at the display's present rate.
    pub fn begin(&self, interval: Duration) {
        let busy = self.core.meter.busy();
        let between = busy.saturating_sub(self.clock.busy.replace(busy));
        let gap = self.clock.begin(Instant::now(), interval);
        self.clock.processor.set(processor_time());
        self.core.frames.drawn(gap, interval, between);
    }

    /// The frame is drawn, and handed to the display.
    pub fn end(&self) {
        let cost = processor_time().saturating_sub(self.clock.processor.get());
        self.clock.end(Instant::now(), cost);
    }

    /// The host wants the thread at this instant, for a frame or for whatever else; it is asked
    /// anew when that is past.
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

/// Of this thread. A frame that waits for the display takes long and costs little.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// All clocks of a reactor.
#[derive(Default)]
pub(crate) struct Frames {
    clocks: RefCell<Vec<Weak<Clock>>>,
    pub(crate) pacing: Cell<Pacing>,
    /// By how much slices take longer than their budgets, as the callback that runs then must end,
    /// at worst of late.
    overrun: Cell<Duration>,
    metrics: RefCell<FrameMetrics>,
}

impl Frames {
    /// What a slice that begins at `now` may take.
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
                .saturating_sub(margin + self.overrun.get());
            left.clamp(min.min(max), max)
        })
    }

    /// A slice took so much longer than its budget.
    pub(crate) fn overran(&self, time: Duration) {
        // One that took very long will not be followed by many like it: the network is not to stand
        // still for a stall.
        self.overrun
            .set(time.min(MOST_OVERRUN).max(self.overrun.get() * 63 / 64));
    }

    fn drawn(&self, gap: Option<Duration>, interval: Duration, busy: Duration) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.drawn += 1;
        // Nobody knows whether a frame was wanted in a longer gap, unless it was this reactor's
        // callbacks that made it long.
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

/// What is believed of an overrun.
const MOST_OVERRUN: Duration = Duration::from_millis(2);

/// Who has left out so many frames does not draw.
const LEFT_OUT: u32 = 3;

/// Three frames in a row that waited for the display are believed, for this number of frames less
/// the half.
const SURE: u32 = 64;

/// What is known of one clock.
#[derive(Default)]
struct Clock {
    /// When the last frame began.
    began: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
    interval: Cell<Duration>,
    /// By how much frames come before they were expected, at worst of late.
    early: Cell<Duration>,
    /// What they cost, at worst of late.
    cost: Cell<Duration>,
    /// How sure it is that frames wait for the display, which thus tells when they are due: up when
    /// one took much longer than it cost, else down.
    waits: Cell<u32>,
    wanted: Cell<Option<Instant>>,
    /// This thread's processor time when the last one began.
    processor: Cell<Duration>,
    /// The time in the reactor's callbacks by then.
    busy: Cell<Duration>,
}

impl Clock {
    /// Gives the time since the last one began.
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

    /// When the frame after the last one should begin, while frames come one after another.
    fn expected(&self, now: Instant) -> Option<Instant> {
        let (began, interval) = (self.began.get()?, self.interval.get());
        (now.saturating_duration_since(began) < LEFT_OUT * interval).then(|| began + interval)
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let next = self.expected(now).map(|expected| {
            let due = expected - self.early.get();
            match self.ended.get() {
                // The display took it at its end, and takes the next one an interval later.
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

// Hosts that time a frame differently are played here; `Instant` cannot be made, so all of them
// begin now.
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
        // The display takes a frame at each whole interval. Each is begun later than the one
        // before; it costs 3 ms.
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
        // A callback that has taken long is expected again, and forgotten in time.
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
