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
//! network.call_later(Duration::from_millis(5), {
//!     let host = host.clone();
//!     move || host.quit()
//! });
//! host.run();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Which crate for which toolkit
//!
//! There is one GLib in a process, whatever versions of its Rust bindings a program has. So this
//! crate carries the network in a program whose bindings are older, or that is not written in Rust.
//! Its own [`glib`] need not be the program's: [`attach_default`] has no type of it.
//!
//! | the program has | use | frames |
//! |---|---|---|
//! | gtk4 0.11 (libadwaita 0.9, relm4 0.11) | `entwined-gtk4` | the network works between them |
//! | an older gtk4 (libadwaita, relm4) | [`attach_default`] | drawn first |
//! | gtk 0.18, for GTK 3 (tao, wry, Tauri, webkit2gtk) | [`attach_default`] | drawn first |
//! | glib 0.22 without a toolkit, or several contexts | [`attach`] | |
//! | glib of another version without a toolkit | [`attach_default`] | |
//! | a C, C++ or Vala program with GLib's loop | [`attach_default`], in a library | drawn first |
//!
//! `entwined-gtk4` does not build beside another version of gtk4: Cargo allows one `gtk4-sys`. Qt
//! may run on GLib too, but not every Qt does; it has a crate of its own.
//!
//! # How it works
//!
//! All sockets, timers and wake-ups from other threads are behind one file descriptor, which one
//! `GSource` watches. The source's [priority](Config::priority) and the
//! [pacing](entwined::Handle::set_pacing) of a dispatch decide how the thread is shared. By default
//! the source runs after GDK's redraw and gives the thread back after 2 ms. A host whose own
//! sources are always ready would never let it run, so a second source guarantees a
//! [floor](Config::floor). Neither source wakes the loop when there is nothing to do, and there is
//! no third.
//!
//! A callback may iterate the context (for example a modal dialog with its own
//! [`MainLoop`](glib::MainLoop)): the network and all other sources keep running.
//!
//! # Threads
//!
//! A context is iterated by one thread at a time, and the reactor belongs to the thread that
//! attached it. If another thread iterates the context, the reactor waits until its own thread
//! does.
#![warn(missing_debug_implementations)]

mod backend;
mod sys;

use std::{cell::Cell, fmt, io, ops::Deref, rc::Rc, time::Duration};

use entwined::{
    Handle,
    reactor::{Driver, LifeError, RunError},
};
use glib::{MainContext, Priority};

use backend::{Bridge, Context};
pub use {entwined, glib};

/// Attaches a new reactor to `context` and begins its run; see [`Config::attach`].
///
/// # Errors
/// Same as [`Config::attach`].
pub fn attach(context: &MainContext) -> io::Result<Attachment> {
    Config::new().attach(context)
}

/// Attaches a new reactor to the default main context and begins its run. That is the context of
/// GTK's own loop, in every version of GTK. Call it on the thread that runs GTK, before or while
/// its loop runs. No type of this crate's [`glib`] is involved, so the program's bindings may be of
/// any version.
///
/// ```
/// # use std::time::Duration;
/// // The loop could be GTK's.
/// let host = glib::MainLoop::new(None, false);
/// let network = entwined_glib::attach_default()?;
/// network.call_later(Duration::from_millis(5), {
///     let host = host.clone();
///     move || host.quit()
/// });
/// host.run();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Same as [`Config::attach`].
pub fn attach_default() -> io::Result<Attachment> {
    attach(&MainContext::default())
}

/// How a reactor shares the thread with the other sources of its context.
#[derive(Clone)]
pub struct Config {
    priority: Priority,
    floor_after: Duration,
    floor_budget: Duration,
}

impl Config {
    /// The config that [`attach`] uses; each method states its default.
    pub fn new() -> Self {
        Config {
            // GDK_PRIORITY_REDRAW is 120.
            priority: Priority::from(121),
            // Longer than a frame at 60 Hz: the floor is not needed while there is time between two
            // frames.
            floor_after: Duration::from_millis(25),
            floor_budget: Duration::from_millis(1),
        }
    }

