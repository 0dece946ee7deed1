//! A loop as GUI toolkits have it, and a backend on it: posted events, timers, a watched fd, a
//! signal before each sleep, and dialogs that run the loop inside a callback.
//!
//! The backend can make [mistakes](Mistake), so that the suite can be tested.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{Driver, Host, LifeError, NextTurn, Selector, WaitError},
};
use entwined_conformance::{End, Harness, nest_in_dialog};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

type Callback = Rc<dyn Fn()>;
type HostCall = Box<dyn FnOnce()>;

/// The toolkit. It knows nothing of reactors.
#[derive(Default)]
pub struct Toolkit {
    posted: RefCell<VecDeque<Callback>>,
    timers: RefCell<BTreeMap<(Instant, u64), HostCall>>,
    number: Cell<u64>,
    watched: RefCell<Option<(Rc<Selector>, Callback)>>,
    about_to_sleep: RefCell<Option<Callback>>,
}

impl Toolkit {
    fn post(&self, callback: Callback) {
        self.posted.borrow_mut().push_back(callback);
    }

    fn call_in(&self, delay: Duration, callback: HostCall) {
        let number = self.number.get();
        self.number.set(number + 1);
        let at = Instant::now() + delay;
        self.timers.borrow_mut().insert((at, number), callback);
    }

    /// One iteration. Like Qt's, it sends the posted events first and then may sleep all the same,
    /// and what it saw in its sleep may be out of date when it calls back.
    fn iterate(&self, wait: Option<Duration>) {
        self.send_posted();
        let about_to_sleep = self.about_to_sleep.borrow().clone();
        if let Some(callback) = about_to_sleep {
            callback();
        }
        let ready = self.sleep(wait);
        self.send_posted();
        // Only those that are due now. One of them may iterate this loop, and take others.
        let now = Instant::now();
        let due: Vec<_> = self.timers.borrow().keys().copied().collect();
        for key in due.into_iter().filter(|key| key.0 <= now) {
            let timer = self.timers.borrow_mut().remove(&key);
            if let Some(callback) = timer {
                callback();
            }
        }
        let callback = self
            .watched
            .borrow()
            .as_ref()
            .map(|watched| watched.1.clone());
        if let Some(callback) = callback.filter(|_| ready) {
            callback();
        }
    }

    fn send_posted(&self) {
        let posted = self.posted.take();
        posted.into_iter().for_each(|callback| callback());
    }

    /// Returns whether the watched fd is readable.
    fn sleep(&self, wait: Option<Duration>) -> bool {
        let timer = self.timers.borrow().keys().next().map(|key| key.0);
        let timer = timer.map(|at| at.saturating_duration_since(Instant::now()));
        let posted = (!self.posted.borrow().is_empty()).then_some(Duration::ZERO);
        let wait = [wait, timer, posted].into_iter().flatten().min();
        let wait = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        });
        let watched = self
            .watched
            .borrow()
            .as_ref()
            .map(|watched| watched.0.clone());
        let mut fds: Vec<_> = watched
            .iter()
            .map(|selector| PollFd::new(selector, PollFlags::IN))
            .collect();
        // An error means that a signal arrived.
        let _ = poll(&mut fds, wait.as_ref());
        fds.iter().any(|fd| !fd.revents().is_empty())
    }
}

/// What a backend may do wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// It asks for leftovers only when a slice has ended.
    NoLookBeforeSleep,
    /// The end of a run wakes nobody.
    SilentEnd,
    /// It watches the selector when the run is over.
    WatchesOn,
    /// The event that was posted makes its slice although all is done.
    BlindEvents,
    /// An iteration may have two slices.
    TwoSlices,
}

thread_local! {
    static MISTAKE: Cell<Option<Mistake>> = const { Cell::new(None) };
}

impl Mistake {
    /// The backends of this thread make this mistake from now on.
    pub fn make(self) {
        MISTAKE.set(Some(self));
    }

    fn is_made(self) -> bool {
        MISTAKE.get() == Some(self)
    }
}

/// The backend.
struct Carrier {
    toolkit: Rc<Toolkit>,
    selector: Rc<Selector>,
    driver: RefCell<Option<Rc<Driver>>>,
    /// Whether an event is on its way.
    posted: Cell<bool>,
    /// Whether this iteration has had its slice.
    served: Cell<bool>,
}

impl Carrier {
    fn new(toolkit: Rc<Toolkit>) -> Rc<Self> {
        let carrier = Rc::new(Carrier {
            toolkit,
            selector: Rc::new(Selector::new().expect("file descriptors")),
            driver: RefCell::default(),
            posted: Cell::new(false),
            served: Cell::new(false),
        });
        let driver = Driver::new(carrier.selector.clone(), Loop(Rc::downgrade(&carrier)));
        carrier.driver.replace(Some(Rc::new(driver)));
        carrier
    }

