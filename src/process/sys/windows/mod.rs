//! Windows: handles, job objects, named pipes.

mod child;
mod ends;
mod pipes;
mod stream;

pub(in crate::process) use self::{
    child::Child,
    ends::{OtherEnd, pair, stream},
};
pub use self::{ends::Io, stream::ChildStream};

use std::io;

use entwined_spawn::Spawn;

use super::{Plan, Started};
use crate::{reactor::Handle, table::Table};

/// What only some systems can do for a child.
#[derive(Debug, Default)]
pub(in crate::process) struct Extras {
    pub(in crate::process) die_with_parent: bool,
}

/// Starts a child.
pub(in crate::process) fn start(mut plan: Plan, _: &Handle) -> io::Result<Started> {
    let mut ends = Table::new();
    for number in 0..3 {
        let io = plan.streams.remove(&number).unwrap_or(Io::Null);
        let (theirs, end) = io.open(number)?;
        match number {
            0 => plan.command.stdin(theirs),
            1 => plan.command.stdout(theirs),
            _ => plan.command.stderr(theirs),
        };
        if let Some(end) = end {
            ends.insert(number, end);
        }
    }
    let mut spawn = Spawn::new(plan.command);
    if plan.leads_group {
        spawn = spawn.process_group();
    }
    // The system ends a group that is to end with a value of this program.
    if plan.extras.die_with_parent || (plan.leads_group && plan.kill_on_drop) {
        spawn = spawn.die_with_parent();
    }
    let (started, job) = spawn.spawn()?;
    let pid = started.id();
    let child = Child::new(started, job, plan.leads_group, plan.kill_on_drop)?;
    Ok(Started {
        pid,
        child: Some(child),
        ends,
    })
}
