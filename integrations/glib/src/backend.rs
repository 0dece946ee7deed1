//! The reactor's backend, and the two sources by which the loop serves it.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use entwined::reactor::{Driver, Event, Interest, Key, Next, Notify, Reactor, Selector};
use glib::{MainContext, Priority};

use crate::{
    Options,
    sys::{self, Source, Watch},
};

/// What the reactor's side and the loop's side share.
pub(crate) struct Bridge {
    pub(crate) context: MainContext,
    selector: Selector,
    /// There during a run; so a reactor that does not run cannot keep the loop awake.
    sources: RefCell<Vec<Source>>,
    /// The loop was told that there is nothing to do, and may be asleep for all we know.
    asleep: Cell<bool>,
    /// When there was certainly nobody waiting: the end of the last slice, or the last look that
    /// found no work.
    served: Cell<Instant>,
    /// Why the selector failed.
    pub(crate) failure: Cell<Option<io::Error>>,
}

impl Bridge {
    pub(crate) fn new(context: &MainContext) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Bridge {
            context: context.clone(),
            selector: Selector::new()?,
            sources: RefCell::default(),
            asleep: Cell::new(false),
            served: Cell::new(Instant::now()),
            failure: Cell::new(None),
        }))
    }

    /// Has the loop serve `driver` until the run ends.
    pub(crate) fn connect(self: &Rc<Self>, driver: &Rc<Driver>, options: &Options) {
        self.served.set(Instant::now());
        let turns = Turns {
            bridge: self.clone(),
            driver: driver.clone(),
            priority: options.priority,
            after: options.floor_after,
            aside: Cell::new(false),
            stepped_aside: Cell::new(Instant::now()),
        };
        let floor = Floor {
            bridge: self.clone(),
            driver: driver.clone(),
            after: options.floor_after,
            budget: options.floor_budget,
        };
        *self.sources.borrow_mut() = vec![
            Source::attach(&self.context, options.priority, "entwined", Rc::new(turns)),
            Source::attach(
                &self.context,
                Priority::HIGH,
                "entwined (floor)",
                Rc::new(floor),
            ),
        ];
    }

    fn serve(&self, driver: &Driver, budget: Duration) {
        self.asleep.set(false);
        if let Err(error) = driver.slice(budget) {
            // It would fail again at once, for ever.
            tracing::error!(%error, "the operating system refused to tell what is ready; the reactor ends");
            self.failure.set(Some(error));
            driver.close();
        }
        self.served.set(Instant::now());
    }
}

/// The main source: the selector's fd, at the chosen priority.
struct Turns {
    bridge: Rc<Bridge>,
    driver: Rc<Driver>,
    priority: Priority,
    after: Duration,
    /// Whether the source is at a lower priority, for one dispatch.
    aside: Cell<bool>,
    /// When it was the last time.
    stepped_aside: Cell<Instant>,
}

impl Turns {
    /// The floor of the others: a network that is always busy would never let a source of lower
    /// priority run, so once in a while it is dispatched together with those at GLib's idle
    /// priority, after those above.
    fn step_aside(&self) {
        let aside = self.stepped_aside.get().elapsed() >= self.after;
        if aside {
            self.stepped_aside.set(Instant::now());
        }
        if aside != self.aside.replace(aside)
            && let Some(source) = self.bridge.sources.borrow().first()
        {
            source.set_priority(if aside {
                self.priority.max(Priority::DEFAULT_IDLE)
            } else {
                self.priority
            });
        }
    }
}

impl Watch for Turns {
    fn fd(&self) -> Option<RawFd> {
        Some(self.bridge.selector.as_raw_fd())
    }

    /// Where GLib does not ask, because a source of higher priority is ready, it does not sleep
    /// either, and asks in a later iteration. A deadline needs nothing here: the selector's fd
    /// becomes readable then.
    fn prepare(&self) -> bool {
        let now = self.driver.next() == Next::Now;
        self.bridge.asleep.set(!now);
        now
    }

