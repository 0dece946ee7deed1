//! Runs a program to its end and collects its output.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    process::ExitStatus,
    task::{Context, Poll, ready},
};

use futures_io::AsyncRead;

use super::{Command, ExitError, Io, SpawnError, sys::ChildStream};
use crate::reactor::Handle;

/// The output and the exit status of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// The standard output.
    pub stdout: Vec<u8>,
    /// The standard error.
    pub stderr: Vec<u8>,
}

/// Why there is no [`Output`].
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputError {
    /// The program could not be started.
    Spawn(SpawnError),
    /// The program's output could not be read.
    Read(io::Error),
    /// The program wrote more than this many bytes, and was killed.
    TooMuch(usize),
    /// The exit status is not known.
    Exit(ExitError),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::Spawn(source) => source.fmt(f),
            OutputError::Read(source) => {
                write!(f, "cannot read the program's output: {source}")
            }
            OutputError::TooMuch(limit) => {
                write!(f, "the program wrote more than {limit} bytes")
            }
            OutputError::Exit(source) => source.fmt(f),
        }
    }
}

impl Error for OutputError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OutputError::Spawn(source) => Some(source),
            OutputError::Read(source) => Some(source),
            OutputError::Exit(source) => Some(source),
            OutputError::TooMuch(_) => None,
        }
    }
}

impl Command {
    /// Runs the program until it has exited and both its standard output and standard error are
    /// closed. Collects at most `limit` bytes of each; a program that writes more is killed.
    /// Dropping the future kills the program.
    ///
    /// There is no limit in time: a program may wait for ever, and one that has exited may have
    /// left a child of its own that keeps the streams open. Put a [timeout](Handle::timeout) around
    /// the future.
    ///
    /// The program's other streams are closed on this side: if its standard input is a stream, the
    /// program reads the end of the input at once, and a terminal (on Unix) hangs up.
    ///
    /// ```
    /// # use entwined::{Standalone, process::Command};
    /// # let reactor = Standalone::new()?;
    /// # let handle = reactor.handle();
    /// handle.clone().spawn(async move {
    ///     let output = Command::new("echo")
    ///         .arg("hello")
    ///         .output(&handle, 1024)
    ///         .await
    ///         .expect("it runs");
    ///     assert_eq!(output.stdout, b"hello\n");
    ///     handle.stop();
    /// });
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the program cannot be run, writes too much, or its exit status is lost.
    pub async fn output(self, handle: &Handle, limit: usize) -> Result<Output, OutputError> {
        let command = self.stdout(Io::Stream).stderr(Io::Stream);
        let command = command.kill_on_drop(true);
        let mut process = command.spawn(handle).map_err(OutputError::Spawn)?;
        let mut claim = |number| process.claim(number).transpose().map_err(OutputError::Read);
        let [mut stdout, mut stderr] = [claim(1)?, claim(2)?].map(Collector::new);
        // Nobody writes to the others.
        process.ends = Default::default();
        poll_fn(|cx| {
            let (one, other) = (stdout.poll(cx, limit)?, stderr.poll(cx, limit)?);
            if one.is_ready() && other.is_ready() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await?;
        let status = process.exited().await.map_err(OutputError::Exit)?;
        Ok(Output {
            status,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
        })
    }
}

/// Reads a stream to its end.
struct Collector {
    stream: Option<ChildStream>,
    bytes: Vec<u8>,
}

impl Collector {
    fn new(stream: Option<ChildStream>) -> Self {
        Collector {
            stream,
            bytes: Vec::new(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<(), OutputError>> {
        let mut buffer = [0; 8 * 1024];
        while let Some(stream) = &mut self.stream {
            match ready!(Pin::new(stream).poll_read(cx, &mut buffer)).map_err(OutputError::Read)? {
                0 => self.stream = None,
                count if self.bytes.len() + count > limit => {
                    return Poll::Ready(Err(OutputError::TooMuch(limit)));
                }
                count => self.bytes.extend_from_slice(&buffer[..count]),
            }
        }
        Poll::Ready(Ok(()))
    }
}
