//! The thread that waits for the network while winit's loop waits for the display.
//!
//! The two take turns:
//!
//! ```text
//!            watch()                 the selector is readable: wake the loop
//!   Resting ---------> Watching --------------------------------------------> Resting
//!                         drop: Ended, from either
//! ```
//!
//! The loop calls `watch` each time before it sleeps, after it has taken what the selector had. So the thread never looks at a
//! readiness that the loop was told of already (it would spin), and each later one is followed by a wake (none is lost): if it looks too
//! early, at one that the loop is just taking, the loop makes one slice in vain.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use entwined::reactor::{Notify, Selector};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

pub(crate) struct Watcher {
    shared: Arc<Shared>,
    notifier: Arc<dyn Notify>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The loop is awake, or will be: it was told.
    Resting,
    /// The thread waits for the selector.
    Watching,
    /// The loop is gone.
    Ended,
}

impl Watcher {
    /// Starts the thread, at rest. `wake` is called on it and says whether the loop is still there.
    pub(crate) fn spawn(selector: &Selector, wake: impl Fn() -> bool + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::Resting), changed: Condvar::new() });
        let fd = selector.as_fd().try_clone_to_owned()?;
        let thread = thread::Builder::new().name("entwined-winit".into()).spawn({
            let shared = shared.clone();
            move || shared.run(&fd, wake)
        })?;
        Ok(Watcher { shared, notifier: selector.notifier(), thread: Some(thread) })
    }

    /// Wakes the loop once, when the selector has something. Called before each sleep.
    pub(crate) fn watch(&self) {
        let mut state = self.shared.lock();
        if *state == State::Resting {
            *state = State::Watching;
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *self.shared.lock() = State::Ended;
        self.shared.changed.notify_one();
        // If it waits for the selector, this is what makes it look up.
        self.notifier.notify();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported on standard error already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, selector: &OwnedFd, wake: impl Fn() -> bool) {
        loop {
            let state = self.lock();
            let rested = self.changed.wait_while(state, |state| *state == State::Resting);
            if *rested.unwrap_or_else(PoisonError::into_inner) == State::Ended {
                return;
            }
            match poll(&mut [PollFd::new(selector, PollFlags::IN)], None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the network is not watched any more: the operating system refused to wait");
                    return;
                }
            }
            let mut state = self.lock();
            if *state == State::Ended {
                return;
            }
            *state = State::Resting;
            drop(state);
            if !wake() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