    fn woke(&self) {
        self.bridge.asleep.set(false);
    }

    fn dispatch(&self) {
        self.bridge.serve(&self.driver, self.driver.budget());
        self.step_aside();
    }
}

/// The floor under a host that is always busy: at a high priority, with nothing that could wake the
/// loop. In each iteration that takes place anyhow it looks whether the main source was left
/// waiting for too long.
struct Floor {
    bridge: Rc<Bridge>,
    driver: Rc<Driver>,
    after: Duration,
    budget: Duration,
}

impl Watch for Floor {
    fn prepare(&self) -> bool {
        if self.bridge.served.get().elapsed() < self.after {
            return false;
        }
        let waiting =
            self.driver.next() == Next::Now || sys::is_readable(self.bridge.selector.as_raw_fd());
        if !waiting {
            self.bridge.served.set(Instant::now());
        }
        waiting
    }

    fn woke(&self) {
        self.bridge.asleep.set(false);
    }

    fn dispatch(&self) {
        self.bridge.serve(&self.driver, self.budget);
    }
}

/// The seam.
pub(crate) struct Backend(pub(crate) Rc<Bridge>);

impl Reactor for Backend {
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        self.0.selector.watch(fd, key, interest)
    }

    fn unwatch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        self.0.selector.unwatch(fd, key)
    }

    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.0.selector.select(timeout, events)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        self.0.selector.set_deadline(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.0.selector.notifier()
    }

    /// The loop asks before each sleep. Only who runs between the question and the sleep (the
    /// `prepare` of another source) must say so.
    fn request_turn(&self) {
        if self.0.asleep.take() {
            self.0.context.wakeup();
        }
    }

    fn iterate(&self, may_block: bool) -> bool {
        // Not while another thread iterates it: that would wait for the other's loop to end.
        let Ok(_owned) = self.0.context.acquire() else {
            return false;
        };
        self.0.context.iteration(may_block);
        true
    }

    fn ended(&self) {
        let sources = self.0.sources.take();
        drop(sources);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source of the host's that runs code between our question and the loop's sleep.
    struct Late<F: Fn()>(F);

    impl<F: Fn()> Watch for Late<F> {
        fn prepare(&self) -> bool {
            self.0();
            false
        }
        fn dispatch(&self) {}
    }

    #[test]
    fn a_call_from_the_prepare_of_a_later_source_does_not_wait_for_the_loop_to_wake_by_itself() {
        let context = MainContext::new();
        let attachment = Options::new().attach(&context).expect("a reactor");
        let handle = attachment.handle();
        let ran = Rc::new(Cell::new(0));
        let armed = Rc::new(Cell::new(false));
        let function = {
            let (handle, ran, armed) = (handle.clone(), ran.clone(), armed.clone());
            move || {
                if armed.take() {
                    let ran = ran.clone();
                    handle.call_soon(move || ran.set(ran.get() + 1));
                }
            }
        };
        let _late = Source::attach(&context, Priority::LOW, "late", Rc::new(Late(function)));
        let _end = handle.call_later(Duration::from_secs(10), || ());
        // GLib gives itself a notice when a source is added, which would end the sleep.
        while context.iteration(false) {}
        armed.set(true);
        let start = Instant::now();
        while ran.get() == 0 {
            context.iteration(true);
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "it slept for {:?}",
            start.elapsed()
        );
    }

    #[test]
    fn the_source_is_back_at_its_priority_after_stepping_aside() {
        let context = MainContext::new();
        let options = Options::new().floor(Duration::from_millis(8), Duration::from_millis(1));
        let attachment = options.attach(&context).expect("a reactor");
        let bridge = attachment.bridge.clone();
        let mut priorities = std::collections::BTreeSet::new();
        // A task that is always ready.
        let task = std::future::poll_fn::<(), _>(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        attachment.handle().spawn(task).detach();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            context.iteration(false);
            priorities.insert(bridge.sources.borrow()[0].priority());
        }
        assert_eq!(priorities, [121, 200].into());
    }
}
