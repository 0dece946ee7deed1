//! The reactor's backend, and the two sources through which the loop serves it.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::reactor::{Driver, Host, NextTurn, Selector};
use glib::{MainContext, Priority};

use crate::{
    Config,
    sys::{self, Source, Watch},
};

/// State shared by the reactor's side and the loop's side.
pub(crate) struct Bridge {
    pub(crate) context: MainContext,
    pub(crate) selector: Rc<Selector>,
    /// Filled only during a run, so a reactor that does not run cannot keep the loop awake.
    sources: RefCell<Vec<Source>>,
    /// The loop was told that there is nothing to do, so it may be asleep.
    asleep: Cell<bool>,
    /// The last time when nothing was waiting for certain: the end of the last slice, or the last
    /// check that found no work.
    served: Cell<Instant>,
    /// How many runs have begun.
    runs: Cell<u64>,
    /// Why the selector failed.
    pub(crate) failure: Cell<Option<io::Error>>,
}

impl Bridge {
    pub(crate) fn new(context: &MainContext) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Bridge {
            context: context.clone(),
            selector: Rc::new(Selector::new()?),
            sources: RefCell::default(),
            asleep: Cell::new(false),
            served: Cell::new(Instant::now()),
            runs: Cell::new(0),
            failure: Cell::new(None),
        }))
    }

    /// Makes the loop serve `driver` until the run ends.
    pub(crate) fn connect(self: &Rc<Self>, driver: &Rc<Driver>, config: &Config) {
        self.served.set(Instant::now());
        self.runs.set(self.runs.get() + 1);
        let turns = Turns {
            run: self.runs.get(),
            bridge: self.clone(),
            driver: driver.clone(),
            priority: config.priority,
            after: config.floor_after,
            aside: Cell::new(false),
            stepped_aside: Cell::new(Instant::now()),
            ended: Cell::new(Instant::now()),
        };
        let floor = Floor {
            bridge: self.clone(),
            driver: driver.clone(),
            after: config.floor_after,
            budget: config.floor_budget,
        };
        *self.sources.borrow_mut() = vec![
            Source::attach(&self.context, config.priority, "entwined", Rc::new(turns)),
            Source::attach(
                &self.context,
                Priority::HIGH,
                "entwined (floor)",
                Rc::new(floor),
            ),
        ];
    }

    /// Returns whether the network waits for a slice.
    fn has_work(&self, driver: &Driver) -> bool {
        driver.next_turn() == NextTurn::Now || sys::is_readable(self.selector.as_raw_fd())
    }

    fn serve(&self, driver: &Driver, budget: Duration) {
        self.asleep.set(false);
        if let Err(error) = driver.slice(budget) {
            // Otherwise it would fail again at once, forever.
            tracing::error!(
                %error,
                "the operating system refused to report events; the reactor closes"
            );
            self.failure.set(Some(error));
            driver.close();
        }
        self.served.set(Instant::now());
    }
}

/// The main source: the selector's fd, at the chosen priority.
struct Turns {
    /// The run that it is of. In a nested loop of its dispatch another one may have begun.
    run: u64,
    bridge: Rc<Bridge>,
    driver: Rc<Driver>,
    priority: Priority,
    after: Duration,
    /// Whether the source is at a lower priority for one dispatch.
    aside: Cell<bool>,
    /// When it last stepped aside.
    stepped_aside: Cell<Instant>,
    /// When the last dispatch ended.
    ended: Cell<Instant>,
}

/// A network that had nothing to do for this long left the thread to others.
const PAUSE: Duration = Duration::from_millis(1);

