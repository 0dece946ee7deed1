//! Windows: job objects.

mod sys;

use std::{
    io,
    os::windows::process::CommandExt,
    process::{Child, Command},
};

pub use self::sys::{Job, wait};

/// A command with what its child gets apart from arguments, environment and working directory.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    leads_group: bool,
    dies_with_parent: bool,
}

impl Spawn {
    /// Wraps a command. Its creation flags are set here.
    pub fn new(command: Command) -> Self {
        Spawn {
            command,
            leads_group: false,
            dies_with_parent: false,
        }
    }

    /// Puts the child, and so everything that it starts, into a [`Job`] of its own. A Ctrl-C in
    /// this program's console does not reach it.
    #[must_use]
    pub fn process_group(mut self) -> Self {
        self.leads_group = true;
        self
    }

    /// Lets the system end the child when the last handle of its [`Job`] is closed, which the
    /// system does at the latest when this program ends, in whatever way.
    ///
    /// What the child itself starts is not in that job, unless it leads a [process
    /// group](Spawn::process_group).
    #[must_use]
    pub fn die_with_parent(mut self) -> Self {
        self.dies_with_parent = true;
        self
    }

    /// Starts the child, and returns it with its job if it is in one.
    ///
    /// If this program has no console, a child for the console gets one without a window.
    ///
    /// The child inherits the three standard handles, and those that this program has made
    /// inheritable. Those of Rust's standard library are not.
    ///
    /// # Errors
    /// The operating system's error, also if the program cannot be executed. Nothing is left
    /// behind.
    pub fn spawn(mut self) -> io::Result<(Child, Option<Job>)> {
        let job = match self.leads_group || self.dies_with_parent {
            true => Some(Job::new(self.dies_with_parent, self.leads_group)?),
            false => None,
        };
        let flags = [
            (self.leads_group, sys::NEW_PROCESS_GROUP),
            (job.is_some(), sys::SUSPENDED),
            (!sys::has_console(), sys::NO_WINDOW),
        ];
        let flags = flags.iter().filter(|flag| flag.0).map(|flag| flag.1).sum();
        let mut child = self.command.creation_flags(flags).spawn()?;
        if let Some(job) = &job {
            // It has not run yet, so it has started nothing that is not in the job.
            let resumed = job.add(&child).and_then(|()| sys::resume(child.id()));
            if let Err(error) = resumed {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        }
        Ok((child, job))
    }
}
