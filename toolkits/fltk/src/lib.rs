//! Entwined in an FLTK program: a backend written from the guide of the conformance suite alone, to
//! see what the guide leaves out, and how much a backend takes.
//!
//! FLTK has one loop a process, `Fl::wait`. It runs the timeouts that are due, then the checks,
//! then draws and sleeps, and then calls back for file descriptors and for `Fl::awake`. A dialog
//! calls it again inside a callback. What posts an event is `Fl::awake`:
//!
//! - A timeout that another timeout sets may be called in the same iteration, which then sleeps.
//! - A check cannot make the slice itself: inside it, the checks of nested loops are not run.
//! - What `Fl::awake` calls may call it again, and that is called at once. So a slice posts
//!   nothing, whatever it leaves and whoever asks in it; the next check does.
//! - FLTK holds 1,024 calls of `Fl::awake`, and refuses more. Then the loop does not sleep, and the
//!   next check posts again.

mod host;
mod sys;

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::AsRawFd,
    rc::Rc,
};

use entwined::{
    Handle,
    reactor::{Driver, Host, LifeError, NextTurn, Selector},
};
pub use host::{Dialog, call_in, fill_ring, iterate, keep_busy};
use sys::Carrier;

/// A reactor in FLTK's loop. Dropping it detaches the reactor at once.
#[derive(Debug)]
pub struct Attachment {
    driver: Rc<Driver>,
    bridge: Rc<Bridge>,
}

/// Makes a reactor in the loop of this thread, which must be FLTK's. It does not run yet.
///
/// # Errors
/// The process or the system is out of file descriptors.
pub fn attach_stopped() -> io::Result<Attachment> {
    let bridge = Rc::new(Bridge {
        selector: Rc::new(Selector::new()?),
        carrier: RefCell::default(),
        posted: Cell::new(false),
        checked: Cell::new(false),
    });
    let driver = Driver::new(bridge.selector.clone(), Loop(bridge.clone()));
    Ok(Attachment {
        driver: Rc::new(driver),
        bridge,
    })
}

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    /// Begins a run.
    ///
    /// # Errors
    /// Returns [`LifeError::AlreadyRunning`] if there is one.
    pub fn start(&self) -> Result<(), LifeError> {
        self.driver.start()?;
        let server = Server {
            bridge: self.bridge.clone(),
            driver: self.driver.clone(),
            served: Cell::new(false),
        };
        let carrier = Carrier::new(self.bridge.selector.as_raw_fd(), Rc::new(server));
        self.bridge.carrier.replace(Some(carrier));
        self.bridge.posted.set(false);
        self.bridge.post();
        Ok(())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // A slice on the stack holds the driver too.
        self.driver.close();
    }
}

/// What the reactor's side and the loop's side share.
#[derive(Debug)]
struct Bridge {
    selector: Rc<Selector>,
    /// Only during a run.
    carrier: RefCell<Option<Carrier>>,
    /// Whether an event is on its way.
    posted: Cell<bool>,
    /// The last check was after the last slice, so the loop may be asleep.
    checked: Cell<bool>,
}

impl Bridge {
    fn post(&self) {
        if let Some(carrier) = &*self.carrier.borrow()
            && !self.posted.get()
        {
            self.posted.set(carrier.post());
        }
    }
}

/// What the loop calls.
#[derive(Debug)]
struct Server {
    bridge: Rc<Bridge>,
    driver: Rc<Driver>,
    /// Whether this iteration has had its slice.
    served: Cell<bool>,
}

impl Server {
    /// It was readable when the loop slept. Level-triggered: if it still is, it comes again.
    fn readable(&self) {
        if !self.served.get() {
            self.slice();
        }
    }

    fn event(&self) {
        self.bridge.posted.set(false);
        if self.driver.next_turn() == NextTurn::Now {
            self.slice();
        }
    }

    fn before_sleep(&self) {
        self.served.set(false);
        self.bridge.checked.set(true);
        if self.driver.next_turn() == NextTurn::Now {
            self.bridge.post();
        }
    }

    fn slice(&self) {
        self.served.set(true);
        self.bridge.checked.set(false);
        if let Err(error) = self.driver.slice(self.driver.budget()) {
            eprintln!("the operating system refused to report events: {error}");
            // It would fail again at once.
            self.driver.close();
        }
        if !self.driver.is_running() {
            // A dialog's loop may have taken the event that `ended` posted.
            sys::wake();
        }
    }
}

/// What the reactor asks of the loop.
struct Loop(Rc<Bridge>);

impl Host for Loop {
    fn request_turn(&self) {
        if self.0.checked.get() {
            self.0.post();
        }
    }

    fn iterate(&self, may_block: bool) -> bool {
        sys::iterate((!may_block).then_some(0.0));
        true
    }

    fn ended(&self) {
        let carrier = self.0.carrier.take();
        drop(carrier);
        sys::wake();
    }
}
