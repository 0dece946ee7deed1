//! What one connection is waiting for, and how long it may.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::server::{Config, Shared};
use crate::transport::Stream;

/// Where a connection is between two requests, told by what it reads and what hyper does with it. To note it costs next to nothing; one timer a
/// connection looks at it now and then. So a request moves no timer.
pub(super) struct Pace {
    stage: Cell<Stage>,
    /// Since when the peer has not taken what is to be sent.
    blocked: Cell<Option<Instant>>,
    server: Rc<Shared>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Nothing of the next request has come.
    Idle(Instant),
    /// Something has, but not the whole head.
    Head(Instant),
    /// A request is being answered.
    Busy,
}

/// What there is to do about a connection.
pub(super) enum Verdict {
    /// Nothing; look again then.
    Wait(Instant),
    /// The next request did not begin in time: close it in order.
    Idle,
    /// The head did not come in time: answer 408 and close.
    SlowHead,
    /// The peer does not read: end it.
    Stuck,
}

impl Pace {
    /// For a connection that was just accepted. Its first request has the time of a head, not that of an idle connection.
    pub(super) fn new(server: Rc<Shared>) -> Rc<Self> {
        let now = server.time();
        Rc::new(Pace { stage: Cell::new(Stage::Head(now)), blocked: Cell::new(None), server })
    }

    pub(super) fn request_begins(&self) {
        self.stage.set(Stage::Busy);
    }

    pub(super) fn response_done(&self) {
        self.stage.set(Stage::Idle(self.server.time()));
    }

    pub(super) fn is_closing(&self) -> bool {
        self.server.closing.get()
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let Config { header_deadline, idle_deadline, write_deadline, .. } = self.server.config;
        let write_end = self.blocked.get().map(|since| since + write_deadline);
        if write_end.is_some_and(|end| now >= end) {
            return Verdict::Stuck;
        }
        let end = match self.stage.get() {
            Stage::Idle(since) if now >= since + idle_deadline => return Verdict::Idle,
            Stage::Head(since) if now >= since + header_deadline => return Verdict::SlowHead,
            Stage::Idle(since) => since + idle_deadline,
            Stage::Head(since) => since + header_deadline,
            // A head that begins right after this look is late by a look at most.
            Stage::Busy => now + header_deadline.min(write_deadline),
        };
        // A head may begin, and a write may block, before an idle connection is over.
        let latest = now + header_deadline.min(write_deadline);
        Verdict::Wait(end.min(latest).min(write_end.unwrap_or(end)))
    }

    fn received(&self) {
        if let Stage::Idle(_) = self.stage.get() {
            self.stage.set(Stage::Head(self.server.time()));
        }
    }

    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        match &result {
            Poll::Pending if self.blocked.get().is_none() => self.blocked.set(Some(self.server.time())),
            Poll::Pending => {}
            Poll::Ready(_) => self.blocked.set(None),
        }
        result
    }
}

/// A stream that notes how its connection gets on.
pub(super) struct Paced {
    pub(super) stream: Stream,
    pub(super) pace: Rc<Pace>,
}

impl Read for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, cursor);
        if result.is_ready() {
            self.pace.received();
        }
        result
    }
}

impl Write for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.pace.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Write::poll_write_vectored(Pin::new(&mut self.stream), cx, buffers);
        self.pace.wrote(result)
    }
}
