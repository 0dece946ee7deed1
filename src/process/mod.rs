//! Child processes: their input and output as streams, their exit as a result.
//!
//! ```
//! use entwined::{
//!     Standalone,
//!     process::{Command, Io},
//!     protocol::{self, Connection, Lost, Protocol},
//! };
//!
//! /// Counts the bytes that `sort` returns.
//! struct Sorted;
//!
//! impl Protocol for Sorted {
//!     fn connection_made(&mut self, connection: &Connection) {
//!         connection.write(b"pear\napple\n");
//!         connection.end();
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
//! });
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
//! Exits are reported through a pidfd (pidfd_open(2), Linux 5.4), which the reactor watches like
//! any other fd. There is no handler for SIGCHLD, so a GUI toolkit can watch its own children. If a
//! program reaps all children itself (`waitpid(-1)`) or ignores SIGCHLD, the exit status is lost;
//! this is reported as [`ExitError::Reaped`].
//!
//! No child stays a zombie. Even if nothing waits for a child, it is reaped: by the reactor while
//! it runs, and by a thread after that. When a [`Process`] is dropped or the run ends, the process
//! continues, unless [`kill_on_drop`](Command::kill_on_drop) was set.

mod child;
mod command;
mod ends;
mod exit;
mod output;
mod protocol;
mod reaper;
mod stream;
mod watch;

use std::{io, os::fd::RawFd, rc::Rc, sync::Arc};

pub use crate::transport::fd::TerminalSize;
pub use command::{Command, SpawnError};
pub use ends::Io;
pub use exit::{ExitError, Exited};
pub use output::{Output, OutputError};
pub use protocol::{ProcessProtocol, ProcessTransport, start};
use rustix::process::Signal;
pub use stream::ProcessStream;

use self::{
    child::Child,
    ends::{OtherEnd, TERMINAL},
    exit::Exit,
};
use crate::{
    table::Table,
    transport::fd::{self, FdStream},
};

/// A child process. Created by [`Command::spawn`].
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// `None` if other code had reaped the child before it could be opened.
    child: Option<Arc<Child>>,
    exit: Rc<Exit>,
    kill_on_drop: bool,
    /// This side's ends of its fds that were not taken yet, by fd number.
    ends: Table<RawFd, OtherEnd>,
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
        if self.ends.contains(&TERMINAL) {
            return self.take_terminal();
        }
        if !self.ends.contains(&0) || !self.ends.contains(&1) {
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

    /// Sends a [signal](crate::signal::Signal) to the process. The signal cannot reach another
    /// process, even if this one has exited and its ID was reused (pidfd_send_signal(2)).
    ///
    /// This works after the run too: a process that outlives it can still be sent signals.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if the process has exited; the operating system's
    /// error if it runs as another user.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child()?.signal(signal)
    }

    /// Asks the process to interrupt what it does (SIGINT), as Ctrl-C does. Succeeds if it has
    /// already exited.
    ///
    /// # Errors
    /// If the process runs as another user.
    pub fn interrupt(&self) -> io::Result<()> {
        self.end(Signal::INT)
    }

    /// Asks the process to end (SIGTERM). Succeeds if it has already exited.
    ///
    /// # Errors
    /// If the process runs as another user.
    pub fn terminate(&self) -> io::Result<()> {
        self.end(Signal::TERM)
    }

    /// Kills the process (SIGKILL). Succeeds if it has already exited.
    ///
    /// # Errors
    /// If the process runs as another user.
    pub fn kill(&self) -> io::Result<()> {
        self.end(Signal::KILL)
    }

    fn end(&self, signal: Signal) -> io::Result<()> {
        match self.signal(signal) {
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
        self.child()?.signal_group(signal)
    }

    fn child(&self) -> io::Result<&Arc<Child>> {
        self.child.as_ref().ok_or_else(child::gone)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_ref().filter(|_| self.kill_on_drop) {
            child.kill_or_warn();
        }
    }
}
