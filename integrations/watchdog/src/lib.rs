//! Tells where a thread is stuck, while it is stuck.
//!
//! The reactor names each callback that held its thread for too long, once that is over. A watchdog
//! tells before: a thread of its own asks the reactor's for a sign of life again and again, and
//! when none comes in time, it writes the stack of that thread to the log. So it finds what never
//! returns, such as a deadlock, and what the host's own code does (a slow drawing, a file dialog on
//! a network disk), not only what runs in the reactor's callbacks.
//!
//! ```
//! use std::time::Duration;
//!
//! use entwined::Standalone;
//! use entwined_watchdog::Watchdog;
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! handle.call_soon({
//!     let handle = handle.clone();
//!     move || {
//!         // From here on, until it is dropped or the reactor ends.
//!         let watchdog = Watchdog::start(&handle, Duration::from_millis(500)).expect("a thread");
//!         // …
//!         # handle.stop().unwrap();
//!         drop(watchdog);
//!     }
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//!
//! One thread, and two wake-ups in each span of the limit, also of a program that has nothing to
//! do: this is for development, or for a program whose users are asked to switch it on. The one
//! that is watched runs a callback of some 100 ns each time.
//!
//! # How the stack is taken
//!
//! The thread is sent a signal, whose handler walks the stack and notes the addresses; names and
//! lines are found by the watchdog's own thread, from the program's debug information (`debug =
//! "line-tables-only"` in the profile is enough). The signal interrupts system calls once
//! (signal(7)): a sleep goes on, `poll` may return `EINTR`. A thread in an uninterruptible wait of
//! the kernel has no stack to show; that is said instead.

mod sys;

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use entwined::{Handle, Remote};

use sys::Target;

/// Watches the thread of a reactor until it is dropped.
#[must_use = "it watches until it is dropped"]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A thread that does not come back to its loop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stuck {
    /// For how long there has been no sign of life.
    pub duration: Duration,
    /// Where it is: a line for each function, the innermost first; or why that cannot be told.
    pub stack: Result<String, &'static str>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the thread of the reactor has given no sign of life for {:.1} s",
            self.duration.as_secs_f64()
        )?;
        match &self.stack {
            Ok(stack) => write!(f, "; it is here:\n{stack}"),
            Err(why) => write!(f, "; {why}"),
        }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many signs of life there were.
    signs: u64,
    /// The watchdog is to end: it was dropped, or the run has ended.
    over: bool,
}

impl Watchdog {
    /// Watches the thread that this is called on, which must be the reactor's, while the reactor
    /// runs. When there is no sign of life for `limit`, its stack is logged through `tracing`, as
    /// an error; and again when it has been twice as long, four times, and so on.
    ///
    /// It ends with the reactor's run.
    ///
    /// # Errors
    /// What the system says when there is no thread to be had, or the signal (the third highest
    /// real-time signal) cannot be handled.
    pub fn start(handle: &Handle, limit: Duration) -> io::Result<Self> {
        Watchdog::start_with(handle, limit, |stuck| tracing::error!("{stuck}"))
    }

    /// As [`start`](Watchdog::start), with `report` called instead, on the watchdog's thread.
    ///
    /// # Errors
    /// As for [`start`](Watchdog::start).
    pub fn start_with(
        handle: &Handle,
        limit: Duration,
        report: impl Fn(&Stuck) + Send + 'static,
    ) -> io::Result<Self> {
        let target = Target::this_thread()?;
        let (shared, remote) = (Arc::new(Shared::default()), handle.remote());
        let thread = thread::Builder::new()
            .name("entwined-watchdog".into())
            .spawn({
                let shared = shared.clone();
                move || shared.watch(&remote, &target, limit, report)
            })?;
        Ok(Watchdog {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            // A panic of a report was printed already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog")
            .field("signs_of_life", &self.shared.lock().signs)
            .finish_non_exhaustive()
    }
}

/// Travels to the reactor's thread and gives the sign there. One that is dropped on the way says
/// that the run has ended.
struct Sign(Arc<Shared>, bool);

impl Sign {
    fn give(mut self) {
        self.1 = true;
        self.0.lock().signs += 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        if !self.1 {
            self.0.end();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    fn watch(
        self: &Arc<Self>,
        remote: &Remote,
        target: &Target,
        limit: Duration,
        report: impl Fn(&Stuck),
    ) {
        loop {
            let start = Instant::now();
            let asked = self.lock().signs;
            let sign = Sign(self.clone(), false);
            if remote.post(move |_| sign.give()).is_err() {
                return;
            }
            let mut patience = limit;
            loop {
                let left = (start + patience).saturating_duration_since(Instant::now());
                let state = self.lock();
                let (state, waited) = self
                    .changed
                    .wait_timeout_while(state, left, |state| state.signs == asked && !state.over)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.over {
                    return;
                }
                drop(state);
                if !waited.timed_out() {
                    break;
                }
                report(&Stuck {
                    duration: start.elapsed(),
                    stack: target.stack(),
                });
                patience = patience.saturating_mul(2);
            }
            let state = self.lock();
            let (state, _) = self
                .changed
                .wait_timeout_while(state, limit, |state| !state.over)
                .unwrap_or_else(PoisonError::into_inner);
            if state.over {
                return;
            }
        }
    }
}
