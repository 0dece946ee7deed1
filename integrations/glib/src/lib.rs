//! Entwined on the GLib main loop: network code in the thread of a program that runs a
//! [`MainContext`].
//!
//! ```
//! use std::time::Duration;
//!
//! use glib::{MainContext, MainLoop};
//!
//! let context = MainContext::default();
//! let host = MainLoop::new(Some(&context), false);
//! let network = entwined_glib::attach(&context)?;
//! network.handle().call_later(Duration::from_millis(5), {
//!     let host = host.clone();
//!     move || host.quit()
//! });
//! host.run();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How it sits in the loop
//!
//! All sockets, the timers and the wake-ups of other threads are behind one file descriptor, which
//! one `GSource` watches. Its [priority](Options::priority) and the
//! [pacing](entwined::Handle::set_pacing) of a dispatch say how the thread is shared: by default it
//! comes after GDK's redraw, and gives the thread back after 2 ms. A host whose own sources are
//! always ready would never let it run, so a second source sees to a [floor](Options::floor).
//! Neither wakes the loop when there is nothing to do, and there is no third.
//!
//! A callback may iterate the context (a modal dialog with a [`MainLoop`](glib::MainLoop) of its
//! own): everybody else goes on meanwhile.
//!
//! # Threads
//!
//! A context is iterated by one thread at a time, and the reactor belongs to the thread that
//! attached it. Should another thread iterate the context, the reactor waits until its own does.

mod backend;
mod sys;

use std::{cell::Cell, fmt, io, rc::Rc, time::Duration};

use entwined::{
    Handle,
    reactor::{Driver, LifeError, RunError},
};
use glib::{MainContext, Priority};

use backend::{Backend, Bridge};

/// Attaches a new reactor to `context` and begins its run; see [`Options::attach`].
///
/// # Errors
/// As for [`Options::attach`].
pub fn attach(context: &MainContext) -> io::Result<Attachment> {
    Options::new().attach(context)
}

/// How a reactor shares the thread with the other sources of its context.
#[derive(Clone)]
pub struct Options {
    priority: Priority,
    floor_after: Duration,
    floor_budget: Duration,
}

impl Options {
    /// What [`attach`] uses; each method says its default.
    pub fn new() -> Self {
        Options {
            // GDK_PRIORITY_REDRAW is 120.
            priority: Priority::from(121),
            // Longer than a frame at 60 Hz: while there is time between two, it is not needed.
            floor_after: Duration::from_millis(25),
            floor_budget: Duration::from_millis(1),
        }
    }

    /// The priority of the source that serves the reactor. 121 by default: one below GDK's redraw,
    /// so that a frame that is due is drawn first. Above it (a smaller number), a busy network
    /// stops the drawing.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// What nobody can take away. In a host that is always busy with sources of higher priority,
    /// work that has waited for `after` is served for `budget` all the same: 25 ms and 1 ms by
    /// default, which is at least a twenty-sixth of the thread. Only a source above
    /// [`Priority::HIGH`] that is always ready can prevent it.
    ///
    /// The other way round, a network that is always busy lets the host's sources of lower
    /// priority, down to [`Priority::DEFAULT_IDLE`], run once in `after`.
    #[must_use]
    pub fn floor(mut self, after: Duration, budget: Duration) -> Self {
        self.floor_after = after;
        self.floor_budget = budget;
        self
    }

    /// Attaches a new reactor to `context` and begins its run. The context may be running already;
    /// then call this on the thread that runs it, otherwise on the thread that will.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) when another thread runs the context at
    /// present; what the system says when it is out of file descriptors (it takes three, and one
    /// more where the system tells how long a thread waits for a processor).
    pub fn attach(self, context: &MainContext) -> io::Result<Attachment> {
        let attachment = self.attach_stopped(context)?;
        attachment.start().expect("a new reactor does not run");
        Ok(attachment)
    }

    /// As [`attach`](Options::attach), without beginning a run: [`Attachment::start`] does. What is
    /// asked of the handle before waits.
    ///
    /// # Errors
    /// As for [`attach`](Options::attach).
    pub fn attach_stopped(self, context: &MainContext) -> io::Result<Attachment> {
        let _owned = own(context)?;
        let bridge = Bridge::new(context)?;
        let driver = Rc::new(Driver::new(Backend(bridge.clone())));
        Ok(Attachment {
            driver,
            bridge,
            options: self,
            running: Cell::new(false),
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("priority", &self.priority)
            .field("floor_after", &self.floor_after)
            .field("floor_budget", &self.floor_budget)
            .finish_non_exhaustive()
    }
}

/// A reactor in a main context.
///
/// [`Handle::stop`] ends its run in order while the host's loop goes on; after that
/// [`start`](Attachment::start) begins another. Dropping this detaches the reactor at once and for
/// good, without the shutdown phases, also from inside one of its callbacks: connections hear that
/// they are lost, everything else is dropped. The host's own run and quit are never touched.
#[must_use = "dropping it detaches the reactor at once"]
pub struct Attachment {
    driver: Rc<Driver>,
    bridge: Rc<Bridge>,
    options: Options,
    /// Whether `run` is on the stack.
    running: Cell<bool>,
}

impl Attachment {
    /// The handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.driver.handle()
    }

    /// Begins a run, after the one that attaching began has ended. May be called from inside any
    /// callback of the loop.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`], also while it is still stopping; [`LifeError::Closed`] when
    /// the operating system refused to tell what is ready, which is the end of a reactor.
    pub fn start(&self) -> Result<(), LifeError> {
        self.driver.start()?;
        self.bridge.connect(&self.driver, &self.options);
        Ok(())
    }

    /// Runs the context until the reactor's run ends, for a program that has no loop of its own;
    /// begins a run first if there is none. All other sources of the context run too. Inside a
    /// callback it makes a nested loop.
    ///
    /// # Errors
    /// [`RunError::Life`] when this is on the stack already; [`RunError::Selector`] when the
    /// operating system refuses to tell what is ready, which ends the run at once, or when another
    /// thread runs the context.
    pub fn run(&self) -> Result<(), RunError> {
        if self.running.replace(true) {
            return Err(LifeError::AlreadyRunning.into());
        }
        let result = self.iterate();
        self.running.set(false);
        result
    }

    fn iterate(&self) -> Result<(), RunError> {
        let _owned = own(&self.bridge.context).map_err(RunError::Selector)?;
        if !self.driver.is_running() {
            self.start()?;
        }
        while self.driver.is_running() {
            self.bridge.context.iteration(true);
        }
        self.bridge
            .failure
            .take()
            .map_or(Ok(()), |error| Err(RunError::Selector(error)))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // A dispatch that is on the stack has the driver too, so dropping ours would not be the
        // end.
        self.driver.close();
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("handle", &self.handle())
            .field("options", &self.options)
            .finish()
    }
}

fn own(context: &MainContext) -> io::Result<impl Drop> {
    context.acquire().map_err(|_| {
        io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another thread runs this main context",
        )
    })
}
