//! Child processes: their input and output as streams, their exit as a result.
//!
//! ```
//! use entwined::{Standalone, process::{Command, Io}, protocol::{self, Lost, Protocol, Connection}};
//!
//! /// Counts the bytes that `sort` returns.
//! struct Sorted;
//!
//! impl Protocol for Sorted {
//!     fn connection_made(&mut self, transport: &Connection) {
//!         transport.write(b"pear\napple\n");
//!         transport.end();
//!     }
//!
//!     fn data_received(&mut self, _: &Connection, data: &[u8]) {
//!         assert_eq!(data, b"apple\npear\n");
//!     }
//! }
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let mut process = Command::new("sort").stdin(Io::Stream).stdout(Io::Stream).spawn(&handle)?;
//! protocol::start(&handle, process.take_stream().expect("both are streams"), Sorted);
//!
//! handle.clone().spawn(async move {
//!     let status = process.exited().await.expect("its status");
//!     assert!(status.success());
//!     handle.stop();
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For a program with several streams, use a [`ProcessProtocol`]. For a program that needs a
//! terminal, use [`Command::terminal`].
//!
//! # The end of a process
//!
//! The exit of a process and the end of its output are two different events: a grandchild may keep
//! the pipe open for much longer. [`Process::exited`] reports the first. The end of a stream
//! reports the second.
//!
//! Exits are reported through a pidfd (pidfd_open(2), Linux 5.3), which the reactor watches like
//! any other fd. There is no handler for SIGCHLD, so a GUI toolkit can watch its own children. If a
//! program reaps all children itself (`waitpid(-1)`) or ignores SIGCHLD, the exit status is lost;
//! this is reported as [`ExitError::Reaped`].
//!
//! No child stays a zombie. Even if nothing waits for a child, it is reaped: by the reactor while
//! it runs, and by a thread after that. When a [`Process`] is dropped, the process continues,
//! unless [`kill_on_drop`](Command::kill_on_drop) was set.

mod command;
mod exit;
mod output;
mod protocol;
mod reaper;
mod stream;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{OwnedFd, RawFd},
    rc::Rc,
};

pub use crate::transport::fd::TerminalSize;
pub use command::{Command, Io, SpawnError};
pub use exit::{ExitError, Exited};
pub use output::{Output, OutputError};
pub use protocol::{ProcessProtocol, ProcessTransport, start};
use rustix::process::{Pid, Signal};
pub use stream::ProcessStream;

use self::{
    command::{OtherEnd, TERMINAL},
    exit::Exit,
};
use crate::transport::fd::{self, FdStream};

/// A child process. Created by [`Command::spawn`].
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// `None` if the child was gone before the pidfd could be opened.
    pidfd: Option<Rc<OwnedFd>>,
    exit: Rc<Exit>,
    /// Whether the child leads a process group of its own.
    leads_group: bool,
    kill_on_drop: bool,
    /// This side's ends of its fds that were not taken yet, by fd number.
    ends: BTreeMap<RawFd, OtherEnd>,
    handle: crate::reactor::Handle,
}

impl Process {
    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits until the process has exited. The future does not keep the process alive. It can be
    /// created any number of times, and is ready at once after the exit.
    pub fn exited(&self) -> Exited {
        Exited::new(self.exit.clone())
    }

    /// Takes the child's standard input, to write to. Returns `None` if it was taken before or is
    /// not a [stream](Io::Stream). Close the stream to end the input.
    pub fn take_stdin(&mut self) -> Option<FdStream> {
        self.take_fd(0)
    }

    /// Takes the child's standard output, to read. Returns `None` as for
    /// [`take_stdin`](Process::take_stdin).
    pub fn take_stdout(&mut self) -> Option<FdStream> {
        self.take_fd(1)
    }

    /// Takes the child's standard error, to read. Returns `None` as for
    /// [`take_stdin`](Process::take_stdin).
    pub fn take_stderr(&mut self) -> Option<FdStream> {
        self.take_fd(2)
    }

    /// Takes this side's end of the child's fd. Returns `None` if it was taken before or is not a
    /// stream.
    pub fn take_fd(&mut self, number: RawFd) -> Option<FdStream> {
        let end = self.ends.remove(&number)?;
        let stream = match (end.output, end.input) {
            (true, true) => fd::duplex(&self.handle, end.fd),
            (output, _) => {
                let (input, output) = if output {
                    (Some(end.fd), None)
                } else {
                    (None, Some(end.fd))
                };
                fd::pair(&self.handle, input, output)
            }
        };
        self.watched(stream)
    }

    /// Takes the child's [terminal](Command::terminal). Returns `None` if it was taken before.
    /// Dropping the stream hangs up the terminal (SIGHUP).
    ///
    /// The terminal starts in its default mode: it echoes what is written, and passes whole lines
    /// to the child.
    pub fn take_terminal(&mut self) -> Option<FdStream> {
        self.take_fd(TERMINAL)
    }

    /// Takes the child's standard output and input as one stream for a
    /// [protocol](crate::protocol::start), or its terminal if it has one. Returns `None` if one of
    /// them was taken before or is not a stream.
    pub fn take_stream(&mut self) -> Option<FdStream> {
        if self.ends.contains_key(&TERMINAL) {
            return self.take_terminal();
        }
        if !self.ends.contains_key(&0) || !self.ends.contains_key(&1) {
            return None;
        }
        let (input, output) = (self.ends.remove(&1), self.ends.remove(&0));
        let stream = fd::pair(
            &self.handle,
            input.map(|end| end.fd),
            output.map(|end| end.fd),
        );
        self.watched(stream)
    }

    fn watched(&self, stream: io::Result<FdStream>) -> Option<FdStream> {
        stream
            .inspect_err(|error| {
                tracing::error!(
                    %error,
                    pid = self.pid,
                    "a pipe cannot be watched and was closed"
                );
            })
            .ok()
    }

    /// Sends a signal to the process. The signal cannot reach another process, even if this one has
    /// exited and its ID was reused (pidfd_send_signal(2)).
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if the process has exited; the operating system's
    /// error if it runs as another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        exit::signal(self.pidfd.as_ref(), signal)
    }

    /// Kills the process (SIGKILL). Succeeds if it has already exited.
    ///
    /// # Errors
    /// If the process runs as another user.
    pub fn kill(&self) -> io::Result<()> {
        match self.signal(Signal::KILL) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Sends a signal to the process and everything that it started, if it leads a [process
    /// group](Command::process_group).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it does not lead a group;
    /// [`NotFound`](io::ErrorKind::NotFound) if the group is empty, or if the process was reaped:
    /// its ID may then belong to another process.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if !self.leads_group {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the process does not lead a process group; start it with `process_group`",
            ));
        }
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .filter(|_| !self.exit.is_known());
        let Some(pid) = pid else {
            return Err(io::ErrorKind::NotFound.into());
        };
        exit::not_found(rustix::process::kill_process_group(pid, signal))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop && !self.exit.is_known() {
            let killed = if self.leads_group {
                self.signal_group(Signal::KILL)
            } else {
                self.kill()
            };
            if let Err(error) = killed.or_else(|_| self.kill()) {
                tracing::warn!(%error, pid = self.pid, "cannot kill a process; it continues");
            }
        }
    }
}
