//! A process, by its pidfd: pidfd_open(2), Linux 5.4.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitId, pidfd_open, pidfd_send_signal},
};

/// A process that keeps its identity when its ID is used again.
#[derive(Debug)]
pub(super) struct Identity(OwnedFd);

impl Identity {
    /// Returns `None` if the process was reaped.
    pub(super) fn of(pid: Pid) -> io::Result<Option<Self>> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some(Identity(pidfd))),
            Err(Errno::SRCH) => Ok(None),
            // The error of a sandbox says nothing about the program.
            Err(error) => Err(io::Error::other(format!(
                "its exit cannot be watched (pidfd_open): {error}"
            ))),
        }
    }

    pub(super) fn wait_id(&self) -> WaitId<'_> {
        WaitId::PidFd(self.as_fd())
    }

    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.0, signal)
    }
}

/// The pidfd is readable once the process has exited.
impl AsFd for Identity {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
