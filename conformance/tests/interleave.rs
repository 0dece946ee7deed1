//! The conformance suite on a loop that can only run closures sent to it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{HostCall, Interleave, LifeError},
};
use entwined_conformance::Harness;

/// The host: a queue that any thread can fill, and timers of its own.
struct Queue {
    sender: Sender<HostCall>,
    jobs: Receiver<HostCall>,
    timers: RefCell<Timers>,
}

/// Sorted by time; timers with the same time keep their order.
type Timers = VecDeque<(Instant, Box<dyn FnOnce()>)>;

#[derive(Clone)]
struct Host {
    queue: Rc<Queue>,
    reactor: Rc<RefCell<Option<Interleave>>>,
    handle: Handle,
}

impl Host {
    fn on(queue: Rc<Queue>) -> Self {
        let sender = queue.sender.clone();
        let reactor = Interleave::new(move |job| drop(sender.send(job))).expect("file descriptors");
        Host {
            queue,
            handle: reactor.handle(),
            reactor: Rc::new(RefCell::new(Some(reactor))),
        }
    }
}

impl Queue {
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

impl Harness for Host {
    const NAME: &'static str = "interleave";

    fn new() -> Self {
        let (sender, jobs) = mpsc::channel();
        Host::on(Rc::new(Queue {
            sender,
            jobs,
            timers: RefCell::default(),
        }))
    }

    fn another(&self) -> Self {
        Host::on(self.queue.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        self.reactor
            .borrow()
            .as_ref()
            .map_or(Err(LifeError::Closed), Interleave::start)
    }

    fn detach(&self) {
        let reactor = self.reactor.borrow_mut().take();
        drop(reactor);
    }

    fn iterate(&self, wait: Option<Duration>) {
        let queue = &self.queue;
        let timer = queue
            .timers
            .borrow()
            .front()
            .map(|timer| timer.0.saturating_duration_since(Instant::now()));
        let job = match [wait, timer].into_iter().flatten().min() {
            None => queue
                .jobs
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => queue.jobs.recv_timeout(wait),
        };
        match job {
            Ok(job) => job(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
        }
        queue.run_timers();
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let at = Instant::now() + delay;
        let mut timers = self.queue.timers.borrow_mut();
        let place = timers.partition_point(|timer| timer.0 <= at);
        timers.insert(place, (at, callback));
    }

    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        &[(
            "b49_the_host_goes_on_inside_the_nested_loop",
            "the reactor cannot run the loop of a host that it knows nothing about; \
             its own work continues",
        )]
    }
}

/// A modal dialog's nested loop, in a callback of the reactor.
#[test]
fn a_loop_that_the_host_runs_inside_a_callback_is_served() {
    let host = Host::new();
    let (inner, handle) = (host.clone(), host.handle());
    host.handle().call_soon(move || {
        let (ended, mut turns) = (Rc::new(Cell::new(false)), 0);
        let (end, later) = (ended.clone(), handle.clone());
        handle.call_later(Duration::from_millis(5), move || {
            // One after the other, so that more than one slice is needed.
            later.call_later(Duration::from_millis(1), move || end.set(true));
        });
        while !ended.get() {
            inner.iterate(Some(Duration::from_secs(1)));
            turns += 1;
            assert!(turns < 30, "it is not served, or it spins");
        }
        handle.stop();
    });
    host.run().expect("a run");
}

entwined_conformance::conformance!(Host);
