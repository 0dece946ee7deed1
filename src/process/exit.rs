//! The exit of a process, as a future.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    io, mem,
    pin::Pin,
    process::ExitStatus,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use slotmap::{DefaultKey, SlotMap};

/// What is known about the exit of a process.
#[derive(Debug, Default)]
pub(super) struct Exit {
    status: Cell<Option<Result<ExitStatus, ExitError>>>,
    /// The wakers of the futures that wait.
    waiting: RefCell<SlotMap<DefaultKey, Waker>>,
}

impl Exit {
    pub(super) fn set(&self, status: Result<ExitStatus, ExitError>) {
        self.status.set(Some(status));
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
    }
}

/// Why there is no exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitError {
    /// Other code has taken the exit status: another part of the program reaps all children or
    /// ignores SIGCHLD. Windows has neither.
    Reaped,
    /// The reactor's run ended before the process did.
    Stopped,
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExitError::Reaped => {
                "another part of the program has taken the exit status \
                 (it waits for every child, or ignores SIGCHLD)"
            }
            ExitError::Stopped => "the reactor stopped before the process did",
        })
    }
}

impl Error for ExitError {}

/// The error for a process that has exited.
pub(super) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process has exited")
}

/// Waits until a process exits. Created by [`Process::exited`](super::Process::exited).
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Exited {
    exit: Rc<Exit>,
    /// Where its waker is, once it waits.
    key: Option<DefaultKey>,
}

impl Exited {
    pub(super) fn new(exit: Rc<Exit>) -> Self {
        Exited { exit, key: None }
    }
}

impl Future for Exited {
    type Output = Result<ExitStatus, ExitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(status) = self.exit.status.get() {
            return Poll::Ready(status);
        }
        let waker = cx.waker().clone();
        let (old, key) = {
            let mut waiting = self.exit.waiting.borrow_mut();
            match self.key.and_then(|key| waiting.get_mut(key)) {
                Some(present) => (Some(mem::replace(present, waker)), self.key),
                None => (None, Some(waiting.insert(waker))),
            }
        };
        self.key = key;
        // The old waker is dropped after the borrow ends: that may run any code.
        drop(old);
        Poll::Pending
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let waker = self.exit.waiting.borrow_mut().remove(key);
        drop(waker);
    }
}
