//! Limits how long a connection may be idle.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_io::{AsyncRead, AsyncWrite};

use crate::{forward_stream, reactor::Handle, task::Sleep, transport::ByteStream};

/// A stream that times out if no bytes move in either direction, or if it lasts longer than an
/// optional [total](IdleTimeout::total). After that, reading and writing return an error of kind
/// [`TimedOut`](io::ErrorKind::TimedOut): a protocol is [lost](crate::protocol::Lost::Failed), and
/// its peer sees a reset. The time until it is
/// [established](ByteStream::poll_established) does not count: who waits for that has a limit.
///
/// Only a task that waits to read or write checks the time. If no task does, the timeout takes
/// effect when one tries again and no bytes move.
#[derive(Debug)]
pub struct IdleTimeout<S> {
    below: S,
    handle: Handle,
    idle: Duration,
    /// When the total time is over, no matter what moves.
    end: Option<Instant>,
    /// When bytes last moved, or the stream was established.
    moved: Instant,
    established: bool,
    /// These run while a reader or a writer waits; the two may be different tasks. They are
    /// rescheduled only when they fire, not for every byte.
    reader: Option<Sleep>,
    writer: Option<Sleep>,
    /// Runs while what was written is not sent.
    flusher: Option<Sleep>,
    /// Since when it has waited to be sent.
    flushing: Option<Instant>,
    /// The silence that each side has found too long. Its task is polled once more, because it may
    /// not have come to what moves next: the host may have held the thread.
    late: [Option<Instant>; 3],
}

#[derive(Clone, Copy)]
enum Side {
    Reader,
    Writer,
    Flusher,
}

impl<S: ByteStream> IdleTimeout<S> {
    /// Allows `stream` to be idle for `idle` at a time, starting now.
    pub fn new(handle: &Handle, stream: S, idle: Duration) -> Self {
        let moved = handle.now();
        IdleTimeout {
            below: stream,
            handle: handle.clone(),
            idle,
            end: None,
            moved,
            established: false,
            reader: None,
            writer: None,
            flusher: None,
            flushing: None,
            late: [None; 3],
        }
    }

    /// Ends the stream after `total`, starting now, even if bytes move: for peers that send little,
    /// and slowly.
    #[must_use]
    pub fn total(mut self, total: Duration) -> Self {
        self.end = self.handle.now().checked_add(total);
        self
    }

    /// Passes the result on if bytes moved. Otherwise waits until the timeout.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
        moved: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if moved.is_ready() {
            self.moved = self.handle.now();
            return match self.end {
                Some(end) if end <= self.moved => Poll::Ready(Err(over())),
                _ => moved,
            };
        }
        if self.has_no_share(cx) {
            return Poll::Pending;
        }
        Poll::Ready(Err(ready!(self.wait(cx, side, self.moved))))
    }

    /// Whether the task has used up its share, so that bytes may be there. It is polled again.
    fn has_no_share(&self, cx: &mut Context<'_>) -> bool {
        let none = !self.handle.spend(0);
        if none {
            cx.waker().wake_by_ref();
        }
        none
    }

    /// Waits until it has been silent for too long, or the total time is over.
    fn wait(&mut self, cx: &mut Context<'_>, side: Side, since: Instant) -> Poll<io::Error> {
        let sleep = match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
            Side::Flusher => &mut self.flusher,
        };
        loop {
            let silent = since.checked_add(self.idle);
            let due = match (silent, self.end) {
                (Some(silent), Some(end)) => silent.min(end),
                (Some(due), None) | (None, Some(due)) => due,
                (None, None) => return Poll::Pending,
            };
            let waiting = sleep.get_or_insert_with(|| self.handle.sleep_until(due));
            ready!(Pin::new(waiting).poll(cx));
            if due <= self.handle.now() {
                if self.end == Some(due) {
                    return Poll::Ready(over());
                }
                let late = &mut self.late[side as usize];
                if late.replace(self.moved) == Some(self.moved) {
                    return Poll::Ready(idle());
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            *sleep = None;
        }
    }

    /// A stream below that keeps what is written, as TLS does, says only here that its peer does
    /// not read.
    fn judge_flush(
        &mut self,
        cx: &mut Context<'_>,
        flushed: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            (self.flushing, self.flusher) = (None, None);
            return flushed;
        }
        if self.has_no_share(cx) {
            return Poll::Pending;
        }
        // The silence before does not count.
        let began = *self.flushing.get_or_insert(self.handle.now());
        let since = began.max(self.moved);
        Poll::Ready(Err(ready!(self.wait(cx, Side::Flusher, since))))
    }
}

fn idle() -> io::Error {
    let message = "the connection was idle for too long";
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn over() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the connection has reached its time limit",
    )
}

impl<S: ByteStream> AsyncRead for IdleTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.below).poll_read(cx, buffer);
        self.judge(cx, Side::Reader, read)
    }
}

impl<S: ByteStream> AsyncWrite for IdleTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write(cx, buffer);
        self.judge(cx, Side::Writer, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write_vectored(cx, buffers);
        self.judge(cx, Side::Writer, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.below).poll_flush(cx);
        self.judge_flush(cx, flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.below).poll_close(cx);
        self.judge_flush(cx, closed)
    }
}

impl<S: ByteStream> ByteStream for IdleTimeout<S> {
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.below.poll_established(cx))?;
        if !std::mem::replace(&mut self.established, true) {
            // What moved meanwhile was not seen here.
            self.moved = self.handle.now();
        }
        Poll::Ready(Ok(()))
    }

    forward_stream!(below: local_address, peer_address, abort, below);
}
