//! The stream below an exchange, and the output that is buffered for it.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use entwined::{
    Handle,
    reactor::Origin,
    server::{Cork, Outlet},
    transport::{ByteStream, Stream},
};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::{
    io::{charge_frames, read_into},
    pace::Pace,
};

/// A connection's stream, in the form that hyper uses. Small writes are corked: accepted at once,
/// and sent when the reactor's turn ends. Clones share the same stream.
#[derive(Clone)]
pub(super) struct Wire(Rc<Inner>);

struct Inner {
    /// Present until the stream is handed over.
    stream: RefCell<Option<Box<dyn ByteStream>>>,
    /// Bytes that were read before hyper got the stream, and how many of them hyper has read.
    begin: RefCell<(Vec<u8>, usize)>,
    /// Bytes that were accepted and are still corked.
    corked: Cell<usize>,
    /// Uncorked bytes that the peer did not accept.
    rest: RefCell<Vec<u8>>,
    /// Whether the stream has accepted all bytes but has not flushed them.
    unflushed: Cell<bool>,
    /// Why sending failed. The next operation returns this error.
    error: RefCell<Option<io::Error>>,
    /// Wakes the connection's task.
    waker: RefCell<Option<Waker>>,
    pace: Rc<Pace>,
    handle: Handle,
    cork: Rc<Cork>,
    origin: Origin,
}

impl Wire {
    pub(super) fn new(
        stream: Box<dyn ByteStream>,
        begin: Vec<u8>,
        pace: Rc<Pace>,
        handle: Handle,
        origin: Origin,
    ) -> Self {
        Wire(Rc::new(Inner {
            stream: RefCell::new(Some(stream)),
            begin: RefCell::new((begin, 0)),
            corked: Cell::new(0),
            rest: RefCell::default(),
            unflushed: Cell::new(false),
            error: RefCell::default(),
            waker: RefCell::default(),
            pace,
            cork: Cork::of(&handle),
            handle,
            origin,
        }))
    }

    /// Takes the stream. Unsent bytes are lost.
    pub(super) fn take_stream(&self) -> Option<Box<dyn ByteStream>> {
        self.0.stream.try_borrow_mut().ok()?.take()
    }

    /// Whether accepted bytes are still unsent.
    pub(super) fn has_unsent(&self) -> bool {
        self.0.corked.get() > 0 || self.0.is_behind()
    }

    /// Sends more of what the peer did not accept before. The next operation returns the error, if
    /// there is one.
    pub(super) fn go_on(&self, cx: &mut Context<'_>) {
        if self.0.is_behind() {
            if let Poll::Ready(Err(error)) = self.0.poll_drain(cx) {
                self.0.error.replace(Some(error));
            }
        }
    }

    /// Ready when the stream has accepted and flushed everything.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_drain(cx)
    }

    /// Reads bytes that arrived before hyper got the stream.
    fn read_begin(&self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let (begin, taken) = &mut *self.0.begin.borrow_mut();
        if *taken == begin.len() {
            return false;
        }
        let count = cursor.remaining().min(begin.len() - *taken);
        cursor.put_slice(&begin[*taken..][..count]);
        *taken += count;
        if *taken == begin.len() {
            (*begin, *taken) = (Vec::new(), 0);
        }
        true
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (inner, room) = (&self.0, cursor.remaining());
        if self.read_begin(&mut cursor) {
            inner.pace.received();
            return Poll::Ready(Ok(()));
        }
        let result = inner.poll_stream(cx, |stream, cx| read_into(stream, cx, &mut cursor));
        inner.pace.unread().record(&inner.handle, &result);
        // The end of input persists: the next read returns it again.
        if matches!(result, Poll::Ready(Ok(0))) && room > 0 && inner.pace.withholds_end(cx) {
            return Poll::Pending;
        }
        if result.is_ready() {
            inner.pace.received();
        }
        if let (Poll::Ready(Ok(count)), true) = (&result, inner.pace.is_multiplexed()) {
            charge_frames(&inner.handle, *count);
        }
        result.map_ok(|_| ())
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.0.poll_pass_on(cx);
        self.0.pace.keeps(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_drain(cx))?;
        self.0.poll_stream(cx, |stream, cx| stream.poll_close(cx))
    }

    /// All our streams handle vectored writes well.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.0.poll_write(cx, buffers);
        self.0.pace.keeps(written.is_pending());
        written
    }
}

impl Inner {
    /// Whether the peer has not accepted everything that was sent. The connection then [sends
    /// more](Inner::poll_drain) when it is woken.
    fn is_behind(&self) -> bool {
        self.unflushed.get() || !self.rest.borrow().is_empty()
    }

