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

/// Behaviour 61.
#[test]
fn a_host_that_drops_closures_at_first_delays_the_network_and_a_panic_in_post_does_too() {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    for panics in [false, true] {
        let (sender, jobs) = mpsc::channel::<HostCall>();
        let refusals = Arc::new(AtomicU32::new(3));
        let left = refusals.clone();
        let network = Interleave::new(move |job| {
            let refuse = left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
            assert!(!(refuse && panics), "the loop does not run yet");
            if !refuse {
                drop(sender.send(job));
            }
        })
        .expect("file descriptors");
        let handle = network.handle();
        network.start().expect("a run");
        handle.call_later(Duration::from_millis(1), {
            let handle = handle.clone();
            move || handle.stop()
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        while handle.is_running() {
            let wait = deadline.saturating_duration_since(Instant::now());
            jobs.recv_timeout(wait).expect("it asks again")();
        }
        assert_eq!(refusals.load(Ordering::Relaxed), 0);
    }
}

/// Behaviour 61, in the middle of a run: the helper thread waits for events meanwhile.
#[test]
fn a_host_that_drops_the_closure_of_one_of_its_own_callbacks_is_asked_again() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    let (sender, jobs) = mpsc::channel::<HostCall>();
    let refuse = Arc::new(AtomicBool::new(false));
    let refuses = refuse.clone();
    let network = Interleave::new(move |job| {
        if !refuses.swap(false, Ordering::Relaxed) {
            drop(sender.send(job));
        }
    })
    .expect("file descriptors");
    let handle = network.handle();
    network.start().expect("a run");
    while let Ok(job) = jobs.recv_timeout(Duration::from_millis(50)) {
        job();
    }
    // Nothing is to do, and the thread waits. Then the host's callback asks for something.
    refuse.store(true, Ordering::Relaxed);
    handle.call_soon({
        let handle = handle.clone();
        move || handle.stop()
    });
    assert!(!refuse.load(Ordering::Relaxed));
    while handle.is_running() {
        jobs.recv_timeout(Duration::from_secs(20))
            .expect("it asks again")();
    }
}