    /// Sets the priority of the source that serves the reactor. The default is 121: one step below
    /// GDK's redraw, so a frame that is due is drawn first. At a higher priority (a smaller
    /// number), a busy network stops the drawing.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the network's guaranteed minimum. In a host that is always busy with sources of higher
    /// priority, work that has waited for `after` is still served for `budget`: 25 ms and 1 ms by
    /// default, which is at least 1/26 of the thread's time. Only a source above [`Priority::HIGH`]
    /// that is always ready can prevent this.
    ///
    /// It also works the other way round: a network that is always busy lets the host's sources of
    /// lower priority, down to [`Priority::DEFAULT_IDLE`], run once per `after`.
    #[must_use]
    pub fn floor(mut self, after: Duration, budget: Duration) -> Self {
        self.floor_after = after;
        self.floor_budget = budget;
        self
    }

    /// Attaches a new reactor to `context` and begins its run. If the context is already running,
    /// call this on the thread that runs it; otherwise call it on the thread that will.
    ///
    /// # Errors
    /// Returns [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another thread is running the
    /// context. Returns the system's error if it is out of file descriptors. A reactor needs four,
    /// and one more if the system reports how long a thread waits for a processor.
    pub fn attach(self, context: &MainContext) -> io::Result<Attachment> {
        let attachment = self.attach_stopped(context)?;
        attachment.start().expect("a new reactor does not run");
        Ok(attachment)
    }

    /// Same as [`attach`](Config::attach), but does not begin a run; [`Attachment::start`] does.
    /// Work requested through the handle before then waits.
    ///
    /// # Errors
    /// Same as [`attach`](Config::attach).
    pub fn attach_stopped(self, context: &MainContext) -> io::Result<Attachment> {
        let _owned = own(context)?;
        let bridge = Bridge::new(context)?;
        let driver = Rc::new(Driver::new(
            bridge.selector.clone(),
            Context(bridge.clone()),
        ));
        Ok(Attachment {
            handle: driver.handle(),
            driver,
            bridge,
            config: self,
            running: Cell::new(false),
            kept: false,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::new()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("priority", &self.priority)
            .field("floor_after", &self.floor_after)
            .field("floor_budget", &self.floor_budget)
            .finish_non_exhaustive()
    }
}

/// A reactor in a main context. It dereferences to the [`Handle`] that programs work with.
///
/// [`Handle::stop`] ends its run gracefully while the host's loop keeps running; after that,
/// [`start`](Attachment::start) begins another. Dropping the attachment detaches the reactor at
/// once and for good, without the shutdown phases, even from inside one of its callbacks.
/// Connections are told that they are lost; everything else is dropped. The host's own run and quit
/// are never touched.
#[must_use = "dropping it detaches the reactor at once; use `keep` to let the run go on"]
pub struct Attachment {
    handle: Handle,
    driver: Rc<Driver>,
    bridge: Rc<Bridge>,
    config: Config,
    /// Whether `run` is on the stack.
    running: Cell<bool>,
    kept: bool,
}

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Detaches the reactor at once and for good, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor in the context until its run ends. There is no next run.
    pub fn keep(mut self) -> Handle {
        self.kept = true;
        self.handle()
    }

    /// Begins another run, after the previous one has ended. Can be called from inside any callback
    /// of the loop.
    ///
    /// # Errors
    /// Returns [`LifeError::AlreadyRunning`] if the reactor is running or still stopping, and
    /// [`LifeError::Closed`] if the operating system refused to report events, which closes the
    /// reactor for good.
    pub fn start(&self) -> Result<(), LifeError> {
        self.driver.start()?;
        self.bridge.connect(&self.driver, &self.config);
        Ok(())
    }

    /// Runs the context until the reactor's run ends. For programs that have no loop of their own.
    /// Begins a run first if there is none. All other sources of the context run too. Inside a
    /// callback, this is a nested loop.
    ///
    /// # Errors
    /// Returns [`RunError::Life`] if this method is already on the stack. Returns
    /// [`RunError::Selector`] if the operating system refuses to report events, which ends the run
    /// at once, or if another thread runs the context.
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

impl Deref for Attachment {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.kept {
            // A dispatch that is on the stack also holds the driver, so dropping ours would not
            // close it.
            self.driver.close();
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("handle", &self.handle())
            .field("config", &self.config)
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