    /// Runs an operation on the stream. The stream is busy only if user code below it makes a turn
    /// during an operation.
    fn poll_stream<T>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut dyn ByteStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let Ok(mut stream) = self.stream.try_borrow_mut() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        match stream.as_deref_mut() {
            Some(stream) => operation(Pin::new(stream), cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Corks a small write, which is then sent when the turn ends. Sends as much of a large write
    /// as is possible now.
    fn poll_write(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total + self.corked.get() <= Cork::MAX_BYTES
            && !self.is_behind()
            && self.error.borrow().is_none()
        {
            let same = |present: &Waker| present.will_wake(cx.waker());
            if !self.waker.borrow().as_ref().is_some_and(same) {
                drop(self.waker.replace(Some(cx.waker().clone())));
            }
            self.corked.set(self.corked.get() + total);
            self.cork.push(self.clone(), self.origin, pieces);
            return Poll::Ready(Ok(total));
        }
        ready!(self.poll_drain(cx))?;
        let result = self.poll_stream(cx, |stream, cx| stream.poll_write_vectored(cx, pieces));
        self.pace.wrote(result)
    }

    /// Flushes the stream now, unless something is corked.
    fn poll_pass_on(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_behind() {
            self.poll_drain(cx)
        } else if self.corked.get() > 0 {
            Poll::Ready(Ok(()))
        } else {
            self.poll_flush(cx)
        }
    }

    /// Ready when the stream has accepted and flushed everything.
    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.corked.get() > 0 {
            self.cork.flush(&self.handle);
        }
        // Taken out for the duration of the call, which may re-enter.
        let mut rest = self.rest.take();
        let (sent, result) = self.poll_send(cx, &rest);
        rest.drain(..sent);
        // An empty buffer is dropped, which frees its memory.
        if !rest.is_empty() {
            self.rest.replace(rest);
        }
        ready!(result)?;
        self.poll_flush(cx)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.poll_stream(cx, |stream, cx| stream.poll_flush(cx));
        self.unflushed.set(flushed.is_pending());
        flushed
    }

    /// Sends as much of `bytes` as the stream accepts. Returns how much that is, and whether it is
    /// all.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> (usize, Poll<io::Result<()>>) {
        let mut sent = 0;
        while sent < bytes.len() {
            let result = self.poll_stream(cx, |stream, cx| stream.poll_write(cx, &bytes[sent..]));
            match self.pace.wrote(result) {
                Poll::Ready(Ok(0)) => {
                    return (sent, Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return (sent, Poll::Ready(Err(error))),
                Poll::Pending => return (sent, Poll::Pending),
            }
        }
        (sent, Poll::Ready(Ok(())))
    }
}

impl Outlet for Inner {
    fn send(&self, bytes: &[u8]) {
        self.corked.set(self.corked.get() - bytes.len());
        // Bytes that the peer did not accept before go first.
        match if self.is_behind() {
            Ok(0)
        } else {
            self.send_now(bytes)
        } {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.send_or_keep(&bytes[sent..]),
            Err(error) => self.fail(error),
        }
    }
}

impl Inner {
    /// Fast path, if the stream is a plain socket. Returns how much was sent.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Ok(stream) = self.stream.try_borrow() else {
            return Ok(0);
        };
        let any: Option<&dyn Any> = stream.as_deref().map(|stream| stream as &dyn Any);
        let Some(socket) = any.and_then(|stream| stream.downcast_ref::<Stream>()) else {
            return Ok(0);
        };
        match socket.send_now(bytes) {
            Ok(sent) => {
                self.pace.moved(sent);
                Ok(sent)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the error for the next operation, and wakes the connection.
    #[cold]
    fn fail(&self, error: io::Error) {
        self.error.replace(Some(error));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Slow path, through the whole stream. Keeps what is not accepted.
    #[cold]
    fn send_or_keep(&self, bytes: &[u8]) {
        let Some(waker) = self.waker.take() else {
            return;
        };
        let mut sending = Sending {
            inner: self,
            waker: Some(waker.clone()),
        };
        let mut cx = Context::from_waker(&waker);
        let result = if self.is_behind() {
            self.rest.borrow_mut().extend_from_slice(bytes);
            Poll::Pending
        } else {
            match self.poll_send(&mut cx, bytes) {
                (sent, Poll::Pending) => {
                    // What comes after it may be there already, if the stream has made a turn.
                    let rest = bytes[sent..].iter().copied();
                    self.rest.borrow_mut().splice(0..0, rest);
                    Poll::Pending
                }
                (_, Poll::Ready(Ok(()))) => self.poll_flush(&mut cx),
                (_, failed) => failed,
            }
        };
        sending.waker = None;
        self.waker.borrow_mut().get_or_insert(waker);
        if let Poll::Ready(Err(error)) = result {
            self.fail(error);
        }
    }
}

/// Ends the connection if its stream panics. What was to be sent is lost, and a peer would take the
/// next answer for it.
struct Sending<'a> {
    inner: &'a Inner,
    /// Present until it has not panicked.
    waker: Option<Waker>,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            let error = io::Error::other("the stream panicked");
            self.inner.error.replace(Some(error));
            waker.wake();
        }
    }
}
