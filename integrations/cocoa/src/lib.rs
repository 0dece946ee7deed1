//! Entwined in a Cocoa application: network code on the main thread, in its `NSRunLoop`.
//!
//! It is written in the Objective-C that GNUstep and macOS share, and uses Foundation only. It is
//! tested on GNUstep. On macOS it has only been read, because Entwined itself runs on Linux only so
//! far.
//!
//! ```no_run
//! // In a static library, called by main() before it calls NSApplicationMain or [NSApp run].
//! #[unsafe(no_mangle)]
//! extern "C" fn start_network() {
//!     let network = entwined_cocoa::attach().expect("this is the main thread");
//!     let handle = network.keep();
//!     handle.call_later(std::time::Duration::from_secs(1), || println!("on the main thread"));
//! }
//! ```
//!
//! # How it works
//!
//! A run loop on GNUstep and one on macOS have no common way to watch a file descriptor. So one
//! helper thread waits for all sockets and timers, and then asks the main thread for a slice, by
//! `performSelectorOnMainThread`: see [`Interleave`]. (On GNUstep, one more thread in the process
//! passes on what is asked.) A slice takes 2 ms at most
//! ([`Pacing`](entwined::reactor::Pacing)); when nothing happens, all threads sleep. All callbacks
//! run on the main thread.
//!
//! Slices are served in each mode of the application's loop: also while a panel is modal
//! (`runModalForWindow:`), and while the mouse drags or a menu is open. If a callback of the
//! reactor itself runs such a loop, the network continues in it 10 ms later. [`Handle::wait`] does
//! not run the loop: while it waits, only the network is served.
//!
//! A modal loop looks at `stopModal` only when it has had an event. A callback of the reactor is
//! not an event, so it must post one (`postEvent:atStart:`) after it has called `stopModal`.
//!
//! # The run and its end
//!
//! [`attach`] begins a run. When the application terminates, the run ends gracefully
//! (`NSApplicationWillTerminateNotification`): the phases of [`Handle::on_shutdown`] run to their
//! end, each limited to the core's 30 s, while the run loop keeps running. [`Handle::stop`] ends
//! the run and leaves the application alone; [`Attachment::start`] begins another.
//!
//! # Building
//!
//! On macOS, Xcode's command line tools are enough. Elsewhere a GNUstep is needed, on Debian
//! `gnustep-make`, `gobjc` and `libgnustep-base-dev`.
//!
//! Exceptions and panics do not cross between the languages.
#![warn(missing_debug_implementations)]

mod sys;

use std::{cell::RefCell, io, ops::Deref, rc::Rc, time::Duration};
#[cfg(not(target_vendor = "apple"))]
use std::{
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

pub use entwined;
use entwined::{
    Handle,
    reactor::{HostCall, Interleave, LifeError},
};

/// Attaches a new reactor to the main thread's run loop, and begins its run. Callbacks run as soon
/// as the loop does.
///
/// Can be called from inside any callback, and several times: each call makes a new reactor.
///
/// # Errors
/// - [`ResourceBusy`](io::ErrorKind::ResourceBusy): this is not the main thread.
/// - The process or the system is out of file descriptors or threads.
pub fn attach() -> io::Result<Attachment> {
    let attachment = attach_stopped()?;
    attachment.start().expect("it is new");
    Ok(attachment)
}

/// Attaches a new reactor to the main thread's run loop without beginning a run. Work requested
/// through the handle waits until [`Attachment::start`].
///
/// # Errors
/// Same as [`attach`].
pub fn attach_stopped() -> io::Result<Attachment> {
    if !sys::is_main_thread() {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the application's run loop belongs to the main thread",
        ));
    }
    let network = Interleave::new(poster()?)?;
    let handle = network.handle();
    let attached = Rc::new(Attached {
        handle: handle.clone(),
        network: RefCell::new(Some(network)),
        end: RefCell::default(),
    });
    *attached.end.borrow_mut() = Some(sys::End::observe(attached.clone()));
    Ok(Attachment {
        handle,
        attached,
        kept: false,
    })
}

/// A reactor in a Cocoa application. It dereferences to the [`Handle`] that programs work with.
///
/// Dropping it detaches the reactor at once and for good, without the shutdown phases, even from
/// inside one of its callbacks. Connections are told that they are lost; everything else is
/// dropped. The application's own run and its end are never touched.
#[derive(Debug)]
#[must_use = "dropping it detaches the reactor at once; use `keep` to let the run go on"]
pub struct Attachment {
    handle: Handle,
    attached: Rc<Attached>,
    kept: bool,
}

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Detaches the reactor at once and for good, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor in the application until it terminates. There is no next run.
    pub fn keep(mut self) -> Handle {
        self.kept = true;
        self.handle()
    }

    /// Begins another run, after the previous one has ended. Can be called from inside any callback
    /// of the loop.
    ///
    /// # Errors
    /// Returns [`LifeError::AlreadyRunning`] if the reactor is running or still stopping, and
    /// [`LifeError::Closed`] if the application terminates.
    pub fn start(&self) -> Result<(), LifeError> {
        let network = self.attached.network.borrow();
        network.as_ref().ok_or(LifeError::Closed)?.start()
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
            self.attached.close();
        }
    }
}

/// A reactor in the loop. Its observer of the application's end owns it.
#[derive(Debug)]
pub(crate) struct Attached {
    handle: Handle,
    network: RefCell<Option<Interleave>>,
    end: RefCell<Option<sys::End>>,
}

impl Attached {
    /// The application terminates: it exits once this has returned.
    pub(crate) fn terminate(&self) {
        self.handle.stop();
        while self.handle.is_running() {
            // The end of the run comes in a call, which is an event for the loop. Each phase has
            // its limit.
            sys::iterate(LOOK);
        }
        self.close();
    }

    fn close(&self) {
        // Dropped after the borrows: both run code of others.
        let network = self.network.take();
        drop(network);
        let end = self.end.take();
        drop(end);
    }
}

/// Returns what makes the main thread run a call.
#[cfg(target_vendor = "apple")]
fn poster() -> io::Result<impl Fn(HostCall) + Send + Sync> {
    Ok(sys::post)
}

/// Returns what makes the main thread run a call: a thread of the process posts all of them, and
/// never ends.
///
/// GNUstep's loop runs what the main thread posts to itself only after its next sleep, or at once
/// if there is no loop yet; what comes from another thread wakes it. And a thread that GNUstep has
/// not made does not leave it cleanly.
#[cfg(not(target_vendor = "apple"))]
fn poster() -> io::Result<impl Fn(HostCall) + Send + Sync> {
    static POSTER: Mutex<Option<mpsc::Sender<HostCall>>> = Mutex::new(None);
    let mut poster = POSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match &*poster {
        Some(sender) => sender.clone(),
        None => {
            let (sender, calls) = mpsc::channel();
            thread::Builder::new()
                .name("entwined-post".to_owned())
                .spawn(move || calls.into_iter().for_each(sys::post))?;
            poster.insert(sender).clone()
        }
    };
    Ok(move |call| {
        // The thread has the other end for ever.
        let _ = sender.send(call);
    })
}

/// How long the loop may sleep while the run ends, and the application does nothing else.
const LOOK: Duration = Duration::from_secs(1);
