//! Reports where a thread is stuck, while it is stuck.
//!
//! The reactor names each callback that blocked its thread for too long, but only after the
//! callback returns. A watchdog reports earlier: its own thread repeatedly asks the reactor's
//! thread for a sign of life. If none comes in time, it logs the stack of that thread. So it finds
//! callbacks that never return, such as a deadlock. It also finds slow code of the host (slow
//! drawing, a file dialog on a network disk), not only what runs in the reactor's callbacks.
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
//!         // Watches from here on, until it is dropped or the reactor ends.
//!         let watchdog = Watchdog::start(&handle, Duration::from_millis(500)).expect("a thread");
//!         // …
//!         # handle.stop();
//!         drop(watchdog);
//!     }
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//!
//! One thread, and two wake-ups per `limit`, even in an idle program. So use it in development, or
//! let users switch it on. The watched thread runs a callback of some 100 ns each time.
//!
//! # How the stack is taken
//!
//! The watchdog sends the thread a signal, whose handler walks the stack and records the addresses.
//! The watchdog's own thread then looks up names and lines in the program's debug information
//! (`debug = "line-tables-only"` in the profile is enough). The signal interrupts system calls once
//! (signal(7)): a sleep continues, `poll` may return `EINTR`. A thread in an uninterruptible wait
//! in the kernel has no stack to show, nor has one that blocks the signal; the report says so.
#![warn(missing_debug_implementations)]

mod sys;

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
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

/// A thread that does not return to its loop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stuck {
    /// How long there has been no sign of life.
    pub duration: Duration,
    /// Where the thread is: one line per function, the innermost first. `Err` is the reason why the
    /// stack is not available.
    pub stack: Result<String, &'static str>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the reactor's thread has given no sign of life for {:.1} s",
            self.duration.as_secs_f64()
        )?;
        match &self.stack {
            Ok(stack) => write!(f, "; its stack:\n{stack}"),
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
    /// The number of signs of life so far.
    signs: u64,
    /// The run has begun.
    running: bool,
    /// The watchdog must end: it was dropped, or the run has ended.
    over: bool,
    thread: Doing,
    /// Wakes the task that lasts as long as the run.
    task: Option<Waker>,
}

/// What the watchdog's thread does.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Doing {
    #[default]
    Watching,
    /// The program's own code, which may wait for the watched thread.
    Reporting,
    Ended,
}

impl Watchdog {
    /// Watches the current thread, which must be the reactor's, while the reactor runs. If there is
    /// no sign of life for `limit`, the thread's stack is logged through `tracing`, as an error. It
    /// is logged again after twice that time, four times, and so on.
    ///
    /// It watches one run, the current or the next one, and ends with it. Without a run, nobody
    /// gives signs of life.
    ///
    /// # Errors
    /// Returns the system's error if no thread can be started, or if the signal (the third highest
    /// real-time signal) cannot be handled. `AlreadyExists` if the program handles it in another
    /// way.
    pub fn start(handle: &Handle, limit: Duration) -> io::Result<Self> {
        Watchdog::start_with(handle, limit, |stuck| tracing::error!("{stuck}"))
    }

    /// Same as [`start`](Watchdog::start), but calls `report` instead of logging, on the watchdog's
    /// thread. It may wait for the reactor's thread: dropping the watchdog does not wait for a
    /// report that is being made.
    ///
    /// # Errors
    /// Same as [`start`](Watchdog::start).
    pub fn start_with(
        handle: &Handle,
        limit: Duration,
        report: impl Fn(&Stuck) + Send + 'static,
    ) -> io::Result<Self> {
        let target = Target::this_thread()?;
        // Without any, it would do nothing but ask.
        let limit = limit.max(Duration::from_millis(1));
        let (shared, remote) = (Arc::new(Shared::default()), handle.remote());
        shared.lock().running = handle.is_running();
        let thread = thread::Builder::new()
            .name("entwined-watchdog".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    sys::take_no_signals();
                    let _ends = Ends(&shared);
                    shared.watch(&remote, &target, limit, report);
                }
            })?;
        handle.spawn({
            let run = Run(shared.clone());
            poll_fn(move |cx| run.0.poll_over(cx))
        });
        Ok(Watchdog {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.end();
        let watching = |state: &mut State| state.thread == Doing::Watching;
        let state = self.shared.changed.wait_while(self.shared.lock(), watching);
        let doing = state.unwrap_or_else(PoisonError::into_inner).thread;
        let thread = self.thread.take().filter(|_| doing == Doing::Ended);
        if let Some(thread) = thread {
            // A panic in `report` was already printed.
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

/// The watchdog's thread has ended when this is dropped.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.does(Doing::Ended);
    }
}

/// Belongs to a task of the run. If it is dropped, the run has ended.
struct Run(Arc<Shared>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Travels to the reactor's thread and gives the sign of life there. If it is dropped on the way,
/// it reports that the run has ended.
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

    fn does(&self, what: Doing) {
        self.lock().thread = what;
        self.changed.notify_all();
    }

    fn end(&self) {
        let task = {
            let mut state = self.lock();
            state.over = true;
            state.task.take()
        };
        self.changed.notify_all();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Called in the run, so it has begun. Ready when the watchdog is over.
    fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.over {
            return Poll::Ready(());
        }
        state.running = true;
        let before = state.task.replace(waker);
        drop(state);
        drop(before);
        self.changed.notify_all();
        Poll::Pending
    }

    /// Waits until the run has begun. Returns false if the watchdog is over.
    fn wait_for_run(&self) -> bool {
        let state = self
            .changed
            .wait_while(self.lock(), |state| !state.running && !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        !state.over
    }

    fn watch(
        self: &Arc<Self>,
        remote: &Remote,
        target: &Target,
        limit: Duration,
        report: impl Fn(&Stuck),
    ) {
        if !self.wait_for_run() {
            return;
        }
        loop {
            let start = Instant::now();
            let asked = self.lock().signs;
            let sign = Sign(self.clone(), false);
            if remote.post(move |_| sign.give()).is_err() {
                return;
            }
            let mut patience = limit;
            loop {
                let left = patience.saturating_sub(start.elapsed());
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
                let stuck = Stuck {
                    duration: start.elapsed(),
                    stack: target.stack(),
                };
                self.does(Doing::Reporting);
                report(&stuck);
                self.does(Doing::Watching);
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
