//! Signals (signal(7)) as events of a reactor. On Windows, Ctrl-C is the only one.
//!
//! A reactor does not handle signals unless it is asked to here. It leaves them to the program or
//! the host.
//!
//! ```
//! use entwined::{Standalone, signal::{self, Signal}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! signal::stop_on(&handle, [Signal::INT])?.keep();
//! # handle.clone().call_soon(move || handle.stop());
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll},
};

pub use self::system::Signal;
use crate::{
    deferred::{Deferred, Interrupted},
    reactor::Handle,
};

/// Receives one signal for as long as this value lives. Several values may watch the same signal,
/// in one reactor or in many; each of them is notified.
///
/// When the last of them is dropped, the signal gets its default effect back, unless the program
/// handled it in another way.
///
/// ```
/// # #[cfg(unix)]
/// # mod example {
/// # use entwined::{Handle, signal::{Signal, Signals}};
/// async fn reap(handle: Handle, mut child: std::process::Child) -> std::io::Result<()> {
///     let children = Signals::new(&handle, Signal::CHILD)?;
///     // The signal may belong to another child, or may have come before this line.
///     while child.try_wait()?.is_none() {
///         children.next().await?;
///     }
///     Ok(())
/// }
/// # }
/// ```
pub struct Signals(system::Signals);

impl Signals {
    /// Starts to watch `signal`.
    ///
    /// # Errors
    /// If the signal cannot be caught (`SIGKILL`, `SIGSTOP`) or must not be (`SIGSEGV`, `SIGILL`,
    /// `SIGFPE`), or if no file descriptors are left. On Windows, if the program has a handler of
    /// the crate `ctrlc` already.
    pub fn new(handle: &Handle, signal: Signal) -> io::Result<Self> {
        system::Signals::new(handle, signal).map(Signals)
    }

    /// Returns the signal.
    pub fn signal(&self) -> Signal {
        self.0.signal()
    }

    /// Waits for the signal. Arrivals that were not waited for are merged into one.
    ///
    /// # Errors
    /// Any error from the operating system. None are known to occur.
    pub async fn next(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Signals::next) for hand-written futures.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_next(cx)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals")
            .field("signal", &self.signal())
            .finish_non_exhaustive()
    }
}

/// Stops the reactor gracefully when one of `signals` arrives: its shutdown hooks run, and
/// connections end. This applies to one run, the current or the next one. Dropping the returned
/// value ends it earlier.
///
/// It stops the reactor only. In a toolkit's loop the program goes on without a network; there,
/// quit the application with [`call_on`].
///
/// After the first signal, the signals have their default effect again, so a user can end the
/// program without waiting for the shutdown.
///
/// # Errors
/// See [`Signals::new`].
#[track_caller]
pub fn stop_on(handle: &Handle, signals: impl IntoIterator<Item = Signal>) -> io::Result<CallOn> {
    let stopping = handle.clone();
    call_on(handle, signals, move || {
        // The reactor may already be stopping.
        stopping.stop();
    })
}

/// Calls `callback` when one of `signals` arrives, once, as [`stop_on`] stops the reactor. In a
/// toolkit's loop, let it quit the application, which ends the reactor's run too:
///
/// ```
/// # use entwined::{Standalone, signal::{self, Signal}};
/// # struct Application(entwined::Handle);
/// # impl Application { fn quit(&self) { self.0.stop(); } }
/// # let reactor = Standalone::new()?;
/// # let handle = reactor.handle();
/// # let application = Application(handle.clone());
/// signal::call_on(&handle, [Signal::INT], move || application.quit())?.keep();
/// # handle.clone().call_soon(move || handle.stop());
/// # reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`Signals::new`].
#[track_caller]
pub fn call_on(
    handle: &Handle,
    signals: impl IntoIterator<Item = Signal>,
    callback: impl FnOnce() + 'static,
) -> io::Result<CallOn> {
    let watched: Vec<_> = signals
        .into_iter()
        .map(|signal| Signals::new(handle, signal))
        .collect::<Result<_, _>>()?;
    let task = handle.spawn(async move {
        let any = poll_fn(|cx| {
            match watched
                .iter()
                .any(|signals| signals.poll_next(cx).is_ready())
            {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        any.await;
        // The default effect comes back before the callback, which may take long.
        drop(watched);
        callback();
    });
    Ok(CallOn { task: Some(task) })
}

/// Keeps [`stop_on`] or [`call_on`] in force. Dropping it stops watching the signals.
#[must_use = "dropping it stops watching the signals; use `keep` to watch until the run ends"]
#[derive(Debug)]
pub struct CallOn {
    task: Option<Deferred<(), Interrupted>>,
}

impl CallOn {
    /// Keeps it in force until the run ends.
    pub fn keep(mut self) {
        self.task = None;
    }
}

impl Drop for CallOn {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel();
        }
    }
}
