//! The exit of a process, as a future.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    process::ExitStatus,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// What is known about the exit of a process.
#[derive(Debug, Default)]
pub(super) struct Exit {
    status: Cell<Option<Result<ExitStatus, ExitError>>>,
    /// The wakers of the futures that wait, by the futures' numbers.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

impl Exit {
    pub(super) fn set(&self, status: Result<ExitStatus, ExitError>) {
        self.status.set(Some(status));
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }
}

/// Why there is no exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitError {
    /// Other code has taken the exit status: another part of the program reaps all children or
    /// ignores SIGCHLD.
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

/// Waits until a process exits. Created by [`Process::exited`](super::Process::exited).
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Exited {
    exit: Rc<Exit>,
    number: u64,
}

impl Exited {
    pub(super) fn new(exit: Rc<Exit>) -> Self {
        let number = exit.next.get();
        exit.next.set(number + 1);
        Exited { exit, number }
    }
}

impl Future for Exited {
    type Output = Result<ExitStatus, ExitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(status) = self.exit.status.get() {
            return Poll::Ready(status);
        }
        let waker = cx.waker().clone();
        // The old waker is dropped after the borrow ends: that may run any code.
        let old = self.exit.waiting.borrow_mut().insert(self.number, waker);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        let waker = self.exit.waiting.borrow_mut().remove(&self.number);
        drop(waker);
    }
}
