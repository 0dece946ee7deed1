//! The backend under test, without its type: so the suite is compiled once, and not again for each
//! backend.

use std::{cell::Cell, rc::Rc, time::Duration};

use entwined::{
    Handle,
    reactor::{LifeError, WaitError},
};

use super::{End, Harness};

/// What is known of a backend before there is a reactor.
#[derive(Clone, Copy)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) budget: Duration,
    pub(super) cannot_show: fn() -> &'static [(&'static str, &'static str)],
    new: fn() -> HostLoop,
}

thread_local! {
    static BACKEND: Cell<Option<Backend>> = const { Cell::new(None) };
}

/// The backend that this thread tests.
pub(super) fn backend() -> Backend {
    BACKEND.get().expect("the suite runs the test")
}

impl Backend {
    pub(super) fn of<H: Harness>() -> Self {
        Backend {
            name: H::NAME,
            budget: H::BUDGET,
            cannot_show: H::cannot_show,
            new: || HostLoop(Rc::new(H::new())),
        }
    }

    /// Tests of this thread are of this backend from now on.
    pub(super) fn enter(self) {
        BACKEND.set(Some(self));
    }
}

/// A [`Harness`].
#[derive(Clone)]
pub(super) struct HostLoop(Rc<dyn Erased>);

impl HostLoop {
    /// Makes a reactor of the backend that this thread tests.
    pub(super) fn new() -> Self {
        (backend().new)()
    }

    pub(super) fn another(&self) -> Self {
        self.0.another()
    }

    pub(super) fn handle(&self) -> Handle {
        self.0.handle()
    }

    pub(super) fn attach(&self) -> Result<(), LifeError> {
        self.0.attach()
    }

    pub(super) fn detach(&self) {
        self.0.detach();
    }

    pub(super) fn iterate(&self, wait: Option<Duration>) {
        self.0.iterate(wait);
    }

    pub(super) fn run(&self) -> Result<(), LifeError> {
        self.0.run()
    }

    pub(super) fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        self.0.host_call(delay, callback);
    }

    pub(super) fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        self.0.keep_busy(work);
    }

    pub(super) fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        self.0.draw_frames(draw);
    }

    pub(super) fn nest(&self, end: End) -> Result<(), WaitError> {
        self.0.nest(end)
    }
}

/// The methods of [`Harness`] that need no type.
trait Erased {
    fn another(&self) -> HostLoop;
    fn handle(&self) -> Handle;
    fn attach(&self) -> Result<(), LifeError>;
    fn detach(&self);
    fn iterate(&self, wait: Option<Duration>);
    fn run(&self) -> Result<(), LifeError>;
    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>);
    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>);
    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>);
    fn nest(&self, end: End) -> Result<(), WaitError>;
}

impl<H: Harness> Erased for H {
    fn another(&self) -> HostLoop {
        HostLoop(Rc::new(Harness::another(self)))
    }

    fn handle(&self) -> Handle {
        Harness::handle(self)
    }

    fn attach(&self) -> Result<(), LifeError> {
        Harness::attach(self)
    }

    fn detach(&self) {
        Harness::detach(self);
    }

    fn iterate(&self, wait: Option<Duration>) {
        Harness::iterate(self, wait);
    }

    fn run(&self) -> Result<(), LifeError> {
        Harness::run(self)
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        Harness::host_call(self, delay, callback);
    }

    fn keep_busy(&self, work: Box<dyn FnMut() -> bool>) {
        Harness::keep_busy(self, work);
    }

    fn draw_frames(&self, draw: Box<dyn FnMut() -> bool>) {
        Harness::draw_frames(self, draw);
    }

    fn nest(&self, end: End) -> Result<(), WaitError> {
        Harness::nest(self, end)
    }
}
