//! A thread that waits on a selector, for hosts whose loop cannot.
//!
//! The thread and the host's loop alternate:
//!
//! ```text
//!            watch()                 the selector is readable: wake the host
//!   Resting ---------> Watching --------------------------------------------> Resting
//!      |                                                                         ^
//!      +-- watch_in() -> Later ------ the time is over: wake the host -----------+
//!
//!   rest(): Resting, from Later.     drop: Ended, from any.
//! ```

use std::{
    fmt, io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Selector, selector::Waiter};
use crate::{log, reactor::backend::Notify, sys};

/// Waits on a [`Selector`] in a thread of its own, and wakes the host's loop when the selector is
/// readable. It is for a backend whose loop cannot watch a file descriptor but can be woken by
/// other threads. [`Interleave`](super::Interleave) uses it.
///
/// The host calls [`watch`](Watcher::watch) each time before it sleeps, after it has fetched the
/// selector's events. So the thread never polls for readiness that the host already knows of (it
/// would spin), and every later readiness causes a wake-up (none is lost). If the thread polls too
/// early, and sees events that the host is just fetching, the host runs one slice in vain.
///
/// Dropping it ends the thread and waits for the thread to finish.
pub struct Watcher {
    shared: Arc<Shared>,
    notifier: Arc<dyn Notify>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The host is awake, or has been woken.
    Resting,
    /// Wake the host at this instant.
    Later(Instant),
    /// The thread waits on the selector.
    Watching,
    Ended,
}

impl Watcher {
    /// Starts the thread, at rest. `wake` is called on that thread, must not block, and returns
    /// whether the host still exists.
    ///
    /// # Errors
    /// Fails if the process is out of file descriptors or threads.
    pub fn spawn(
        selector: &Selector,
        wake: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Resting),
            changed: Condvar::new(),
        });
        let waiter = Waiter::new(selector)?;
        let thread = thread::Builder::new()
            .name("entwined-watcher".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    sys::take_no_signals();
                    shared.run(&waiter, wake)
                }
            })?;
        Ok(Watcher {
            shared,
            notifier: selector.notifier(),
            thread: Some(thread),
        })
    }

    /// Wakes the host once, when the selector is readable.
    pub fn watch(&self) {
        self.shared.change(State::Watching);
    }

    /// Wakes the host once after `delay`, unless [`rest`](Watcher::rest) or
    /// [`watch`](Watcher::watch) is called first. Call it before a slice: if the host runs a nested
    /// loop in one of the slice's callbacks, for example a dialog's, the network is served in that
    /// loop too.
    pub fn watch_in(&self, delay: Duration) {
        // An instant that the clock does not reach never comes.
        let at = Instant::now().checked_add(delay);
        self.shared.change(at.map_or(State::Resting, State::Later));
    }

    /// Pauses the thread until the next call.
    pub fn rest(&self) {
        self.shared.change(State::Resting);
    }
}

impl Watcher {
    /// Returns a handle that may go to any thread.
    pub(crate) fn remote(&self) -> WatcherRemote {
        WatcherRemote {
            shared: self.shared.clone(),
            notifier: self.notifier.clone(),
        }
    }
}

/// Wakes the host later, from any thread.
pub(crate) struct WatcherRemote {
    shared: Arc<Shared>,
    notifier: Arc<dyn Notify>,
}

impl WatcherRemote {
    /// Wakes the host once after `delay`, unless it is awake by then.
    pub(crate) fn wake_in(&self, delay: Duration) {
        let watching = *self.shared.lock() == State::Watching;
        self.shared.change(State::Later(Instant::now() + delay));
        if watching {
            // The thread waits on the selector. It looks up, wakes the host at once, and waits the
            // next time.
            self.notifier.notify();
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("state", &*self.shared.lock())
            .finish_non_exhaustive()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.change(State::Ended);
        // If the thread is polling the selector, this ends the poll.
        self.notifier.notify();
        if let Some(thread) = self.thread.take() {
            sys::leave(thread);
        }
    }
}

/// How long until the host looks itself, if the system refuses to wait. It may have no memory for a
/// moment.
const REFUSED: Duration = Duration::from_millis(20);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, to: State) {
        let mut state = self.lock();
        if *state != State::Ended && *state != to {
            *state = to;
            self.changed.notify_one();
        }
    }

    /// The thread cannot wait on the selector. The host looks itself, a little later.
    fn look_later(&self) {
        let mut state = self.lock();
        if *state == State::Watching {
            *state = State::Later(Instant::now() + REFUSED);
        }
    }

    fn run(&self, waiter: &Waiter, wake: impl Fn() -> bool) {
        let mut refused = false;
        loop {
            match self.wait() {
                State::Ended => return,
                State::Watching => match waiter.wait() {
                    Ok(()) => refused = false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        if !mem::replace(&mut refused, true) {
                            log::error(format_args!(
                                "the operating system refuses to wait for the network, which is \
                                 looked at again and again until it does: {error}"
                            ));
                        }
                        self.look_later();
                        continue;
                    }
                },
                // The delay is over.
                State::Later(_) | State::Resting => {}
            }
            let mut state = self.lock();
            match *state {
                State::Ended => return,
                // Set this before waking the host, because the host changes it again.
                State::Watching | State::Later(_) => *state = State::Resting,
                // The host woke for another reason while the thread waited.
                State::Resting => {}
            }
            drop(state);
            if !wake() {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> State {
        let mut state = self.lock();
        loop {
            state = match *state {
                State::Watching | State::Ended => return *state,
                State::Resting => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                State::Later(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return *state;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            }
        }
    }
}
