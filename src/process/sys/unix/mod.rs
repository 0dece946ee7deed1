//! Unix: file descriptors, signals, children that have to be reaped.

#[cfg(any(not(target_os = "linux"), entwined_portable))]
mod by_id;
mod child;
mod ends;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
mod pidfd;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
mod reaper;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
mod watched;

#[cfg(any(not(target_os = "linux"), entwined_portable))]
use self::by_id::Identity;
pub use self::ends::{ChildStream, Io};
#[cfg(target_os = "linux")]
use self::linux::More;
#[cfg(not(target_os = "linux"))]
use self::other::More;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
use self::pidfd::Identity;
#[cfg(all(target_os = "linux", not(entwined_portable)))]
pub(in crate::process) use self::watched::Exits;
pub(in crate::process) use self::{
    child::Child,
    ends::{OtherEnd, pair, stream},
};

use std::io;

use entwined_spawn::{Spawn, Terminal};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Plan, Started, TERMINAL};
use crate::{reactor::Handle, table::Table, transport::fd::TerminalSize};

/// What all Unix systems can do for a child, and `more`, which only some can.
#[derive(Debug, Default)]
pub(in crate::process) struct Extras {
    pub(in crate::process) terminal: Option<TerminalSize>,
    pub(in crate::process) more: More,
}

/// Starts a child.
pub(in crate::process) fn start(mut plan: Plan, _: &Handle) -> io::Result<Started> {
    let leads_group = plan.leads_group || plan.extras.terminal.is_some();
    let (mut spawn, mut ends) = (Spawn::new(plan.command), Table::new());
    match plan.extras.terminal {
        Some(size) => {
            let terminal = Terminal::open(size.columns, size.rows)?;
            spawn = spawn.terminal(terminal.device);
            ends.insert(TERMINAL, OtherEnd::both(terminal.controller));
        }
        None => {
            for number in 0..3 {
                if !plan.streams.contains(&number) {
                    plan.streams.insert(number, Io::Null);
                }
            }
        }
    }
    for (number, io) in plan.streams {
        let (theirs, end) = io.open(number)?;
        spawn = spawn.fd(number, theirs);
        if let Some(end) = end {
            ends.insert(number, end);
        }
    }
    if plan.leads_group {
        spawn = spawn.process_group();
    }
    let mut started = plan.extras.more.add_to(spawn).spawn()?;
    let child = Child::open(started.id(), leads_group).inspect_err(|_| {
        // Its exit cannot be watched.
        if let Some(pid) = Pid::from_raw(started.id() as i32).filter(|_| leads_group) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = started.kill();
        let _ = started.wait();
    })?;
    Ok(Started {
        pid: started.id(),
        child,
        ends,
    })
}
