//! What Unix can do with a child besides: any fd, terminals, signals.

use std::{io, os::fd::RawFd};

use rustix::process::Signal;

use super::{Command, Io, Process, ProcessTransport, exit::gone, sys::TERMINAL};
use crate::transport::fd::{FdStream, TerminalSize};

impl Command {
    /// Sets the child's fd with this number, 0 to 1,023. Fds that are not set are closed in the
    /// child, except the three standard ones.
    ///
    /// ```
    /// # use std::{future::poll_fn, pin::Pin};
    /// # use entwined::{Standalone, process::{Command, Io}};
    /// # use futures_io::AsyncRead;
    /// # let reactor = Standalone::new()?;
    /// # let handle = reactor.handle();
    /// let command = Command::new("sh").args(["-c", "echo status >&3"]).fd(3, Io::PipeOut);
    /// let mut status = command.spawn(&handle)?.take_fd(3).expect("a stream");
    /// # handle.clone().spawn(async move {
    /// #     let mut buffer = [0; 64];
    /// #     let count = poll_fn(|cx| Pin::new(&mut status).poll_read(cx, &mut buffer))
    /// #         .await
    /// #         .expect("bytes");
    /// #     assert_eq!(&buffer[..count], b"status\n");
    /// #     handle.stop();
    /// # });
    /// # reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fd(self, number: RawFd, io: Io) -> Self {
        self.stream(number, io)
    }

    /// Runs the child on a new terminal of this size. The terminal is the child's controlling
    /// terminal: the child leads a session and a [process group](Command::process_group) of its
    /// own, Ctrl-C (byte 3) interrupts it, and it is notified of a [new
    /// size](FdStream::set_terminal_size). The terminal is also its standard input, output and
    /// error, except for those that are set. On this side the terminal is a stream; see
    /// [`Process::take_terminal`].
    #[must_use]
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.plan.extras.terminal = Some(size);
        self
    }
}

impl Process {
    /// Takes this side's end of the child's fd. Returns `None` if it was taken before or is not a
    /// stream.
    pub fn take_fd(&mut self, number: RawFd) -> Option<FdStream> {
        self.take(number)
    }

    /// Takes the child's [terminal](Command::terminal). Returns `None` if it was taken before.
    /// Dropping the stream hangs up the terminal (SIGHUP).
    ///
    /// The terminal starts in its default mode: it echoes what is written, and passes whole lines
    /// to the child.
    pub fn take_terminal(&mut self) -> Option<FdStream> {
        self.take(TERMINAL)
    }

    /// Sends a [signal](crate::signal::Signal) to the process.
    ///
    /// On Linux the signal cannot reach another process, even if this one has exited and its ID was
    /// reused (pidfd_send_signal(2)). Elsewhere it could only if other code of this program has
    /// reaped the child.
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
    /// See [`kill_group`](Process::kill_group).
    pub fn signal_group(&self, signal: Signal) -> io::Result<()> {
        self.child()?.signal_group(signal)
    }
}

impl ProcessTransport {
    /// Sends a signal to the process; see [`Process::signal`].
    ///
    /// # Errors
    /// See [`Process::signal`].
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.ask(|process| process.signal(signal))
            .unwrap_or_else(|| Err(gone()))
    }
}
