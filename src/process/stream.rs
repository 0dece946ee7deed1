//! A process as a byte stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::Process;
use crate::transport::{Address, ByteStream, fd::FdStream};

/// A process's output and input as one stream. The stream owns the process: dropping the stream
/// drops the process as well. Created by [`Process::into_stream`].
///
/// A protocol reaches the process with `transport.ask(|stream: &ProcessStream|
/// stream.process().id())`.
#[derive(Debug)]
pub struct ProcessStream {
    // Declared first: the child's input ends before the child is killed, if it is to be killed.
    stream: FdStream,
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
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ProcessStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl ByteStream for ProcessStream {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    fn abort(&mut self) {
        self.stream.abort();
    }

    fn below(&self) -> Option<&dyn ByteStream> {
        Some(&self.stream)
    }
}
