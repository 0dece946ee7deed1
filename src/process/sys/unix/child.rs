//! A child that has to be reaped, and until then can be sent signals.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::Errno,
    process::{self, Pid, Signal, WaitIdOptions, WaitIdStatus},
};

use super::Identity;
use crate::process::exit::{ExitError, gone};

/// A child. It is shared by its [`Process`](crate::process::Process), the task that waits for its
/// exit, and a thread that does so after the run, or all the time.
#[derive(Debug)]
pub(in crate::process) struct Child {
    pid: Pid,
    pub(super) identity: Identity,
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
        let identity = Identity::of(pid)?;
        Ok(identity.map(|identity| Child {
            pid,
            identity,
            leads_group,
            reaped: Mutex::new(false),
        }))
    }

    /// Blocks this thread until the child has exited. It is not reaped.
    pub(in crate::process) fn wait(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // Other errors say that other code has reaped it.
        while matches!(
            process::waitid(self.identity.wait_id(), options),
            Err(Errno::INTR)
        ) {}
    }

    /// Reaps the child if it has exited. Returns `None` if it has not, or if a debugger has to hear
    /// of the exit first.
    pub(in crate::process) fn try_wait(&self) -> Option<Result<ExitStatus, ExitError>> {
        let mut reaped = self.lock();
        if *reaped {
            return Some(Err(ExitError::Reaped));
        }
        let exit = self.news(WaitIdOptions::NOWAIT).and_then(|news| {
            // The news may be that it has stopped, if this process is its debugger. That is taken
            // by the code that debugs.
            match news.as_ref().and_then(exit_status) {
                Some(_) => self.news(WaitIdOptions::empty()),
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

    fn news(&self, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        process::waitid(self.identity.wait_id(), options)
    }

    /// Sends a signal to the child.
    pub(in crate::process) fn signal(&self, signal: Signal) -> io::Result<()> {
        let _ours = self.while_ours()?;
        or_gone(self.identity.signal(signal))
    }

    /// Sends a signal to the child's process group.
    pub(in crate::process) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if !self.leads_group {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the process does not lead a process group; start it with `process_group`",
            ));
        }
        let _ours = self.while_ours()?;
        or_gone(process::kill_process_group(self.pid, signal))
    }

    /// Kills the child.
    pub(in crate::process) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Kills the child's process group.
    pub(in crate::process) fn kill_group(&self) -> io::Result<()> {
        self.signal_group(Signal::KILL)
    }

    /// Kills the child, and its group if it leads one, unless it has exited.
    pub(in crate::process) fn kill_or_warn(&self) {
        let killed = match self.leads_group {
            true => self.kill_group(),
            false => self.kill(),
        };
        match killed.or_else(|_| self.kill()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let pid = self.pid.as_raw_nonzero().get();
                tracing::warn!(%error, pid, "cannot kill a process; it continues");
            }
            _ => {}
        }
    }

    /// Keeps the child from being reaped here while its ID is used.
    fn while_ours(&self) -> io::Result<MutexGuard<'_, bool>> {
        let reaped = self.lock();
        // Other code may have reaped it.
        match *reaped || self.news(WaitIdOptions::NOWAIT).is_err() {
            true => Err(gone()),
            false => Ok(reaped),
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status of a child that has exited, and `None` if it has stopped or goes on.
fn exit_status(news: &WaitIdStatus) -> Option<ExitStatus> {
    let dumped = if news.dumped() { 0x80 } else { 0 };
    let code = news.exit_status().map(|code| (code & 0xff) << 8);
    let signal = news.terminating_signal().map(|signal| signal | dumped);
    code.or(signal).map(ExitStatus::from_raw)
}

fn or_gone(result: rustix::io::Result<()>) -> io::Result<()> {
    result.map_err(|errno| match errno {
        Errno::SRCH => gone(),
        errno => errno.into(),
    })
}
