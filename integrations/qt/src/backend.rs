//! The reactor's backend, and what it does when Qt calls.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::AsRawFd,
    rc::Rc,
    time::{Duration, Instant},
};

use entwined::reactor::{Driver, Host, NextTurn, Selector};

use crate::{
    frames::Frames,
    sys::{self, Carrier},
};

/// How late a timer may be before it is served by a timer of Qt. Longer than any timer is late
/// while the loop watches file descriptors.
const FLOOR: Duration = Duration::from_millis(25);

/// State shared by the reactor's side and the loop's side.
pub(crate) struct Bridge {
    pub(crate) selector: Rc<Selector>,
    /// Only during a run, so a reactor that does not run leaves nothing in the loop.
    carrier: RefCell<Option<Carrier>>,
    /// Whether the event that asks for a slice is in Qt's queue.
    posted: Cell<bool>,
    /// The loop was told that there is nothing to do, so it may be asleep.
    asleep: Cell<bool>,
    /// How many slices there were.
    slices: Cell<u64>,
    /// What `slices` was when somebody began to wait in [`Host::iterate`].
    waiting: Cell<Option<u64>>,
}

impl Bridge {
    pub(crate) fn new() -> io::Result<Rc<Self>> {
        Ok(Rc::new(Bridge {
            selector: Rc::new(Selector::new()?),
            carrier: RefCell::default(),
            posted: Cell::new(false),
            asleep: Cell::new(false),
            slices: Cell::new(0),
            waiting: Cell::new(None),
        }))
    }

    /// Makes the loop serve `driver` until the run ends.
    pub(crate) fn connect(self: &Rc<Self>, driver: &Rc<Driver>) {
        let server = Server {
            bridge: self.clone(),
            driver: driver.clone(),
            frames: Frames::new(driver.handle()),
            served: Cell::new(false),
            slices_before: Cell::new(0),
            floor: Cell::new(None),
        };
        let carrier = Carrier::new(self.selector.as_raw_fd(), Rc::new(server));
        *self.carrier.borrow_mut() = Some(carrier);
        // Work may have been requested before the run.
        self.posted.set(false);
        self.post();
    }

    /// Asks the loop for a slice. Wakes it if it sleeps.
    fn post(&self) {
        if let Some(carrier) = &*self.carrier.borrow()
            && !self.posted.replace(true)
        {
            self.asleep.set(false);
            carrier.post();
        }
    }

    /// Runs an iteration of the loop from inside one of its callbacks.
    pub(crate) fn iterate(&self, may_block: bool) {
        let before = self.waiting.replace(may_block.then(|| self.slices.get()));
        sys::iterate(may_block);
        self.waiting.set(before);
    }

    fn set_timer(&self, interval: Option<Duration>) {
        if let Some(carrier) = &*self.carrier.borrow() {
            carrier.set_timer(interval);
        }
    }
}

/// What the loop calls.
pub(crate) struct Server {
    bridge: Rc<Bridge>,
    driver: Rc<Driver>,
    frames: Frames,
    /// Whether this iteration of the loop has had its slice.
    served: Cell<bool>,
    /// How many slices there had been when this iteration began.
    slices_before: Cell<u64>,
    /// When the floor for timers is due.
    floor: Cell<Option<Instant>>,
}

impl Server {
    /// The posted event. Most of what is requested inside a slice was done by the same slice.
    pub(crate) fn turn(&self) {
        self.bridge.posted.set(false);
        self.slice_if_due();
    }

    /// The selector's fd was readable when the loop looked. A slice since then, for an event that
    /// was posted, has served it. If not, Qt reports it again: it is level-triggered.
    pub(crate) fn readable(&self) {
        if !self.served.get() {
            self.slice();
        }
    }

    /// The floor for timers: see [`set_floor`](Self::set_floor).
    pub(crate) fn timeout(&self) {
        self.floor.take();
        self.bridge.set_timer(None);
        self.slice_if_due();
    }

    /// An iteration begins. It may be the next one of a nested loop, in a callback of
    /// a slice that is on the stack, and what that slice has not done yet is done here.
    pub(crate) fn before_iteration(&self) {
        self.served.set(false);
        self.slices_before.set(self.bridge.slices.get());
        self.look();
    }

    /// Qt's `aboutToBlock`, on the dispatcher that delivers posted events before it and would then
    /// sleep, although one of them may be what somebody waits for: code of the host that calls
    /// `processEvents` until it has come, or [`Handle::wait`](entwined::Handle::wait).
    pub(crate) fn about_to_block(&self) {
        let slices = self.bridge.slices.get();
        let waiting = self.bridge.waiting.get().unwrap_or(slices);
        if slices != self.slices_before.get() || slices != waiting {
            sys::wake_up();
        }
        self.look();
    }

    /// The application has left its main loop. The run ends in order while the loop goes on.
    pub(crate) fn about_to_quit(&self) {
        self.driver.handle().stop();
        while self.driver.is_running() {
            self.bridge.iterate(true);
        }
    }

    /// The application was deleted.
    pub(crate) fn application_gone(&self) {
        self.driver.close();
    }

    pub(crate) fn frame_begins(&self, window: usize, hertz: f64) {
        self.frames.begin(window, hertz);
    }

    pub(crate) fn frame_ends(&self, window: usize) {
        self.frames.end(window);
    }

    pub(crate) fn window_gone(&self, window: usize) {
        self.frames.forget(window);
    }

    fn slice_if_due(&self) {
        if self.driver.next_turn() == NextTurn::Now {
            self.slice();
        } else {
            self.look();
        }
    }

    fn slice(&self) {
        self.served.set(true);
        self.bridge.asleep.set(false);
        self.bridge.slices.set(self.bridge.slices.get() + 1);
        if let Err(error) = self.driver.slice(self.driver.budget()) {
            // Otherwise it would fail again at once, forever.
            tracing::error!(
                %error,
                "the operating system refused to report events; the reactor closes"
            );
            self.driver.close();
        }
        self.look();
    }

    /// Tells the loop what comes next, before it may sleep.
    fn look(&self) {
        if !self.driver.is_running() {
            return;
        }
        match self.driver.next_turn() {
            NextTurn::Now => self.bridge.post(),
            NextTurn::At(deadline) => {
                self.bridge.asleep.set(true);
                self.set_floor(Some(deadline + FLOOR));
            }
            NextTurn::OnEvents => {
                self.bridge.asleep.set(true);
                self.set_floor(None);
            }
        }
    }

    /// Deadlines are in the selector. A loop that leaves out file descriptors (with
    /// `QEventLoop::ExcludeSocketNotifiers`) does not notice them, so a timer of Qt waits behind
    /// the first deadline. In any other loop it is moved before it fires.
    fn set_floor(&self, floor: Option<Instant>) {
        if self.floor.replace(floor) != floor {
            let interval = floor.map(|at| at.saturating_duration_since(Instant::now()));
            self.bridge.set_timer(interval);
        }
    }
}

/// What the reactor asks of the loop.
pub(crate) struct Loop(pub(crate) Rc<Bridge>);

impl Host for Loop {
    /// The loop asks before each iteration and after each slice. Only code that runs in between,
    /// in a callback of the host, needs to ask it.
    fn request_turn(&self) {
        if self.0.asleep.get() {
            self.0.post();
        }
    }

    fn iterate(&self, may_block: bool) -> bool {
        self.0.iterate(may_block);
        true
    }

    fn ended(&self) {
        let carrier = self.0.carrier.take();
        drop(carrier);
        // Somebody may wait in the loop for this.
        sys::wake_up();
    }
}
