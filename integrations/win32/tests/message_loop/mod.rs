//! A message loop as programs have it, with timers of its own.

mod sys;

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{Handle, reactor::LifeError};
use entwined_conformance::Harness;
use entwined_win32::Attachment;

/// Sorted by time; timers with the same time keep their order.
type Timers = VecDeque<(Instant, Box<dyn FnOnce()>)>;

#[derive(Clone)]
pub(crate) struct MessageLoop {
    timers: Rc<RefCell<Timers>>,
    network: Rc<RefCell<Option<Attachment>>>,
    handle: Handle,
}

impl MessageLoop {
    fn on(timers: Rc<RefCell<Timers>>) -> Self {
        let network = entwined_win32::attach_stopped().expect("a window");
        MessageLoop {
            timers,
            handle: network.handle(),
            network: Rc::new(RefCell::new(Some(network))),
        }
    }

    /// Runs the host's own due timers. Timers that they add run in the next iteration.
    fn run_timers(&self) {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut timers = self.timers.borrow_mut();
        while timers.front().is_some_and(|timer| timer.0 <= now) {
            due.extend(timers.pop_front());
        }
        drop(timers);
        for (_, callback) in due {
            callback();
        }
    }
}

impl Harness for MessageLoop {
    const NAME: &'static str = "win32";

    fn new() -> Self {
        MessageLoop::on(Rc::default())
    }

    fn another(&self) -> Self {
        MessageLoop::on(self.timers.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        let network = self.network.borrow();
        network
            .as_ref()
            .map_or(Err(LifeError::Closed), |network| network.start())
    }

    fn detach(&self) {
        let network = self.network.borrow_mut().take();
        drop(network);
    }

    fn iterate(&self, wait: Option<Duration>) {
        let timer = self.timers.borrow().front().map(|timer| timer.0);
        let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
        sys::dispatch_one([wait, timer].into_iter().flatten().min());
        self.run_timers();
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let at = Instant::now() + delay;
        let mut timers = self.timers.borrow_mut();
        let place = timers.partition_point(|timer| timer.0 <= at);
        timers.insert(place, (at, callback));
    }

    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        &[
            (
                "b11_late_by_less_than_a_millisecond_on_an_idle_loop",
                "a thread waits for the timer, in whole milliseconds, and then wakes the loop",
            ),
            (
                "b49_the_host_goes_on_inside_the_nested_loop",
                "the reactor does not run the message loop; its own work continues",
            ),
        ]
    }
}