impl Turns {
    /// The floor for the other sources. A network that is always busy would never let a source of
    /// lower priority run. So once in a while it is dispatched at GLib's idle priority, together
    /// with the sources there and after those above it. `pause` was before this dispatch.
    fn step_aside(&self, pause: Duration) {
        if self.run != self.bridge.runs.get() {
            return;
        }
        let aside = self.stepped_aside.get().elapsed() >= self.after
            && (pause < PAUSE || self.bridge.has_work(&self.driver));
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

    /// If GLib does not ask, because a source of higher priority is ready, it does not sleep
    /// either, and asks in a later iteration. Deadlines need nothing here: they make the selector's
    /// fd readable.
    fn prepare(&self) -> bool {
        let now = self.driver.next_turn() == NextTurn::Now;
        self.bridge.asleep.set(!now);
        now
    }

    fn woke(&self) {
        self.bridge.asleep.set(false);
    }

    fn dispatch(&self) {
        let pause = self.ended.get().elapsed();
        self.bridge.serve(&self.driver, self.driver.budget());
        self.step_aside(pause);
        self.ended.set(Instant::now());
    }
}

/// The floor for the network when the host is always busy. It has a high priority and never wakes
/// the loop. In each iteration that happens anyway, it checks whether the main source has been
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
        let waiting = self.bridge.has_work(&self.driver);
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

/// The bridge, as the reactor's host.
pub(crate) struct Context(pub(crate) Rc<Bridge>);

impl Host for Context {
    /// The loop asks before each sleep. Only code that runs between that question and the sleep
    /// (another source's `prepare`) needs to wake it.
    fn request_turn(&self) {
        if self.0.asleep.take() {
            self.0.context.wakeup();
        }
    }

    fn iterate(&self, may_block: bool) -> bool {
        // Not while another thread iterates the context: that would wait for its loop to end.
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

    /// A host source that runs code between our `prepare` and the loop's sleep.
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
        let attachment = Config::new().attach(&context).expect("a reactor");
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
        // GLib wakes itself up when a source is added, which would end the sleep.
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
        let config = Config::new().floor(Duration::from_millis(8), Duration::from_millis(1));
        let attachment = config.attach(&context).expect("a reactor");
        let bridge = attachment.bridge.clone();
        let mut priorities = std::collections::BTreeSet::new();
        // A task that is always ready.
        let task = std::future::poll_fn::<(), _>(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        attachment.handle().spawn(task);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            context.iteration(false);
            priorities.insert(bridge.sources.borrow()[0].priority());
        }
        assert_eq!(priorities, [121, 200].into());
    }

    #[test]
    fn a_source_that_has_little_to_do_keeps_its_priority() {
        let context = MainContext::new();
        let after = Duration::from_millis(1);
        let config = Config::new().floor(after, Duration::from_millis(1));
        let attachment = config.attach(&context).expect("a reactor");
        for _ in 0..8 {
            let ran = Rc::new(Cell::new(false));
            attachment.handle().call_later(4 * after, {
                let ran = ran.clone();
                move || ran.set(true)
            });
            while !ran.get() {
                context.iteration(true);
            }
            let priority = attachment.bridge.sources.borrow()[0].priority();
            assert_eq!(priority, 121, "it waits for the next event at this one");
        }
    }

    #[test]
    fn a_run_that_begins_inside_the_last_one_has_its_own_priority() {
        let context = MainContext::new();
        let after = Duration::from_millis(1);
        let config = Config::new().floor(after, Duration::from_millis(1));
        let attachment = Rc::new(config.attach(&context).expect("a reactor"));
        let began = Rc::new(Cell::new(false));
        attachment.handle().call_soon({
            let (attachment, began, context) = (attachment.clone(), began.clone(), context.clone());
            move || {
                // A dialog, in which the program begins anew.
                attachment.stop();
                while attachment.is_running() {
                    context.iteration(true);
                }
                attachment.start().expect("it has ended");
                let start = Instant::now();
                while start.elapsed() < after {}
                began.set(true);
            }
        });
        while !began.get() {
            context.iteration(true);
        }
        assert_eq!(attachment.bridge.sources.borrow()[0].priority(), 121);
    }
}
