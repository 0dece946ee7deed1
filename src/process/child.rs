//! A child that has to be reaped, and until then can be sent signals.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::Errno,
    process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus},
};

use super::exit::ExitError;

/// A child. It is shared by its [`Process`](super::Process), the task that waits for its exit, and
/// after the run the thread that does.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// Whether it leads a process group of its own.
    leads_group: bool,
    /// Whether it is known to be reaped. Its ID may then belong to another process. Locked while it
    /// is reaped, and while the ID is used.
    reaped: Mutex<bool>,
}

impl Child {
    /// Opens the child of this ID. Returns `None` if it has exited and other code has reaped it.
    pub(super) fn open(pid: u32, leads_group: bool) -> io::Result<Option<Self>> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        match process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some(Child {
                pid,
                pidfd,
                leads_group,
                reaped: Mutex::new(false),
            })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps the child if it has exited. Returns `None` if it has not, or if a debugger has to hear
    /// of the exit first.
    pub(super) fn try_wait(&self) -> Option<Result<ExitStatus, ExitError>> {
        let mut reaped = self.lock();
        if *reaped {
            return Some(Err(ExitError::Reaped));
        }
        let exit = self.wait(WaitIdOptions::NOWAIT).and_then(|news| {
            // The news may be that it has stopped, if this process is its debugger. That is taken
            // by the code that debugs.
            match news.as_ref().and_then(exit_status) {
                Some(_) => self.wait(WaitIdOptions::empty()),
                None => Ok(None),
            }
        });
        let exit = match exit {
            Ok(None) => return None,
            Ok(Some(exit)) => exit_status(&exit).ok_or(ExitError::Reaped),
            Err(_) => Err(ExitError::Reaped),
        };
        *reaped = true;
        Some(exit)
    }

    fn wait(&self, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)
    }

    /// Sends a signal to the child.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        or_gone(process::pidfd_send_signal(&self.pidfd, signal))
    }

    /// Sends a signal to the child's process group.
    pub(super) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if !self.leads_group {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the process does not lead a process group; start it with `process_group`",
            ));
        }
        let reaped = self.lock();
        // Other code may have reaped it.
        if *reaped || self.wait(WaitIdOptions::NOWAIT).is_err() {
            return Err(gone());
        }
        or_gone(process::kill_process_group(self.pid, signal))
    }

    /// Kills the child, and its group if it leads one, unless it has exited.
    pub(super) fn kill_or_warn(&self) {
        let killed = match self.leads_group {
            true => self.signal_group(Signal::KILL),
            false => self.signal(Signal::KILL),
        };
        match killed.or_else(|_| self.signal(Signal::KILL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let pid = self.pid.as_raw_nonzero().get();
                tracing::warn!(%error, pid, "cannot kill a process; it continues");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its pidfd, which is readable once it has exited.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Returns the status of a child that has exited, and `None` if it has stopped or goes on.
fn exit_status(news: &WaitIdStatus) -> Option<ExitStatus> {
    let dumped = if news.dumped() { 0x80 } else { 0 };
    let code = news.exit_status().map(|code| (code & 0xff) << 8);
    let signal = news.terminating_signal().map(|signal| signal | dumped);
    code.or(signal).map(ExitStatus::from_raw)
}

/// The error for a process that has exited.
pub(super) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process has exited")
}

fn or_gone(result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(|errno| match errno {
        Errno::SRCH => gone(),
        errno => errno.into(),
    })
}
