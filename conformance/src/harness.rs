//! What the suite needs to know about a backend.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{LifeError, WaitError},
};

/// The future that [`Harness::nest`] waits for.
pub type End = Pin<Box<dyn Future<Output = ()>>>;

/// A backend under test: one reactor on one host loop, both on the thread that created it. Clones
/// refer to the same reactor and the same loop.
///
/// The methods from [`host_call`](Harness::host_call) on act as the *host*: the host's loop calls
/// what they run, like the callback of a button or a frame, and the reactor does not. The suite
/// uses them before it runs the loop, and inside the host's callbacks. A method may panic if the
/// operating system refuses something; then the test fails.
pub trait Harness: Clone + 'static {
    /// The name of the backend, for tables.
    const NAME: &'static str;

    /// How long one dispatch of the reactor may work before it returns to the host. A callback that
    /// is running then may still finish.
    const BUDGET: Duration = Duration::from_millis(2);

    /// Makes a reactor that does not run yet, on a host loop that does not run yet.
    fn new() -> Self;

    /// Makes another reactor on the same host loop. The suite detaches the first one before it
    /// attaches the second.
    fn another(&self) -> Self;

    /// Returns the reactor's handle.
    fn handle(&self) -> Handle;

    /// Starts a run of the reactor on the host loop, whether the loop is running or not.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`] if the reactor runs already.
    fn attach(&self) -> Result<(), LifeError>;

    /// Detaches the reactor from its host for good, as dropping its
    /// [`Driver`](entwined::reactor::Driver) does. The host continues.
    fn detach(&self);

    /// Makes one iteration of the host's loop, including all work that the host and the reactor
    /// have in it. If there is nothing to do, waits for at most `wait`, or without a limit if it is
    /// `None`.
    fn iterate(&self, wait: Option<Duration>);

    /// Attaches the reactor and runs the host's loop until the reactor's run has ended.
    ///
    /// # Errors
    /// As for [`attach`](Harness::attach).
    fn run(&self) -> Result<(), LifeError> {
        self.attach()?;
        while self.handle().is_running() {
            self.iterate(None);
        }
        Ok(())
    }

    /// Makes the host call `callback` after `delay`. If the delay is zero, the host calls it as
    /// soon as it can.
    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>);

    /// Makes the host call `work` again and again, as fast as it can, until `work` returns false.
    /// The host is never idle.
    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        call_again(self, Duration::ZERO, Rc::new(RefCell::new(work)));
    }

    /// Makes the host call `draw` at its frame rate (60 times a second) until `draw` returns false.
    /// A host with a frame clock should use its frame clock.
    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        call_at_frames(self, Instant::now(), Rc::new(RefCell::new(draw)));
    }

    /// Runs the host's loop inside one of the reactor's callbacks until `end` is ready, as a modal
    /// dialog does.
    ///
    /// # Errors
    /// If the reactor's run ended first.
    fn nest(&self, end: End) -> Result<(), WaitError> {
        self.handle().wait(end)
    }

    /// Returns the names of the tests that this host cannot pass, each with a reason. They appear
    /// in the list with the reason, and are not run.
    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

type Repeated = Rc<RefCell<Box<dyn FnMut() -> bool>>>;

fn call_again<H: Harness>(harness: &H, delay: Duration, work: Repeated) {
    let again = harness.clone();
    let call = move || {
        // Bind the result first: the borrow must not last into the next call.
        let more = (work.borrow_mut())();
        if more {
            call_again(&again, delay, work);
        }
    };
    harness.host_call(delay, Box::new(call));
}

/// The length of a frame at 60 Hz.
pub(super) const FRAME: Duration = Duration::from_micros(16_667);

fn call_at_frames<H: Harness>(harness: &H, last: Instant, draw: Repeated) {
    let again = harness.clone();
    // A missed frame is skipped.
    let next = (last + FRAME).max(Instant::now());
    let call = move || {
        let more = (draw.borrow_mut())();
        if more {
            call_at_frames(&again, next, draw);
        }
    };
    harness.host_call(
        next.saturating_duration_since(Instant::now()),
        Box::new(call),
    );
}
