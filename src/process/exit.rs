//! The exit of a process, as a future.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    process::ExitStatus,
    rc::Rc,
    task::{Context, Poll},
};

use crate::wake::{WakeList, WakePlace};

/// What is known about the exit of a process.
#[derive(Debug, Default)]
pub(super) struct Exit {
    status: Cell<Option<Result<ExitStatus, ExitError>>>,
    /// The futures that wait.
    waiting: WakeList,
}

impl Exit {
    pub(super) fn set(&self, status: Result<ExitStatus, ExitError>) {
        self.status.set(Some(status));
        self.waiting.wake();
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
    place: WakePlace,
}

impl Exited {
    pub(super) fn new(exit: Rc<Exit>) -> Self {
        Exited {
            exit,
            place: WakePlace::default(),
        }
    }
}

impl Future for Exited {
    type Output = Result<ExitStatus, ExitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(status) = self.exit.status.get() {
            return Poll::Ready(status);
        }
        let this = &mut *self;
        this.place.register(&this.exit.waiting, cx.waker());
        Poll::Pending
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        self.place.leave(&self.exit.waiting);
    }
}
