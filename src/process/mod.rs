//! Child processes: their output and input as streams, their exit as a result.
//!
//! ```
//! use entwined::{Standalone, process::{Command, Io}, protocol::{self, Lost, Protocol, Transport}};
//!
//! /// Counts the bytes that `sort` gives back.
//! struct Sorted;
//!
//! impl Protocol for Sorted {
//!     fn connection_made(&mut self, transport: &Transport) {
//!         transport.write(b"pear\napple\n");
//!         transport.end();
//!     }
//!
//!     fn data_received(&mut self, _: &Transport, data: &[u8]) {
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
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program with more than one stream to listen to is one for a [`ProcessProtocol`]; one that
//! wants a terminal is given [one](Command::terminal).
//!
//! # The end of a process
//!
//! That a process has exited and that its output is at its end are two things: a grandchild may
//! hold the pipe for much longer. [`Process::exited`] is the first; the end of a stream is the
//! second.
//!
//! Exits come through a pidfd (pidfd_open(2), Linux 5.3), which the reactor watches like any other
//! fd: there is no handler for SIGCHLD, and a GUI toolkit's own children stay its own. A program
//! that reaps everybody's children itself (`waitpid(-1)`), or ignores SIGCHLD, takes the status
//! away: that is [`ExitError::Reaped`].
//!
//! Nobody becomes a zombie: whoever is not waited for is reaped all the same, by the reactor while
//! it runs and by a thread after that. When a [`Process`] is dropped the process goes on, unless it
//! was made with [`kill_on_drop`](Command::kill_on_drop).

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

pub use command::{Command, Io, SpawnError, TerminalSize};
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

/// A child process. Made by [`Command::spawn`].
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// None when it was gone before it could be had.
    pidfd: Option<Rc<OwnedFd>>,
    exit: Rc<Exit>,
    /// Its process group, when it leads one.
    leads_group: bool,
    kill_on_drop: bool,
    /// Of its fds, by their numbers there, as far as they are not taken.
    ends: BTreeMap<RawFd, OtherEnd>,
    handle: crate::reactor::Handle,
}

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits until it has exited. The future holds nothing of the process, can be made as often as
    /// needed, and is ready at once ever after.
    pub fn exited(&self) -> Exited {
        Exited::new(self.exit.clone())
    }

    /// Its standard input, to be written to; once, and if it was to be a [stream](Io::Stream).
    /// Close it to end the input.
    pub fn take_stdin(&mut self) -> Option<FdStream> {
        self.take_fd(0)
    }

    /// Its standard output, to be read; once, and if it was to be a [stream](Io::Stream).
    pub fn take_stdout(&mut self) -> Option<FdStream> {
        self.take_fd(1)
    }

    /// Its standard error output, to be read; once, and if it was to be a [stream](Io::Stream).
    pub fn take_stderr(&mut self) -> Option<FdStream> {
        self.take_fd(2)
    }

    /// What its fd of this number is here; once, and if it was to be a stream.
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

    /// Its [terminal](Command::terminal), once. Dropping it hangs up (SIGHUP).
    ///
    /// It is in the mode that terminals begin with: it echoes what is written, and gives the child
    /// whole lines.
    pub fn take_terminal(&mut self) -> Option<FdStream> {
        self.take_fd(TERMINAL)
    }

    /// Its standard output and input as one stream, for a [protocol](crate::protocol::start), or
    /// its terminal; once, and if both were to be streams.
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
            .inspect_err(|error| tracing::error!(%error, pid = self.pid, "a pipe cannot be watched and was closed"))
            .ok()
    }

    /// Sends it a signal: to it and nobody else, even if it has exited and its number is another's
    /// by now (pidfd_send_signal(2)).
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) when it has exited; what the system says when it runs
    /// as somebody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        exit::signal(self.pidfd.as_ref(), signal)
    }

    /// Kills it (SIGKILL). To have exited already is no error.
    ///
    /// # Errors
    /// When it runs as somebody else.
    pub fn kill(&self) -> io::Result<()> {
        match self.signal(Signal::KILL) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Sends a signal to it and all that it has started, if it leads a
    /// [group](Command::process_group) of its own.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it does not;
    /// [`NotFound`](io::ErrorKind::NotFound) when nobody is left, or it was reaped: then its number
    /// may be another's.
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        if !self.leads_group {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the process leads no group of its own",
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
                tracing::warn!(%error, pid = self.pid, "a process cannot be killed and goes on");
            }
        }
    }
}
