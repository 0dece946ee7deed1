//! A process as a transport.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::Process;
use crate::transport::{Address, ByteStream, fd::FdStream};

/// The output and input of a process as a stream that holds the process: dropping it drops that
/// too. Made by [`Process::into_stream`].
///
/// From a protocol the process is reached by `transport.ask(|stream: &ProcessStream|
/// stream.process().id())`.
#[derive(Debug)]
pub struct ProcessStream {
    // Its input ends before it is killed, if it is to be.
    stream: FdStream,
    process: Process,
}

impl Process {
    /// Makes one stream of its output and input and itself; gives itself back if they were not both
    /// to be streams, or were taken.
    ///
    /// # Errors
    /// Itself, then.
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
    /// The process.
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
