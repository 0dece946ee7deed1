//! To run a program to its end and take what it says.

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

use super::{Command, ExitError, Io, SpawnError};
use crate::{reactor::Handle, transport::fd::FdStream};

/// What a program has said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error output.
    pub stderr: Vec<u8>,
}

/// Why there is no [`Output`].
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputError {
    /// It was not started.
    Spawn(SpawnError),
    /// What it says cannot be read.
    Read(io::Error),
    /// It has said more than so many bytes, and was killed.
    TooMuch(usize),
    /// How it ended is not known.
    Exit(ExitError),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputError::Spawn(source) => source.fmt(f),
            OutputError::Read(source) => {
                write!(f, "what the program says cannot be read: {source}")
            }
            OutputError::TooMuch(limit) => {
                write!(f, "the program has said more than {limit} bytes")
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
    /// Runs it to its end, and to the end of its output and error output. Of each at most `limit`
    /// bytes are taken. Dropping the future kills it.
    ///
    /// ```
    /// # use entwined::{Standalone, process::Command};
    /// # let reactor = Standalone::new()?;
    /// # let handle = reactor.handle();
    /// handle.clone().spawn(async move {
    ///     let output = Command::new("echo").arg("hello").output(&handle, 1024).await.expect("it runs");
    ///     assert_eq!(output.stdout, b"hello\n");
    ///     handle.stop().expect("the reactor runs");
    /// }).detach();
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it cannot be run, says too much, or its status is lost.
    pub async fn output(self, handle: &Handle, limit: usize) -> Result<Output, OutputError> {
        let command = self.stdout(Io::Stream).stderr(Io::Stream).kill_on_drop();
        let mut process = command.spawn(handle).map_err(OutputError::Spawn)?;
        let [mut stdout, mut stderr] =
            [process.take_stdout(), process.take_stderr()].map(Collector::new);
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

/// Reads to the end.
struct Collector {
    stream: Option<FdStream>,
    bytes: Vec<u8>,
}

impl Collector {
    fn new(stream: Option<FdStream>) -> Self {
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
