//! Watches for the exit of a process.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    process::{Child, ExitStatus},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use rustix::{
    io::Errno,
    process::{self, Signal},
};

use super::reaper;
use crate::reactor::{Direction, Registration};

/// What is known about the exit of a process.
#[derive(Debug, Default)]
pub(super) struct Exit {
    status: Cell<Option<Result<ExitStatus, ExitError>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Exit {
    pub(super) fn is_known(&self) -> bool {
        self.status.get().is_some()
    }

    pub(super) fn set(&self, status: Result<ExitStatus, ExitError>) {
        self.status.set(Some(status));
        for waker in self.waiting.take() {
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
}

impl Exited {
    pub(super) fn new(exit: Rc<Exit>) -> Self {
        Exited { exit }
    }
}

impl Future for Exited {
    type Output = Result<ExitStatus, ExitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(status) = self.exit.status.get() {
            return Poll::Ready(status);
        }
        let mut waiting = self.exit.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Waits for a child. The child is reaped in every case.
pub(super) struct Watch {
    /// `None` once it is reaped.
    child: Option<Child>,
    pidfd: Registration<Rc<OwnedFd>>,
    exit: Rc<Exit>,
}

impl Watch {
    pub(super) fn new(child: Child, pidfd: Registration<Rc<OwnedFd>>, exit: Rc<Exit>) -> Self {
        Watch {
            child: Some(child),
            pidfd,
            exit,
        }
    }

    pub(super) async fn run(mut self) {
        self.pidfd.ready(Direction::Read).await;
        let Some(mut child) = self.child.take() else {
            return;
        };
        self.exit.set(match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            // The pidfd says that the child has exited, but there is nothing to wait for.
            Ok(None) | Err(_) => Err(ExitError::Reaped),
        });
    }
}

impl Drop for Watch {
    /// The reactor's run is over.
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            reaper::reap(child, self.pidfd.object());
            self.exit.set(Err(ExitError::Stopped));
        }
    }
}

pub(super) fn signal(pidfd: Option<&Rc<OwnedFd>>, signal: Signal) -> io::Result<()> {
    not_found(pidfd.map_or(Err(Errno::SRCH), |pidfd| {
        process::pidfd_send_signal(pidfd, signal)
    }))
}

pub(super) fn not_found(result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(|errno| match errno {
        Errno::SRCH => io::Error::new(io::ErrorKind::NotFound, "the process has exited"),
        errno => errno.into(),
    })
}
