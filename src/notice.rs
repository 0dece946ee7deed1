//! Something that a thread tells a task.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Tells one task, from any thread, that something has happened. Several times that it was not
/// waited for count as one.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    has_come: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Notice {
    /// Notes that it has happened, and wakes the task that waits.
    pub(crate) fn tell(&self) {
        self.has_come.store(true, Ordering::SeqCst);
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready, once for each time that it has happened.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Before it is looked for: it may come in between.
        let waker = cx.waker().clone();
        let before = self.lock().replace(waker);
        drop(before);
        match self.has_come.swap(false, Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing under this lock can panic.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
