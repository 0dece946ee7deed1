//! Entwined in a Windows program: network code on the thread of its windows, in its message loop.
//!
//! ```no_run
//! # #[cfg(windows)]
//! # fn main() -> std::io::Result<()> {
//! // On the thread of the windows, before or inside its message loop.
//! let network = entwined_win32::attach()?;
//! network.call_later(std::time::Duration::from_secs(1), || println!("in the message loop"));
//! # Ok(())
//! # }
//! # #[cfg(not(windows))]
//! # fn main() {}
//! ```
//!
//! # How it works
//!
//! One helper thread waits for all sockets and timers, and then posts a message to a window that
//! nobody sees ([`Interleave`](entwined::reactor::Interleave), `HWND_MESSAGE`). The message loop
//! gives it to the network, which takes a slice of 2 ms at most. All callbacks run on the thread
//! that attached.
//!
//! Whichever loop the thread runs, it carries the network: the program's own, a modal dialog's
//! (`DialogBox`, `MessageBox`), a menu's, and the one in which a window is moved. If a callback of
//! the network itself runs such a loop, the network continues in it 10 ms later.
//! [`Handle::wait`](entwined::Handle::wait) does not run the message loop: while it waits, only the
//! network is served.
//!
//! Windows hands out posted messages before input, painting and timers. So a network with much to
//! do would keep all of them waiting. Before each slice it looks whether any of them waits
//! (`GetQueueStatus`). If so, it gives way: a second thread, which does nothing else, posts the
//! message again a millisecond later, and then the slice is made.
//!
//! # The run and its end
//!
//! [`attach`] begins a run. [`Handle::stop`](entwined::Handle::stop) ends it and leaves the message
//! loop alone; [`Attachment::start`] begins another. Dropping the [`Attachment`] detaches the
//! network at once. `WM_QUIT` is the program's: when its loop has ended, nobody serves the network
//! any more.
//!
//! # Platforms
//!
//! Windows only; the crate is empty elsewhere, where these links lead nowhere. It was run under
//! Wine 8, where it passes the conformance suite, and not on Windows itself.
//!
//! Timers are late by a millisecond or two: the thread that waits for them does so in whole
//! milliseconds. Windows itself rounds that up to its clock's ticks, which are 15.6 ms apart unless
//! the program asks for shorter ones (`timeBeginPeriod`).
#![cfg_attr(not(windows), allow(rustdoc::broken_intra_doc_links))]
#![cfg(windows)]
#![warn(missing_debug_implementations)]

mod give_way;
mod sys;

use std::{cell::RefCell, io, ops::Deref};

pub use entwined;
use entwined::{
    Handle,
    reactor::{Interleave, LifeError},
};

use self::sys::Window;

/// Attaches a new reactor to this thread's message loop, and begins its run. Callbacks run as soon
/// as the loop does.
///
/// Can be called from inside any callback, and several times: each call makes a new reactor.
///
/// # Errors
/// The process or the system is out of handles, windows or threads.
pub fn attach() -> io::Result<Attachment> {
    let attachment = attach_stopped()?;
    attachment.start().expect("it is new");
    Ok(attachment)
}

/// Attaches a new reactor to this thread's message loop without beginning a run. Work requested
/// through the handle waits until [`Attachment::start`].
///
/// # Errors
/// As for [`attach`].
pub fn attach_stopped() -> io::Result<Attachment> {
    let window = Window::new()?;
    let calls = window.calls();
    let network = Interleave::new(move |call| calls.post(call))?;
    Ok(Attachment {
        handle: network.handle(),
        network,
        _window: window,
    })
}

/// A reactor in a message loop. It dereferences to the [`Handle`] that programs work with.
///
/// Dropping it detaches the reactor at once and for good, without the shutdown phases, even from
/// inside one of its callbacks. Connections are told that they are lost; everything else is
/// dropped.
#[derive(Debug)]
#[must_use = "dropping it detaches the reactor at once; use `keep` to let the run go on"]
pub struct Attachment {
    handle: Handle,
    network: Interleave,
    /// Dropped last: it receives the network's messages.
    _window: Window,
}

impl Attachment {
    /// Returns the handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Detaches the reactor at once and for good, as dropping this does.
    pub fn detach(self) {}

    /// Leaves the reactor in the message loop until the thread ends. There is no next run.
    pub fn keep(self) -> Handle {
        thread_local! {
            static KEPT: RefCell<Vec<Attachment>> = const { RefCell::new(Vec::new()) };
        }
        let handle = self.handle();
        KEPT.with_borrow_mut(|kept| kept.push(self));
        handle
    }

    /// Begins another run, after the previous one has ended. Can be called from inside any callback
    /// of the loop.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`] if the reactor is running or still stopping.
    pub fn start(&self) -> Result<(), LifeError> {
        self.network.start()
    }
}

impl Deref for Attachment {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}
