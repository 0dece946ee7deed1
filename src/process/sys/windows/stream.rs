//! The streams of a child as one byte stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::pipes::Pipe;
use crate::transport::{Address, ByteStream};

/// A stream to or from a child, or both. Dropping it closes it. What was written still arrives, if
/// this program runs for that long.
///
/// On Unix this is `transport::fd::FdStream`.
///
/// Without output of the child, reading returns the end of input when the child has closed its
/// input. Without input of the child, writing fails from the start. Writing to a child that no
/// longer reads returns an error of kind [`BrokenPipe`](io::ErrorKind::BrokenPipe).
#[derive(Debug)]
pub struct ChildStream {
    /// What the child writes, and what it reads.
    output: Option<Pipe>,
    input: Option<Pipe>,
}

impl ChildStream {
    pub(super) fn new(output: Option<Pipe>, input: Option<Pipe>) -> Self {
        ChildStream { output, input }
    }
}

impl AsyncRead for ChildStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match this.output.as_mut().or(this.input.as_mut()) {
            Some(pipe) => pipe.poll_read(cx, buffer),
            None => Poll::Ready(Ok(0)),
        }
    }
}

impl AsyncWrite for ChildStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(pipe) => pipe.poll_write(cx, buffer),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the child's input.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for ChildStream {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    /// Pipes have no reset: the child sees the end of input.
    fn abort(&mut self) {}
}
