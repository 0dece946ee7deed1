//! Entwined in a Qt application: network code in the thread of the widgets.
//!
//! Qt 6 and Qt 5.15, on both of the event dispatchers that Qt has on Unix. The application may be
//! anybody's: C++ that links a Rust library, or Rust by cxx-qt or qmetaobject. All that is needed
//! is that its `QCoreApplication` (`QApplication`, `QGuiApplication`) exists when [`attach`] is
//! called, on its thread.
//!
//! ```no_run
//! // In a static library, called by main() after it has made its QApplication.
//! #[unsafe(no_mangle)]
//! extern "C" fn start_network() {
//!     let network = entwined_qt::attach().expect("there is an application");
//!     let handle = network.keep();
//!     handle.call_later(std::time::Duration::from_secs(1), || println!("on the GUI's thread"));
//! }
//! ```
//!
//! # How it works
//!
//! All sockets, timers and wake-ups from other threads are behind one file descriptor, which one
//! `QSocketNotifier` watches. When it is readable, the reactor takes a slice of at most 2 ms (see
//! [Frames](#frames)). If work is left then, an event is posted, which comes after those of the
//! host that are already there. When nothing happens, the loop sleeps.
//!
//! A callback may run a nested loop, by `QDialog::exec`, `QMenu::exec` or a `QEventLoop`: the
//! network and the window keep running, and what the callback has queued before is done there.
//! [`Handle::wait`] runs one too.
//!
//! A loop that Qt is told to run without file descriptors
//! (`QEventLoop::ExcludeSocketNotifiers`) does not hear of sockets or of other threads until it
//! ends, if Qt's dispatcher obeys: the one on GLib does not. Queued work continues there, and
//! timers fire, up to 25 ms late.
//!
//! # Frames
//!
//! A window draws when Qt delivers its `UpdateRequest`. The reactor follows those of all windows.
//! While one of them draws, a slice ends before the next frame is due at the rate of the primary
//! screen, and is short if a frame is late. While none draws, a slice takes 2 ms at most
//! ([`Pacing`](entwined::reactor::Pacing)). This needs no link to QtGui.
//!
//! # The run and its end
//!
//! [`attach`] begins a run. When the application has left `exec` and emits `aboutToQuit`, the run
//! ends gracefully: the phases of [`Handle::on_shutdown`] run to their end, each limited to the
//! core's 30 s, while Qt's loop keeps running. If the application is deleted without that, the run
//! ends at once. [`Handle::stop`] ends the run and leaves the application alone;
//! [`Attachment::start`] begins another.
//!
//! # Building
//!
//! A small C++ file is compiled against QtCore's headers. pkg-config finds Qt 6, or else Qt 5.15;
//! the environment variable `QT_VERSION_MAJOR`, 5 or 6, demands one of them, as it does for cxx-qt.
//! On Debian, `qt6-base-dev` or `qtbase5-dev` has what is needed.
//!
//! Exceptions and panics do not cross between the languages. A panic in a callback is contained and
//! reported, as on every host. A C++ exception that leaves a slot while [`Handle::wait`] runs the
//! loop ends the program, because Qt does not support that either.
#![warn(missing_debug_implementations)]

mod backend;
mod frames;
mod sys;

/// The page of the guide, so that its programs are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/qt.md")]
mod guide {}

use std::{fmt, io, ops::Deref, rc::Rc};

use entwined::{
    Handle,
    reactor::{Driver, LifeError},
};

use backend::{Bridge, Loop};
pub use entwined;
use sys::Place;

/// Attaches a new reactor to the application, and begins its run. Callbacks run as soon as the
/// application's loop does.
///
/// Can be called from inside any callback, and several times: each call makes a new reactor.
///
/// # Errors
/// - [`NotFound`](io::ErrorKind::NotFound): there is no `QCoreApplication` yet, or no longer.
/// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): this is not the application's thread.
/// - The process or the system is out of file descriptors.
pub fn attach() -> io::Result<Attachment> {
    let attachment = attach_stopped()?;
    attachment.start().expect("it is new");
    Ok(attachment)
}

/// Attaches a new reactor to the application without beginning a run. Work requested through the
/// handle waits until [`Attachment::start`].
///
/// # Errors
/// Same as [`attach`].
pub fn attach_stopped() -> io::Result<Attachment> {
    match sys::place() {
        Place::Application => {}
        Place::Nowhere => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "there is no QCoreApplication: make it before the reactor",
            ));
        }
        Place::AnotherThread => {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the QCoreApplication belongs to another thread",
            ));
        }
    }
    let bridge = Bridge::new()?;
    let driver = Rc::new(Driver::new(bridge.selector.clone(), Loop(bridge.clone())));
    Ok(Attachment {
        handle: driver.handle(),
        driver,
        bridge,
        kept: false,
    })
}

/// A reactor in a Qt application. It dereferences to the [`Handle`] that programs work with.
///
/// Dropping it detaches the reactor at once and for good, without the shutdown phases, even from
/// inside one of its callbacks. Connections are told that they are lost; everything else is
/// dropped. The application's own run and quit are never touched.
#[must_use = "dropping it detaches the reactor at once; use `keep` to let the run go on"]
pub struct Attachment {
    handle: Handle,
    driver: Rc<Driver>,
    bridge: Rc<Bridge>,
    kept: bool,
}

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Detaches the reactor at once and for good, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor in the application until its run ends. There is no next run.
    pub fn keep(mut self) -> Handle {
        self.kept = true;
        self.handle()
    }

    /// Begins another run, after the previous one has ended. Can be called from inside any callback
    /// of the loop.
    ///
    /// # Errors
    /// Returns [`LifeError::AlreadyRunning`] if the reactor is running or still stopping, and
    /// [`LifeError::Closed`] if the application is gone, or if the operating system refused to
    /// report events. The last two close the reactor for good.
    pub fn start(&self) -> Result<(), LifeError> {
        if sys::place() != Place::Application {
            self.driver.close();
            return Err(LifeError::Closed);
        }
        self.driver.start()?;
        self.bridge.connect(&self.driver);
        Ok(())
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
            // A slice that is on the stack also holds the driver, so dropping ours would not close
            // it.
            self.driver.close();
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
