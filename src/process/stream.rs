//! A process as a byte stream.

use futures_io::{AsyncRead, AsyncWrite};

use super::{Process, sys::ChildStream};
use crate::{forward_stream, transport::ByteStream};

/// A process's output and input as one stream. The stream owns the process: dropping the stream
/// drops the process as well. Created by [`Process::into_stream`].
///
/// A protocol reaches the process with `connection.ask(|stream: &ProcessStream|
/// stream.process().id())`.
#[derive(Debug)]
pub struct ProcessStream {
    // Declared first: the child's input ends before the child is killed, if it is to be killed.
    stream: ChildStream,
    process: Process,
}

impl Process {
    /// Combines the process and its output and input into one stream.
    ///
    /// # Errors
    /// Returns the process if its output or input is not a stream or was already taken.
    pub fn into_stream(mut self) -> Result<ProcessStream, Self> {
        match self.take_stream() {
            Some(stream) => Ok(ProcessStream {
                stream,
                process: self,
            }),
            None => Err(self),
        }
    }
}

impl ProcessStream {
    /// Returns the process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl AsyncRead for ProcessStream {
    forward_stream!(stream: poll_read);
}

impl AsyncWrite for ProcessStream {
    forward_stream!(stream: poll_write, poll_write_vectored, poll_flush, poll_close);
}

impl ByteStream for ProcessStream {
    forward_stream!(stream: local_address, peer_address, abort, below);
}
