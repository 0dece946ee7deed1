//! A process, by its ID. The ID is the process's own until it is reaped.

use std::io;

use rustix::process::{Pid, Signal, WaitId, kill_process};

#[derive(Debug)]
pub(super) struct Identity(Pid);

impl Identity {
    pub(super) fn of(pid: Pid) -> io::Result<Option<Self>> {
        Ok(Some(Identity(pid)))
    }

    pub(super) fn wait_id(&self) -> WaitId<'_> {
        WaitId::Pid(self.0)
    }

    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        kill_process(self.0, signal)
    }
}
