//! A child that can be killed.

use std::{
    io,
    os::windows::io::{AsHandle, OwnedHandle},
    process::{self, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use entwined_spawn::Job;

use crate::process::exit::ExitError;

/// A child. It is shared by its [`Process`](crate::process::Process), the task that waits for its
/// exit, and the thread that does.
#[derive(Debug)]
pub(in crate::process) struct Child {
    child: Mutex<process::Child>,
    /// To wait for it without the lock.
    handle: OwnedHandle,
    job: Option<Job>,
    /// Whether the job is for everything that it starts.
    leads_group: bool,
    /// Whether its job ends with this value.
    kill_on_drop: bool,
}

impl Child {
    pub(super) fn new(
        mut child: process::Child,
        job: Option<Job>,
        leads_group: bool,
        kill_on_drop: bool,
    ) -> io::Result<Self> {
        let handle = child.as_handle().try_clone_to_owned().inspect_err(|_| {
            let _ = child.kill();
        })?;
        Ok(Child {
            child: Mutex::new(child),
            handle,
            job,
            leads_group,
            kill_on_drop,
        })
    }

    /// Blocks this thread until the child has exited.
    pub(in crate::process) fn wait(&self) {
        if let Err(error) = entwined_spawn::wait(self.handle.as_handle()) {
            tracing::error!(%error, "cannot wait for a process");
        }
    }

    /// Returns its status if it has exited.
    pub(in crate::process) fn try_wait(&self) -> Option<Result<ExitStatus, ExitError>> {
        let status = self.lock().try_wait();
        status.map_err(|_| ExitError::Reaped).transpose()
    }

    /// Kills the child.
    pub(in crate::process) fn kill(&self) -> io::Result<()> {
        self.lock().kill()
    }

    /// Kills all processes in the child's group.
    pub(in crate::process) fn kill_group(&self) -> io::Result<()> {
        match self.job.as_ref().filter(|_| self.leads_group) {
            Some(job) => job.kill(),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the process does not lead a process group; start it with `process_group`",
            )),
        }
    }

    /// Kills the child, and its group if it leads one, unless it has exited.
    pub(in crate::process) fn kill_or_warn(&self) {
        let killed = match self.leads_group {
            true => self.kill_group(),
            false => self.kill(),
        };
        if let Err(error) = killed.or_else(|_| self.kill()) {
            let pid = self.lock().id();
            tracing::warn!(%error, pid, "cannot kill a process; it continues");
        }
    }

    fn lock(&self) -> MutexGuard<'_, process::Child> {
        // Nothing under this lock can panic.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    /// Its job is closed, which would end what is in it.
    fn drop(&mut self) {
        let Some(job) = self.job.as_ref().filter(|_| !self.kill_on_drop) else {
            return;
        };
        if let Err(error) = job.release() {
            tracing::warn!(%error, "what a process has started may end with it");
        }
    }
}
