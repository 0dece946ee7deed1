//! What the client knows of a connection and of a request beyond what hyper tells: progress, and
//! how to end them.

use std::{
    cell::{Cell, OnceCell, RefCell},
    error::Error,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use futures_io::{AsyncRead, AsyncWrite};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    Body, Bytes,
    io::charge_frames,
    times::{LAST_WORDS, later},
    unread::{Grace, Unread},
};
use entwined::{
    reactor::{Handle, Label, Origin},
    task::Sleep,
    transport::ByteStream,
};

/// A connection to a server.
pub(super) struct Link {
    handle: Handle,
    unread: Unread,
    /// Bytes that have come from the server.
    read: Cell<u64>,
    /// When the server, or the kernel's buffer, took bytes last.
    wrote: Cell<Instant>,
    /// Whether a write waits for the server.
    blocked: Cell<bool>,
    /// Requests without a complete response.
    active: Cell<usize>,
    /// Tells how many of them the server takes at a time, over HTTP/2.
    max_streams: OnceCell<Box<dyn Fn() -> usize>>,
    /// When there were none for the first time since the last one.
    rested: Cell<Instant>,
    /// Is told of that.
    keeper: RefCell<Option<Rc<dyn Fn()>>>,
    /// The connection ends once nothing is active.
    ends: Cell<bool>,
    killed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Link {
    pub(super) fn new(handle: &Handle) -> Rc<Self> {
        Rc::new(Link {
            handle: handle.clone(),
            unread: Unread::default(),
            read: Cell::new(0),
            wrote: Cell::new(handle.now()),
            blocked: Cell::new(false),
            active: Cell::new(0),
            max_streams: OnceCell::new(),
            rested: Cell::new(handle.now()),
            keeper: RefCell::default(),
            ends: Cell::new(false),
            killed: Cell::new(false),
            waker: RefCell::default(),
        })
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.read.get()
    }

    /// Drives the connection to its end, or until it is killed.
    pub(super) async fn drive<E>(&self, connection: impl Future<Output = Result<(), E>>)
    where
        E: std::fmt::Display,
    {
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            if self.killed.get() {
                return Poll::Ready(Ok(()));
            }
            drop(self.waker.replace(Some(cx.waker().clone())));
            connection.as_mut().poll(cx)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to a server ended with an error");
        }
    }

    /// The server takes as many streams at a time as this function says.
    pub(super) fn takes(&self, streams: impl Fn() -> usize + 'static) {
        let _ = self.max_streams.set(Box::new(streams));
    }

