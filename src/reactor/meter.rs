//! Counts, times and reports.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    time::{Duration, SystemTime},
};

use super::{
    Histogram, Kind, Moment, Observer, Origin, Report, Share, Stall, StallPlace, Stalls,
    processor::Processor, report::ObserverFn,
};

/// From this on a callback is a stall: half a frame at 60 Hz.
const STALL: Duration = Duration::from_millis(8);

/// How many stalls are remembered one by one.
const RECENT: usize = 32;

pub(crate) struct Meter {
    pub(crate) threshold: Cell<Duration>,
    /// Whether handlers are timed besides the callbacks in which they run, and timers and turns are
    /// recorded.
    pub(crate) on: Cell<bool>,
    /// Up to when the thread's time has been accounted for.
    stamp: Cell<Moment>,
    processor: Processor,
    shares: [Cell<Share>; Kind::COUNT],
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

    /// From here on time is spent in callbacks.
    pub(crate) fn begin(&self, now: Moment) {
        self.processor.freshen(now);
        self.stamp.set(now);
    }

    /// When the last callback ended.
    pub(crate) fn stamp(&self) -> Moment {
        self.stamp.get()
    }

    /// What has passed since the last time is of this kind, in which so many callbacks have ended.
    pub(crate) fn account(&self, kind: Kind, ended: u64, now: Moment) -> Duration {
        let duration = now.since(self.stamp.replace(now));
        let share = &self.shares[kind as usize];
        let Share { count, time } = share.get();
        share.set(Share {
            count: count + ended,
            time: time + duration,
        });
        duration
    }

    pub(crate) fn share(&self, kind: Kind) -> Share {
        self.shares[kind as usize].get()
    }

    /// All time in callbacks.
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

    /// A callback, or a handler within one, ran for so long; `waited` is what the thread had
    /// [waited](Meter::waited) before.
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
            // What the system gave to others meanwhile is not its fault.
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

    pub(crate) fn observe(&self, function: Rc<ObserverFn>) -> Observer {
        self.observers.borrow_mut().push(Rc::downgrade(&function));
        Observer::new(function)
    }

    pub(crate) fn report(&self, report: &Report<'_>) {
        match report {
            Report::Stall { .. } => tracing::warn!("{report}"),
            _ => tracing::error!("{report}"),
        }
        let observers: Vec<_> = {
            let mut observers = self.observers.borrow_mut();
            observers.retain(|observer| observer.strong_count() > 0);
            observers.iter().filter_map(Weak::upgrade).collect()
        };
        for observer in observers {
            observer(report);
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
