//! A thread that waits for a selector, for hosts whose loop cannot.
//!
//! It and the host's loop take turns:
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
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::Selector;
use crate::{log, reactor::backend::Notify};

/// Waits for a [`Selector`] on a thread of its own, which does nothing else, and wakes the host's
/// loop when that is readable: for a backend in a loop that can watch no file descriptor, but be
/// woken by other threads. [`Interleave`](super::Interleave) is made of it.
///
/// The host calls [`watch`](Watcher::watch) each time before it sleeps, after it has taken what the
/// selector had. So the thread never looks at a readiness that the host was told of already (it
/// would spin), and each later one is followed by a wake-up (none is lost): if the thread looks too
/// early, at one that the host is just taking, the host makes one slice in vain.
///
/// Dropping it ends the thread, and waits for that.
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
    /// The host is awake, or will be: it was woken.
    Resting,
    /// The host is to be woken then.
    Later(Instant),
    /// The thread waits for the selector.
    Watching,
    Ended,
}

impl Watcher {
    /// Starts the thread, at rest. `wake` is called on it, must not block, and says whether the
    /// host is still there.
    ///
    /// # Errors
    /// When there are no file descriptors or no threads left.
    pub fn spawn(
        selector: &Selector,
        wake: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Resting),
            changed: Condvar::new(),
        });
        let fd = selector.as_fd().try_clone_to_owned()?;
        let thread = thread::Builder::new()
            .name("entwined-watcher".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run(&fd, wake)
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

    /// Wakes the host once when `delay` is over, unless [`rest`](Watcher::rest) or
    /// [`watch`](Watcher::watch) is called before: for a slice in whose callback the host may run a
    /// loop of its own, such as a dialog's, that is to be served too.
    pub fn watch_in(&self, delay: Duration) {
        self.shared.change(State::Later(Instant::now() + delay));
    }

    /// Does nothing until it is told to.
    pub fn rest(&self) {
        self.shared.change(State::Resting);
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
        // If it waits for the selector, this is what makes it look up.
        self.notifier.notify();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, to: State) {
        let mut state = self.lock();
        if *state != State::Ended && *state != to {
            *state = to;
            self.changed.notify_one();
        }
    }

    fn run(&self, selector: &OwnedFd, wake: impl Fn() -> bool) {
        loop {
            match self.wait() {
                State::Ended => return,
                State::Watching => match poll(&mut [PollFd::new(selector, PollFlags::IN)], None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => {
                        log::error(format_args!(
                            "the network is no longer watched, because the operating system \
                             refused to wait: {error}"
                        ));
                        return;
                    }
                },
                // The time is over.
                State::Later(_) | State::Resting => {}
            }
            let mut state = self.lock();
            match *state {
                State::Ended => return,
                // Before it wakes the host: that changes it again.
                State::Watching | State::Later(_) => *state = State::Resting,
                // The host has woken by itself while the thread was in poll(2).
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
