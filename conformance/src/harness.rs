//! What the suite has to know of a backend.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{LifeError, Stopped},
};

/// The future that [`Harness::nest`] waits for.
pub type End = Pin<Box<dyn Future<Output = ()>>>;

/// A backend under test: one reactor on one host loop, both on the thread that made it. Clones are
/// handles on the same two.
///
/// The methods from [`host_call`](Harness::host_call) on act as the *host*: what they run is called
/// by the host's loop, as the callback of a button or a frame is, and not by the reactor. The suite
/// uses them before it runs the loop, and from inside the host's callbacks. A method may panic when
/// the operating system refuses something; the test fails then.
pub trait Harness: Clone + 'static {
    /// The name of the backend, for tables.
    const NAME: &'static str;

    /// The work that one dispatch of the reactor may do before the host has its turn again; a
    /// callback that is running then still ends.
    const BUDGET: Duration = Duration::from_millis(2);

    /// A reactor that does not run yet, on a host loop that does not run yet.
    fn new() -> Self;

    /// Another reactor, on the same host loop. The suite detaches the first before it attaches the
    /// second.
    fn another(&self) -> Self;

    /// The reactor's handle.
    fn handle(&self) -> Handle;

    /// Begins a run of the reactor on the host loop, whether that runs or not.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`].
    fn attach(&self) -> Result<(), LifeError>;

    /// Takes the reactor off its host for good, as dropping its [`Driver`](entwined::reactor::Driver)
    /// does. The host goes on.
    fn detach(&self);

    /// Makes one iteration of the host's loop, with whatever the host and the reactor have to do in
    /// it. Waits for at most `wait` (for ever with `None`) when there is nothing to do.
    fn iterate(&self, wait: Option<Duration>);

    /// Attaches the reactor and runs the host's loop until the run of the reactor has ended.
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

    /// Has the host call `callback` after `delay`; without a delay as soon as it can.
    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>);

    /// Has the host call `work` over and over, as fast as it can, until that returns false: the
    /// host never rests.
    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        call_again(self, Duration::ZERO, Rc::new(RefCell::new(work)));
    }

    /// Has the host call `draw` at its frame rate (60 times a second) until that returns false. A
    /// host with a frame clock uses that.
    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        call_at_frames(self, Instant::now(), Rc::new(RefCell::new(draw)));
    }

    /// Runs the host's loop from inside one of the reactor's callbacks until `end` is ready, as a
    /// modal dialog does.
    ///
    /// # Errors
    /// When the run of the reactor ended before that.
    fn nest(&self, end: End) -> Result<(), Stopped> {
        self.handle().wait(end)
    }

    /// The tests that this host cannot show, by name, each with the reason. They appear in the list
    /// with it, and are not run.
    fn cannot_show() -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

type Repeated = Rc<RefCell<Box<dyn FnMut() -> bool>>>;

fn call_again<H: Harness>(harness: &H, delay: Duration, work: Repeated) {
    let again = harness.clone();
    let call = move || {
        // Bound first: the borrow must not last into the next call.
        let more = (work.borrow_mut())();
        if more {
            call_again(&again, delay, work);
        }
    };
    harness.host_call(delay, Box::new(call));
}

/// A frame at 60 Hz.
pub(super) const FRAME: Duration = Duration::from_micros(16_667);

fn call_at_frames<H: Harness>(harness: &H, last: Instant, draw: Repeated) {
    let again = harness.clone();
    // A frame that was missed is not made up for.
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
