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
//! terminal, use `Command::terminal` (on Unix).
//!
//! # The end of a process
//!
//! The exit of a process and the end of its output are two different events: a grandchild may keep
//! the pipe open for much longer. [`Process::exited`] reports the first. The end of a stream
//! reports the second.
//!
//! When a [`Process`] is dropped or the run ends, the process continues, unless
//! [`kill_on_drop`](Command::kill_on_drop) was set.
//!
//! There is no handler for SIGCHLD, so a GUI toolkit can watch its own children. If a program reaps
//! all children itself (`waitpid(-1)`) or ignores SIGCHLD, the exit status is lost; this is
//! reported as [`ExitError::Reaped`]. No child stays a zombie. Even if nothing waits for a child,
//! it is reaped: by the reactor while it runs, and by a thread after that.
//!
//! # What differs between systems
//!
//! | | Linux | macOS, FreeBSD | Windows |
//! |---|---|---|---|
//! | who sees an exit | the reactor, by a pidfd | a thread a child | a thread a child |
//! | streams of a child | any fd, a terminal | any fd, a terminal | the three standard ones |
//! | `signal`, `interrupt`, `terminate` | yes | yes | no |
//! | `process_group` | a process group | a process group | a job object |
//! | `die_with_parent` | with the thread that started it | no | with the program |
//! | what else it inherits | nothing | nothing | handles made inheritable |
//!
//! A pidfd (pidfd_open(2), Linux 5.4) is watched like any fd. Without one, a signal could reach
//! another process if other code of this program has reaped the child. On Windows, streams are
//! named pipes, which one thread watches for the whole program.
//!
//! Windows has no request to end: a program with a window can be sent `WM_CLOSE`, and others agree
//! on a line of their input, or its end.

mod command;
mod exit;
#[cfg(target_os = "linux")]
mod on_linux;
#[cfg(unix)]
mod on_unix;
#[cfg(windows)]
mod on_windows;
mod output;
mod protocol;
mod stream;
mod sys;
mod watch;

use std::{io, rc::Rc, sync::Arc};

pub use command::{Command, SpawnError};
pub use exit::{ExitError, Exited};
pub use output::{Output, OutputError};
pub use protocol::{ProcessProtocol, ProcessTransport, start};
pub use stream::ProcessStream;
pub use sys::{ChildStream, Io};

#[cfg(unix)]
pub use crate::transport::fd::TerminalSize;

use self::{
    exit::{Exit, gone},
    sys::{Child, OtherEnd, TERMINAL},
};
use crate::{reactor::Handle, table::Table};

/// A child process. Created by [`Command::spawn`].
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// `None` if other code had reaped the child before it could be opened.
    child: Option<Arc<Child>>,
    exit: Rc<Exit>,
    kill_on_drop: bool,
    /// This side's ends of its streams that were not taken yet, by their numbers in the child.
    ends: Table<i32, OtherEnd>,
    handle: Handle,
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
    pub fn take_stdin(&mut self) -> Option<ChildStream> {
        self.take(0)
    }

    /// Takes the child's standard output, to read. Returns `None` as for
    /// [`take_stdin`](Process::take_stdin).
    pub fn take_stdout(&mut self) -> Option<ChildStream> {
        self.take(1)
    }

    /// Takes the child's standard error, to read. Returns `None` as for
    /// [`take_stdin`](Process::take_stdin).
    pub fn take_stderr(&mut self) -> Option<ChildStream> {
        self.take(2)
    }

    fn take(&mut self, number: i32) -> Option<ChildStream> {
        let claimed = self.claim(number)?;
        self.watched(claimed)
    }

    /// Takes a stream. Returns the error if it cannot be watched.
    fn claim(&mut self, number: i32) -> Option<io::Result<ChildStream>> {
        let end = self.ends.remove(&number)?;
        Some(sys::stream(&self.handle, end))
    }

    /// Takes the child's standard output and input as one stream for a
    /// [protocol](crate::protocol::start), or its terminal if it has one. Returns `None` if one of
    /// them was taken before or is not a stream.
    pub fn take_stream(&mut self) -> Option<ChildStream> {
        if self.ends.contains(&TERMINAL) {
            return self.take(TERMINAL);
        }
        if !self.ends.contains(&0) {
            return None;
        }
        let output = self.ends.remove(&1)?;
        let input = self.ends.remove(&0)?;
        self.watched(sys::pair(&self.handle, output, input))
    }

    fn watched(&self, stream: io::Result<ChildStream>) -> Option<ChildStream> {
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

    /// Kills the process: SIGKILL on Unix, TerminateProcess with exit code 1 on Windows. Succeeds
    /// if it has already exited.
    ///
    /// # Errors
    /// If the process runs as another user.
    pub fn kill(&self) -> io::Result<()> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        match child.kill() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Kills the process and everything that it started, if it leads a [process
    /// group](Command::process_group).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it does not lead a group. On Unix,
    /// [`NotFound`](io::ErrorKind::NotFound) if the group is empty, or if the process was reaped:
    /// its ID may then belong to another process.
    pub fn kill_group(&self) -> io::Result<()> {
        self.child()?.kill_group()
    }

    fn child(&self) -> io::Result<&Arc<Child>> {
        self.child.as_ref().ok_or_else(gone)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_ref().filter(|_| self.kill_on_drop) {
            child.kill_or_warn();
        }
    }
}