    /// Drops the connection.
    fn kill(&self) {
        self.killed.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One request and its response, from when the request is sent until its response has ended.
pub(super) struct Exchange {
    link: Rc<Link>,
    upload: Rc<Upload>,
    /// Whether the connection carries other requests at the same time (HTTP/2).
    shared: bool,
    /// Since when the server is waited for, and how many bytes had come by then.
    waits: Cell<(Instant, u64)>,
}

/// A connection of HTTP/2 on which nothing has come for so long, though a request waited that is
/// now given up, gets no further requests. Its server may have vanished, which nobody says.
const MAX_SILENCE: Duration = Duration::from_secs(1);

impl Exchange {
    pub(super) fn new(link: &Rc<Link>, upload: &Rc<Upload>, shared: bool) -> Self {
        link.active.set(link.active.get() + 1);
        Exchange {
            link: link.clone(),
            upload: upload.clone(),
            shared,
            waits: Cell::new((link.handle.now(), link.bytes_read())),
        }
    }

    /// Whether the server is late although its deadline may have passed before all that it has sent
    /// was read.
    pub(super) fn poll_late(&self, cx: &mut Context<'_>, grace: &mut Grace) -> Poll<()> {
        grace.poll_late(cx, &self.link.handle, &self.link.unread)
    }

    /// The next piece of the response is waited for.
    pub(super) fn waits(&self) {
        self.waits
            .set((self.link.handle.now(), self.link.bytes_read()));
    }

    /// The request is given up, because the server takes too long. If it says nothing to others
    /// either, its connection is given up as well.
    pub(super) fn is_late(&self) {
        if self.shared && self.waits.get().1 == self.link.bytes_read() {
            self.link.ends.set(true);
        }
    }

    /// When the server made progress with the request last. This is now while the request waits
    /// for its own body.
    pub(super) fn progress(&self) -> Instant {
        if self.upload.waits.get() {
            return self.link.handle.now();
        }
        let taken = self.upload.taken.get();
        if self.shared {
            taken
        } else {
            taken.max(self.link.wrote.get())
        }
    }

    /// The response has begun. If the server closes the connection after it, the rest of the
    /// request is not sent (RFC 9112, 9.5).
    pub(super) fn answered(&self, closes: bool) {
        if closes {
            self.upload.silent.set(true);
        }
    }
}

impl Drop for Exchange {
    /// Without a response, nobody takes the rest of the request. The connection does not wait for
    /// it, nor does its body stay in memory.
    fn drop(&mut self) {
        let active = self.link.active.get() - 1;
        self.link.active.set(active);
        let done = self.upload.done.get();
        if self.link.handle.now() >= later(self.waits.get().0, MAX_SILENCE) {
            self.is_late();
        }
        if self.shared {
            if !done {
                self.upload.fail();
                self.link.ends.set(true);
            }
            if self.link.ends.get() && active == 0 {
                self.link.kill();
            }
        } else if !done || self.link.blocked.get() {
            self.link.kill();
        }
        if active == 0 {
            self.link.rest();
        }
    }
}

impl Link {
    /// Since when there has been no request; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.active.get() == 0).then(|| self.rested.get())
    }

    /// Calls `keeper` whenever the last request has been answered.
    pub(super) fn kept_by(&self, keeper: Rc<dyn Fn()>) {
        *self.keeper.borrow_mut() = Some(keeper);
    }

    fn rest(&self) {
        self.rested.set(self.handle.now());
        let keeper = self.keeper.borrow().clone();
        if let Some(keeper) = keeper {
            keeper();
        }
    }

    /// Whether the server takes one more request now.
    pub(super) fn has_room(&self) -> bool {
        let most = self.max_streams.get();
        most.is_none_or(|most| self.active.get() < most())
    }

    /// Whether the connection takes further requests.
    pub(super) fn is_usable(&self) -> bool {
        !self.ends.get() && !self.killed.get()
    }
}

/// A stream whose progress its link records.
pub(super) struct Linked {
    stream: Box<dyn ByteStream>,
    link: Rc<Link>,
    /// Whether it carries HTTP/2.
    two: bool,
    /// Whether anybody reads.
    is_read: bool,
    /// Ends the wait of a write that has failed, over HTTP/2.
    patience: Option<Sleep>,
}

impl Linked {
    pub(super) fn new(stream: Box<dyn ByteStream>, link: Rc<Link>, two: bool) -> Self {
        Linked {
            stream,
            link,
            two,
            is_read: false,
            patience: None,
        }
    }

    /// A server that takes no more may have said why. hyper gives a connection up when writing
    /// fails; so writing waits, and reading tells the end, after what has come before.
    ///
    /// Over HTTP/1, hyper reads while a request waits, and the request has its limits. Over HTTP/2
    /// it does not read while it greets the server, or answers a PING.
    fn or_wait<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error)) if self.is_read && is_end(error.kind()) => {
                if self.two {
                    let handle = &self.link.handle;
                    let patience = || handle.sleep(LAST_WORDS);
                    ready!(Pin::new(self.patience.get_or_insert_with(patience)).poll(cx));
                    return Poll::Ready(Err(error));
                }
                Poll::Pending
            }
            result => result,
        }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let result = self.or_wait(cx, result);
        self.link.blocked.set(result.is_pending());
        if let Poll::Ready(Ok(1..)) = result {
            self.link.wrote.set(self.link.handle.now());
        }
        result
    }
}

