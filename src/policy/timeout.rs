//! How long a connection may be silent.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_io::{AsyncRead, AsyncWrite};

use crate::{
    reactor::Handle,
    task::Sleep,
    transport::{Address, ByteStream},
};

/// A stream on which bytes must move. When none have in either direction for too long, reading is an error of the kind
/// [`TimedOut`](io::ErrorKind::TimedOut): a protocol is [lost](crate::protocol::Lost::Failed), its peer is told by a reset.
///
/// The time is looked at by who reads: a connection that is paused is judged when it reads again, and finds nothing.
#[derive(Debug)]
pub struct Timeout<S> {
    below: S,
    handle: Handle,
    idle: Duration,
    /// When bytes moved last.
    moved: Instant,
    /// Runs while a reader waits. It is moved only when it fires, not with every byte.
    sleep: Option<Sleep>,
}

impl<S: ByteStream> Timeout<S> {
    /// Gives `stream` so long between bytes, from now on.
    pub fn new(handle: &Handle, stream: S, idle: Duration) -> Self {
        Timeout { below: stream, handle: handle.clone(), idle, moved: handle.now(), sleep: None }
    }

    fn note<T>(&mut self, moved: &Poll<io::Result<T>>) {
        if moved.is_ready() {
            self.moved = self.handle.now();
        }
    }
}

impl<S: ByteStream> AsyncRead for Timeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.below).poll_read(cx, buffer);
        this.note(&read);
        if read.is_ready() {
            return read;
        }
        loop {
            let due = this.moved + this.idle;
            let sleep = this.sleep.get_or_insert_with(|| this.handle.sleep_until(due));
            if Pin::new(&mut *sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= this.handle.now() {
                let message = "nothing was heard from the peer for too long";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
            this.sleep = None;
        }
    }
}

impl<S: ByteStream> AsyncWrite for Timeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write(cx, buffer);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write_vectored(cx, buffers);
        self.note(&written);
        written
    }

    forward!(end);
}

impl<S: ByteStream> ByteStream for Timeout<S> {
    forward!(stream);
    forward!(established);
}
