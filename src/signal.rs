//! Signals (signal(7)) as events of a reactor.
//!
//! A reactor does not handle signals unless it is asked to here. It leaves them to the program or
//! the host.
//!
//! ```
//! use entwined::{Standalone, signal::{self, Signal}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! signal::stop_on(&handle, [Signal::INT, Signal::TERM])?.keep();
//! # handle.clone().call_soon(move || handle.stop());
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

/// A signal. Real-time signals have no constant here.
pub use rustix::process::Signal;
use signal_hook::{SigId, flag, low_level};

use crate::{
    deferred::{Deferred, Interrupted},
    reactor::{Direction, Handle, Interest, Registration},
};

/// Receives one signal for as long as this value lives. Several values may watch the same signal,
/// in one reactor or in many; each of them is notified.
///
/// When the last of them is dropped, the signal gets its default effect back, unless the program
/// handled it in another way.
///
/// ```
/// # use entwined::{Handle, signal::{Signal, Signals}};
/// async fn reap(handle: Handle, mut child: std::process::Child) -> std::io::Result<()> {
///     let children = Signals::new(&handle, Signal::CHILD)?;
///     // The signal may belong to another child, or may have come before this line.
///     while child.try_wait()?.is_none() {
///         children.next().await?;
///     }
///     Ok(())
/// }
/// ```
pub struct Signals {
    source: Registration<UnixStream>,
    notice: Notice,
}

impl Signals {
    /// Starts to watch `signal`.
    ///
    /// # Errors
    /// If the signal cannot be caught (`SIGKILL`, `SIGSTOP`) or must not be (`SIGSEGV`, `SIGILL`,
    /// `SIGFPE`), or if no file descriptors are left.
    pub fn new(handle: &Handle, signal: Signal) -> io::Result<Self> {
        let (source, notified) = UnixStream::pair()?;
        source.set_nonblocking(true)?;
        let source = Registration::new(handle, source, Interest::READABLE)?;
        Ok(Signals {
            source,
            notice: Notice::new(signal, notified.into())?,
        })
    }

    /// Returns the signal.
    pub fn signal(&self) -> Signal {
        self.notice.signal
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
        let mut arrivals = [0; 256];
        ready!(
            self.source
                .poll_io(cx, Direction::Read, |mut pipe| pipe.read(&mut arrivals))
        )?;
        Poll::Ready(Ok(()))
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
/// connections are closed. This applies to one run, the current or the next one. Dropping the
/// returned value ends it earlier.
///
/// After the first signal, the signals have their default effect again, so a user can end the
/// program without waiting for the shutdown.
///
/// # Errors
/// See [`Signals::new`].
#[track_caller]
pub fn stop_on(handle: &Handle, signals: impl IntoIterator<Item = Signal>) -> io::Result<StopOn> {
    let watched: Vec<_> = signals
        .into_iter()
        .map(|signal| Signals::new(handle, signal))
        .collect::<Result<_, _>>()?;
    let stopping = handle.clone();
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
        // The reactor may already be stopping.
        stopping.stop();
    });
    Ok(StopOn { task: Some(task) })
}

/// Keeps [`stop_on`] in force. Dropping it stops watching the signals.
#[must_use = "dropping it stops watching the signals; use `keep` to watch until the run ends"]
#[derive(Debug)]
pub struct StopOn {
    task: Option<Deferred<(), Interrupted>>,
}

impl StopOn {
    /// Keeps it in force until the run ends.
    pub fn keep(mut self) {
        self.task = None;
    }
}

impl Drop for StopOn {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel();
        }
    }
}

/// A pipe that the process's signal handler writes to.
struct Notice {
    signal: Signal,
    id: SigId,
}

impl Notice {
    fn new(signal: Signal, pipe: OwnedFd) -> io::Result<Self> {
        let number = signal.as_raw();
        if signal_hook::consts::FORBIDDEN.contains(&number) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this signal cannot be watched",
            ));
        }
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match watched.get_mut(&number) {
            Some(entry) => entry,
            None => {
                let default = Arc::new(AtomicBool::new(false));
                if has_default_effect(number) {
                    flag::register_conditional_default(number, default.clone())?;
                }
                watched
                    .entry(number)
                    .or_insert(Watchers { number: 0, default })
            }
        };
        let id = low_level::pipe::register_raw(number, pipe)?;
        entry.number += 1;
        entry.default.store(false, Ordering::SeqCst);
        Ok(Notice { signal, id })
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        low_level::unregister(self.id);
        if let Some(entry) = watched.get_mut(&self.signal.as_raw()) {
            entry.number -= 1;
            entry.default.store(entry.number == 0, Ordering::SeqCst);
        }
    }
}

/// A signal handler belongs to the process and cannot be removed. So what it does while nobody
/// watches is stored for the whole process.
static WATCHED: Mutex<BTreeMap<i32, Watchers>> = Mutex::new(BTreeMap::new());

struct Watchers {
    number: usize,
    /// Whether the handler makes the signal take its default effect.
    default: Arc<AtomicBool>,
}

/// Returns whether the program neither handles nor ignores the signal (proc(5), `SigIgn` and
/// `SigCgt`).
fn has_default_effect(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return false;
    };
    let is_in = |set: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
    };
    !is_in("SigIgn") && !is_in("SigCgt")
}