/// Whether the connection has ended, in order or not. TLS without close_notify ends unexpectedly.
pub(super) fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    )
}

impl AsyncRead for Linked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.is_read = true;
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.link.unread.record(&self.link.handle, &result);
        let count = ready!(result)?;
        let now = self.link.handle.now();
        if let Some(patience) = &mut self.patience {
            patience.reset(later(now, LAST_WORDS));
        }
        self.link.read.set(self.link.read.get() + count as u64);
        charge_frames(&self.link.handle, count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Linked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.wrote(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_wait(cx, result)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// How far the body of a request is.
pub(super) struct Upload {
    handle: Handle,
    /// When a piece of it was taken last.
    taken: Cell<Instant>,
    /// Whether the body has no piece ready, so that the server waits for us.
    waits: Cell<bool>,
    /// Whether all of it was taken, or nobody takes the rest.
    done: Cell<bool>,
    /// Nothing more is sent.
    silent: Cell<bool>,
    failed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Upload {
    pub(super) fn new(handle: &Handle) -> Rc<Self> {
        Rc::new(Upload {
            handle: handle.clone(),
            taken: Cell::new(handle.now()),
            waits: Cell::new(false),
            done: Cell::new(false),
            silent: Cell::new(false),
            failed: Cell::new(false),
            waker: RefCell::default(),
        })
    }

    fn fail(&self) {
        self.failed.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The body of a request on its way.
pub(super) struct Outgoing {
    body: Body,
    /// The rest of a piece of `body`.
    rest: Bytes,
    upload: Rc<Upload>,
    origin: Origin,
}

/// The most bytes of a piece. Each one that is taken is progress.
const PIECE: usize = 64 * 1024;

impl Outgoing {
    pub(super) fn new(body: Body, upload: &Rc<Upload>) -> Self {
        Outgoing {
            body,
            rest: Bytes::new(),
            upload: upload.clone(),
            origin: Origin::here(Label::TASK),
        }
    }

    /// Asks the body for something. If it panics, that ends its request and no other: hyper asks in
    /// the task of the connection.
    fn ask<T>(&self, ask: impl FnOnce(&Body) -> T) -> Option<T> {
        let upload = &self.upload;
        let answer = upload.handle.contain(self.origin, || ask(&self.body));
        if answer.is_none() {
            upload.failed.set(true);
        }
        answer
    }

    /// Returns the body if nothing of it was taken.
    pub(super) fn into_body(mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.upload.done.set(true);
        self.upload.waits.set(false);
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let upload = &this.upload;
        if upload.failed.get() {
            return Poll::Ready(Some(
                Err("the response has ended before the request".into()),
            ));
        }
        drop(upload.waker.replace(Some(cx.waker().clone())));
        if upload.silent.get() {
            return Poll::Pending;
        }
        while this.rest.is_empty() {
            let body = Pin::new(&mut this.body);
            let polled = upload.handle.contain(this.origin, || body.poll_frame(cx));
            // A panic would end the task that sends it, and over HTTP/2 nobody would notice.
            let polled = polled.unwrap_or_else(|| {
                upload.failed.set(true);
                Poll::Ready(Some(Err("the body panicked".into())))
            });
            upload.waits.set(polled.is_pending());
            match ready!(polled) {
                None => {
                    upload.done.set(true);
                    return Poll::Ready(None);
                }
                Some(frame) => match frame?.into_data() {
                    // hyper asks again and again for what comes after empty pieces.
                    Ok(data) if data.is_empty() && !upload.handle.spend(1) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        upload.taken.set(upload.handle.now());
        if this.is_end_stream() {
            this.upload.done.set(true);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.ask(Body::is_end_stream).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let Some(body) = self.ask(Body::size_hint) else {
            return SizeHint::default();
        };
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
