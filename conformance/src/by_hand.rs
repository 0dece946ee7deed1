//! The harness for reactors that have their own loop. The host is a loop that makes their turns by
//! hand.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::{End, Harness};
use entwined::{
    Handle, Standalone,
    reactor::{LifeError, RunError, WaitError},
};

/// A reactor whose turns can be made by hand.
pub trait OwnLoop: Sized + 'static {
    /// The name of the backend, for tables.
    const NAME: &'static str;

    /// Makes a reactor that does not run yet.
    fn new() -> Self;

    /// Returns its handle.
    fn handle(&self) -> Handle;

    /// Waits for something to do, for at most `wait`, and makes one turn. The first turn starts the
    /// run.
    ///
    /// # Errors
    /// If the run cannot be started.
    fn turn(&self, wait: Option<Duration>) -> Result<(), LifeError>;

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// If it runs already.
    fn run(&self) -> Result<(), LifeError>;
}

impl OwnLoop for Standalone {
    const NAME: &'static str = "standalone";

    fn new() -> Self {
        Standalone::new().expect("a selector")
    }

    fn handle(&self) -> Handle {
        Standalone::handle(self)
    }

    fn turn(&self, wait: Option<Duration>) -> Result<(), LifeError> {
        Standalone::turn(self, wait).map_err(refusal)
    }

    fn run(&self) -> Result<(), LifeError> {
        Standalone::run(self).map_err(refusal)
    }
}

fn refusal(error: RunError) -> LifeError {
    match error {
        RunError::Life(error) => error,
        error => panic!("the selector failed: {error}"),
    }
}

/// The [`Harness`] of an [`OwnLoop`].
pub struct ByHand<L> {
    reactor: Rc<RefCell<Option<Rc<L>>>>,
    handle: Handle,
    host: Rc<Host<L>>,
}

/// A minimal host loop.
struct Host<L> {
    /// The reactor whose turns the loop makes.
    attached: RefCell<Option<Rc<L>>>,
    /// The host's callbacks, ordered by their due time and then by the order in which they were
    /// added.
    calls: RefCell<BTreeMap<(Instant, u64), HostCall>>,
    sequence: Cell<u64>,
}

type HostCall = Box<dyn FnOnce()>;

impl<L: OwnLoop> Host<L> {
    fn next_due(&self) -> Option<Instant> {
        self.calls.borrow().keys().next().map(|key| key.0)
    }

    /// Calls what is due now, but not what these calls add.
    fn call_due(&self) {
        let (now, mark) = (Instant::now(), self.sequence.get());
        loop {
            let mut calls = self.calls.borrow_mut();
            let due = calls
                .keys()
                .copied()
                .find(|&(at, sequence)| at <= now && sequence < mark);
            let Some(call) = due.and_then(|key| calls.remove(&key)) else {
                return;
            };
            drop(calls);
            call();
        }
    }
}

impl<L: OwnLoop> ByHand<L> {
    fn on(host: Rc<Host<L>>) -> Self {
        let reactor = Rc::new(L::new());
        ByHand {
            handle: reactor.handle(),
            reactor: Rc::new(RefCell::new(Some(reactor))),
            host,
        }
    }

    fn reactor(&self) -> Result<Rc<L>, LifeError> {
        self.reactor.borrow().clone().ok_or(LifeError::Closed)
    }
}

impl<L> Clone for ByHand<L> {
    fn clone(&self) -> Self {
        ByHand {
            reactor: self.reactor.clone(),
            handle: self.handle.clone(),
            host: self.host.clone(),
        }
    }
}

impl<L: OwnLoop> Harness for ByHand<L> {
    const NAME: &'static str = L::NAME;

    fn new() -> Self {
        Self::on(Rc::new(Host {
            attached: RefCell::default(),
            calls: RefCell::default(),
            sequence: Cell::default(),
        }))
    }

    fn another(&self) -> Self {
        Self::on(self.host.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        if self.handle.is_running() {
            return Err(LifeError::AlreadyRunning);
        }
        let reactor = self.reactor()?;
        // Set this before the first turn, which may spin this loop.
        *self.host.attached.borrow_mut() = Some(reactor.clone());
        reactor.turn(Some(Duration::ZERO))
    }

    fn detach(&self) {
        let attached = self.host.attached.take();
        let reactor = self.reactor.take();
        drop((attached, reactor));
    }

    fn iterate(&self, wait: Option<Duration>) {
        let until_host = self
            .host
            .next_due()
            .map(|due| due.saturating_duration_since(Instant::now()));
        let wait = [wait, until_host].into_iter().flatten().min();
        let attached = self.host.attached.borrow().clone();
        match attached.filter(|reactor| reactor.handle().is_running()) {
            Some(reactor) => reactor.turn(wait).expect("it runs"),
            None => {
                thread::sleep(wait.expect(
                    "a host without a reactor needs a finite wait, because nothing wakes it",
                ))
            }
        }
        self.host.call_due();
    }

    fn run(&self) -> Result<(), LifeError> {
        if self.host.next_due().is_none() && !self.handle.is_running() {
            let reactor = self.reactor()?;
            // For nested loops.
            *self.host.attached.borrow_mut() = Some(reactor.clone());
            return reactor.run();
        }
        self.attach()?;
        while self.handle.is_running() {
            self.iterate(None);
        }
        Ok(())
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        let sequence = self.host.sequence.get();
        self.host.sequence.set(sequence + 1);
        self.host
            .calls
            .borrow_mut()
            .insert((Instant::now() + delay, sequence), callback);
    }

    fn nest(&self, end: End) -> Result<(), WaitError> {
        let done = Rc::new(Cell::new(false));
        let told = done.clone();
        let task = async move {
            end.await;
            told.set(true);
        };
        self.handle.spawn(task);
        while !done.get() {
            if !self.handle.is_running() {
                return Err(WaitError::Stopped);
            }
            self.iterate(None);
        }
        Ok(())
    }
}