    fn driver(&self) -> Option<Rc<Driver>> {
        self.driver.borrow().clone()
    }

    fn start(self: &Rc<Self>) -> Result<(), LifeError> {
        self.driver()
            .map_or(Err(LifeError::Closed), |driver| driver.start())?;
        let carrier = self.clone();
        let readable = move || {
            // Level-triggered: if this iteration has had its slice, it comes again.
            if Mistake::TwoSlices.is_made() || !carrier.served.get() {
                carrier.slice();
            }
        };
        self.toolkit
            .watched
            .replace(Some((self.selector.clone(), Rc::new(readable))));
        let carrier = self.clone();
        let about_to_sleep = move || {
            carrier.served.set(false);
            if !Mistake::NoLookBeforeSleep.is_made() && carrier.is_due() {
                carrier.post();
            }
        };
        self.toolkit
            .about_to_sleep
            .replace(Some(Rc::new(about_to_sleep)));
        self.post();
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.driver()
            .is_some_and(|driver| driver.next_turn() == NextTurn::Now)
    }

    fn slice(self: &Rc<Self>) {
        let Some(driver) = self.driver() else { return };
        self.served.set(true);
        driver.slice(driver.budget()).expect("the selector works");
        // If the run has ended in a dialog, the dialog's loop has taken the event that wakes
        // whoever waits for the end. They may wait further out.
        let over = !driver.is_running() && !Mistake::SilentEnd.is_made();
        if self.is_due() || over {
            self.post();
        }
    }

    fn post(self: &Rc<Self>) {
        if self.posted.replace(true) {
            return;
        }
        let carrier = self.clone();
        self.toolkit.post(Rc::new(move || {
            carrier.posted.set(false);
            if carrier.is_due() || Mistake::BlindEvents.is_made() {
                carrier.slice();
            }
        }));
    }

    fn leave_the_loop(self: &Rc<Self>) {
        if !Mistake::WatchesOn.is_made() {
            self.toolkit.watched.take();
            self.toolkit.about_to_sleep.take();
        }
        if !Mistake::SilentEnd.is_made() {
            self.post();
        }
    }
}

/// The carrier, as the reactor's host. The carrier owns the driver, so this must not own the
/// carrier.
struct Loop(Weak<Carrier>);

impl Host for Loop {
    fn request_turn(&self) {
        if let Some(carrier) = self.0.upgrade() {
            carrier.post();
        }
    }

    fn iterate(&self, may_block: bool) -> bool {
        let Some(carrier) = self.0.upgrade() else {
            return false;
        };
        carrier
            .toolkit
            .iterate((!may_block).then_some(Duration::ZERO));
        true
    }

    fn ended(&self) {
        if let Some(carrier) = self.0.upgrade() {
            carrier.leave_the_loop();
        }
    }
}

/// The harness.
#[derive(Clone)]
pub struct OnToolkit {
    carrier: Rc<Carrier>,
    handle: Handle,
}

impl OnToolkit {
    fn on(toolkit: Rc<Toolkit>) -> Self {
        let carrier = Carrier::new(toolkit);
        let handle = carrier.driver().expect("a new one").handle();
        OnToolkit { carrier, handle }
    }
}

impl Harness for OnToolkit {
    const NAME: &'static str = "toolkit";

    fn new() -> Self {
        Self::on(Rc::default())
    }

    fn another(&self) -> Self {
        Self::on(self.carrier.toolkit.clone())
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn attach(&self) -> Result<(), LifeError> {
        self.carrier.start()
    }

    fn detach(&self) {
        // Outside the borrow, because it runs user code.
        let driver = self.carrier.driver.take();
        // A slice on the stack holds it too, so dropping ours would not close it.
        if let Some(driver) = driver {
            driver.close();
        }
        self.carrier.leave_the_loop();
    }

    /// Without a limit, it is what the toolkit's own loop does again and again. With a limit, it
    /// returns when something has happened: the toolkit would send its events and then sleep.
    fn iterate(&self, wait: Option<Duration>) {
        let posted = !self.carrier.toolkit.posted.borrow().is_empty();
        let wait = wait.map(|wait| if posted { Duration::ZERO } else { wait });
        self.carrier.toolkit.iterate(wait);
    }

    fn host_call(&self, delay: Duration, callback: Box<dyn FnOnce()>) {
        self.carrier.toolkit.call_in(delay, callback);
    }

    /// A dialog: the toolkit's loop, inside a callback.
    fn nest(&self, end: End) -> Result<(), WaitError> {
        let (toolkit, closed) = (self.carrier.toolkit.clone(), Rc::new(Cell::new(false)));
        let (close, wake) = (closed.clone(), toolkit.clone());
        let exec = || {
            while !closed.get() {
                toolkit.iterate(None);
            }
        };
        nest_in_dialog(&self.handle, end, exec, move || {
            close.set(true);
            wake.post(Rc::new(|| ()));
        })
    }
}
