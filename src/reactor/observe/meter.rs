//! Counts work, measures its time, and sends reports.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    time::{Duration, SystemTime},
};

use super::{
    Histogram, Label, Moment, Origin, Report, Share, Stall, StallPlace, Stalls,
    processor::Processor, report::ObserverFn,
};
use crate::{log, panic::catch};

/// A callback that takes at least this long is a stall: half a frame at 60 Hz.
const STALL: Duration = Duration::from_millis(8);

/// Number of stalls that are kept one by one.
const RECENT: usize = 32;

pub(crate) struct Meter {
    pub(crate) threshold: Cell<Duration>,
    /// Whether to time handlers separately from the callbacks that they run in, and to record timer
    /// lateness and turn times.
    pub(crate) on: Cell<bool>,
    /// The time up to which the thread's time has been charged.
    stamp: Cell<Moment>,
    processor: Processor,
    shares: [Cell<Share>; Label::MAX],
    /// The running callback, or the part of it that is timed separately.
    current: Cell<Label>,
    /// Number of callbacks run, not counting parts that are timed separately.
    callbacks: Cell<u64>,
    longest: Cell<Option<(Duration, Origin)>>,
    stalls: RefCell<Stalls>,
    pub(crate) lateness: RefCell<Histogram>,
    pub(crate) turns: RefCell<Histogram>,
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
    pub(crate) connected: Cell<u64>,
    observers: RefCell<Vec<Weak<ObserverFn>>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let now = Moment::now();
        Meter {
            threshold: Cell::new(STALL),
            on: Cell::new(true),
            stamp: Cell::new(now),
            processor: Processor::new(now),
            shares: Default::default(),
            current: Cell::new(Label::OTHER),
            callbacks: Cell::new(0),
            longest: Cell::new(None),
            stalls: RefCell::default(),
            lateness: RefCell::default(),
            turns: RefCell::default(),
            received: Cell::new(0),
            sent: Cell::new(0),
            connected: Cell::new(0),
            observers: RefCell::default(),
        }
    }

    /// Starts the accounting: from now on, time is spent in callbacks.
    pub(crate) fn begin(&self, now: Moment) {
        self.processor.freshen(now);
        self.stamp.set(now);
    }

    /// The time when the last callback ended.
    pub(crate) fn stamp(&self) -> Moment {
        self.stamp.get()
    }

    /// Charges the time since the last charge to this label, and adds to its count.
    pub(crate) fn account(&self, label: Label, ended: u64, now: Moment) -> Duration {
        let duration = now.since(self.stamp.replace(now));
        let share = &self.shares[label.index()];
        let Share { count, time } = share.get();
        share.set(Share {
            count: count + ended,
            time: time + duration,
        });
        duration
    }

    pub(crate) fn shares(&self) -> Vec<Share> {
        self.shares.iter().map(Cell::get).collect()
    }

    pub(crate) fn callbacks(&self) -> u64 {
        self.callbacks.get()
    }

    /// Starts a callback. Returns the label of the callback that it runs inside.
    pub(crate) fn enter(&self, label: Label) -> Label {
        self.current.replace(label)
    }

    /// Ends a callback, and charges it with the time since the last charge.
    pub(crate) fn leave(&self, outer: Label, now: Moment) {
        self.account(self.current.replace(outer), 1, now);
        self.callbacks.set(self.callbacks.get() + 1);
    }

    /// Starts a part of a callback that is timed separately. The time until now is charged to the
    /// callback. Returns the label to restore.
    pub(crate) fn enter_part(&self, label: Label, now: Moment) -> Label {
        self.account(self.current.get(), 0, now);
        self.current.replace(label)
    }

    /// Ends such a part. Returns the time since the last charge.
    pub(crate) fn leave_part(&self, outer: Label, now: Moment) -> Duration {
        self.account(self.current.replace(outer), 1, now)
    }

    /// The total time in callbacks.
    pub(crate) fn busy(&self) -> Duration {
        self.shares.iter().map(|share| share.get().time).sum()
    }

    pub(crate) fn longest(&self) -> Option<(Duration, Origin)> {
        self.longest.get()
    }

    pub(crate) fn stalls(&self) -> Stalls {
        self.stalls.borrow().clone()
    }

    pub(crate) fn stall_count(&self) -> u64 {
        self.stalls.borrow().count
    }

    /// How long the thread has waited for a processor.
    pub(crate) fn waited(&self) -> Duration {
        self.processor.all()
    }

    /// Records how long a callback, or a handler inside one, ran. `waited` is the value of
    /// [`waited`](Meter::waited) before it ran.
    pub(crate) fn record(&self, origin: Origin, duration: Duration, waited: Duration) {
        let longest = self
            .longest
            .get()
            .map_or(Duration::ZERO, |(longest, _)| longest);
        if duration >= self.threshold.get().min(longest) {
            self.record_long(origin, duration, waited);
        }
    }

    #[cold]
    fn record_long(&self, origin: Origin, mut duration: Duration, waited: Duration) {
        let threshold = self.threshold.get();
        if duration >= threshold {
            // The callback is not to blame for time that the system gave to other threads.
            self.processor.read();
            duration = duration.saturating_sub(self.processor.all() - waited);
        }
        if self
            .longest
            .get()
            .is_none_or(|(longest, _)| duration > longest)
        {
            self.longest.set(Some((duration, origin)));
        }
        if duration >= threshold {
            self.stalls.borrow_mut().add(Stall {
                origin,
                duration,
                at: SystemTime::now(),
            });
            self.report(&Report::Stall { origin, duration });
        }
    }

    /// Calls `function` with each report until its owner drops it.
    pub(crate) fn observe(&self, function: &Rc<ObserverFn>) {
        let mut observers = self.observers.borrow_mut();
        // Those that are gone make room.
        if observers.len() == observers.capacity() {
            observers.retain(|observer| observer.strong_count() > 0);
        }
        observers.push(Rc::downgrade(function));
    }

    /// Whether there has been exactly one stall with this origin.
    fn is_first_stall(&self, origin: Origin) -> bool {
        let stalls = self.stalls.borrow();
        let mut places = stalls.places.iter();
        places.any(|place| place.origin == origin && place.count == 1)
    }

    pub(crate) fn report(&self, report: &Report<'_>) {
        match report {
            // Without a subscriber, one line per origin is enough.
            Report::Stall { origin, .. } if !self.is_first_stall(*origin) => {
                tracing::warn!("{report}")
            }
            Report::Stall { .. } => log::warning(format_args!("{report}")),
            _ => log::error(format_args!("{report}")),
        }
        let observers: Vec<_> = {
            let mut observers = self.observers.borrow_mut();
            observers.retain(|observer| observer.strong_count() > 0);
            observers.clone()
        };
        // One that was dropped by another is not called.
        for observer in observers.iter().filter_map(Weak::upgrade) {
            // One that drops itself goes here.
            if let Err(message) = catch(move || observer(report)) {
                log::error(format_args!("an observer panicked: {message}"));
            }
        }
    }
}

impl Stalls {
    fn add(&mut self, stall: Stall) {
        self.count += 1;
        match self
            .places
            .iter_mut()
            .find(|place| place.origin == stall.origin)
        {
            Some(place) => {
                place.count += 1;
                place.longest = place.longest.max(stall.duration);
            }
            None => self.places.push(StallPlace {
                origin: stall.origin,
                count: 1,
                longest: stall.duration,
            }),
        }
        let recent: &mut VecDeque<_> = &mut self.recent;
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(stall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were forgotten at the next report only, and there may be none.
    #[test]
    fn observers_that_are_gone_take_no_memory() {
        let meter = Meter::new();
        let stays: Rc<ObserverFn> = Rc::new(|_: &Report<'_>| {});
        meter.observe(&stays);
        for _ in 0..10_000 {
            let goes: Rc<ObserverFn> = Rc::new(|_: &Report<'_>| {});
            meter.observe(&goes);
        }
        let observers = meter.observers.borrow();
        assert!(observers.len() < 100, "{}", observers.len());
        assert!(
            observers
                .iter()
                .any(|observer| observer.upgrade().is_some())
        );
    }
}
