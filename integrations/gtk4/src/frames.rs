//! When the next frame is due, and what may be spent until then.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use gtk4::{Window, gdk::FrameClock, gio, glib, prelude::*};

/// All times are in microseconds, by GLib's monotonic clock, as GDK has them.
type Microseconds = i64;

/// What one dispatch may take while no window draws: the first frame of an animation waits for that long at most.
const CALM: Microseconds = 2_000;

/// What it may take however much time there is until the next frame: input and the host's other sources wait for it.
const MOST: Microseconds = 4_000;

/// What it may take when a frame is due, or overdue: the network goes on in a GUI that is always late.
const LEAST: Microseconds = 200;

/// What lies between the end of a dispatch and the start of a frame, at best: the loop's own work.
const MARGIN: Microseconds = 200;

/// A window that has left out so many frames does not draw.
const LEFT_OUT: Microseconds = 3;

/// The frame clocks of all windows of the process.
#[derive(Default)]
pub(crate) struct Frames {
    /// Each belongs to its GDK clock and goes with it.
    clocks: RefCell<Vec<Weak<Clock>>>,
    following: Cell<bool>,
}

impl Frames {
    /// Follows the windows that there are and those to come; GTK is initialized.
    pub(crate) fn follow(self: &Rc<Self>) {
        if self.following.replace(true) {
            return;
        }
        let windows = Window::toplevels();
        self.follow_windows(&windows, 0..windows.n_items());
        let frames = Rc::downgrade(self);
        windows.connect_items_changed(move |windows, position, _, added| {
            if let Some(frames) = frames.upgrade() {
                frames.follow_windows(windows, position..position + added);
            }
        });
    }

    fn follow_windows(self: &Rc<Self>, windows: &gio::ListModel, positions: std::ops::Range<u32>) {
        for window in positions.filter_map(|position| windows.item(position)?.downcast::<Window>().ok()) {
            if window.is_realized() {
                self.follow_clock(&window);
            }
            // A window has another clock each time it is realized.
            let frames = Rc::downgrade(self);
            window.connect_realize(move |window| {
                if let Some(frames) = frames.upgrade() {
                    frames.follow_clock(window);
                }
            });
        }
    }

    fn follow_clock(&self, window: &Window) {
        let Some(surface) = window.surface() else { return };
        let clock = Rc::new(Clock::default());
        let mut clocks = self.clocks.borrow_mut();
        clocks.retain(|clock| clock.strong_count() > 0);
        clocks.push(Rc::downgrade(&clock));
        surface.frame_clock().connect_before_paint(move |source| clock.frame_begins(source));
    }

    /// What a dispatch that begins now may take.
    pub(crate) fn budget(&self) -> Duration {
        let now = glib::monotonic_time();
        let clocks = self.clocks.borrow();
        let due = clocks.iter().filter_map(|clock| clock.upgrade()?.due(now)).min();
        let budget = due.map_or(CALM, |due| (due - now - MARGIN).clamp(LEAST, MOST));
        Duration::from_micros(budget.unsigned_abs())
    }
}

/// What is known of one frame clock.
#[derive(Default)]
struct Clock {
    /// When the last frame began; zero before the first.
    began: Cell<Microseconds>,
    interval: Cell<Microseconds>,
    /// By how much frames come before they were expected, at worst of late.
    early: Cell<Microseconds>,
}

impl Clock {
    fn frame_begins(&self, source: &FrameClock) {
        let (interval, _) = source.refresh_info(source.frame_time());
        self.learn(glib::monotonic_time(), interval);
    }

    fn learn(&self, now: Microseconds, interval: Microseconds) {
        let early = match self.expected(now) {
            Some(expected) => (expected - now).max(self.early.get() * 15 / 16),
            None => self.early.get(),
        };
        self.early.set(early.clamp(0, interval / 2));
        self.interval.set(interval);
        self.began.set(now);
    }

    /// When the frame after the last one should begin, while frames come one after another.
    fn expected(&self, now: Microseconds) -> Option<Microseconds> {
        let interval = self.interval.get();
        (interval > 0 && now - self.began.get() < LEFT_OUT * interval).then(|| self.began.get() + interval)
    }

    fn due(&self, now: Microseconds) -> Option<Microseconds> {
        self.expected(now).map(|expected| expected - self.early.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Microseconds = 16_667;

    #[test]
    fn a_clock_without_frames_expects_none() {
        assert_eq!(Clock::default().due(1_000_000), None);
    }

    #[test]
    fn the_next_frame_is_due_an_interval_after_the_last() {
        let clock = Clock::default();
        clock.learn(1_000_000, INTERVAL);
        assert_eq!(clock.due(1_005_000), Some(1_000_000 + INTERVAL));
        assert_eq!(clock.due(1_040_000), Some(1_000_000 + INTERVAL), "an overdue one is still awaited");
        assert_eq!(clock.due(1_060_000), None, "nobody draws any more");
    }

    #[test]
    fn frames_that_come_early_are_expected_early_until_they_no_longer_do() {
        let clock = Clock::default();
        let mut now = 1_000_000;
        clock.learn(now, INTERVAL);
        now += INTERVAL - 500;
        clock.learn(now, INTERVAL);
        assert_eq!(clock.due(now), Some(now + INTERVAL - 500));
        for _ in 0..100 {
            now += INTERVAL + 100;
            clock.learn(now, INTERVAL);
        }
        assert_eq!(clock.due(now), Some(now + INTERVAL));
    }
}
