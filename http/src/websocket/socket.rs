//! An open WebSocket.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_core::Stream;

use super::{
    Closed, Config, Error, Message, Sender,
    frame::{Event, Role},
    sender::Queue,
    wire::{End, GRACE, Wire},
};
use crate::times::{LAST_WORDS, later};
use entwined::{reactor::Handle, task::Sleep, transport::ByteStream};

/// A WebSocket. Keep calling [`next`](WebSocket::next): it also answers pings, and sends the
/// messages of [senders](Sender).
///
/// If the peer closes it, the queued messages and the answer to the close are still sent, and if
/// the peer violates the protocol, it is told why. This takes place on the reactor after
/// [`next`](WebSocket::next) has returned, and even if the WebSocket is dropped then. It takes at
/// most [`Config::write_timeout`] for each 16 KiB, and then 5 s for the peer to end the connection.
///
/// Dropping an open WebSocket ends the connection without a closing handshake. Use
/// [`close`](WebSocket::close) to close it properly.
pub struct WebSocket {
    /// `None` once it is over.
    wire: Option<Box<Wire>>,
    queue: Rc<Queue>,
    protocol: Option<String>,
    closed: Option<Closed>,
    /// Why writing failed, until everything that arrived before is read. The peer may have said why
    /// it has closed the connection.
    failed: Option<Error>,
    handle: Handle,
    /// The timer for the next PING, or for giving up the peer.
    patience: Sleep,
    interval: Duration,
    /// When the last PING was sent.
    asked: Option<Instant>,
}

impl WebSocket {
    /// `arrived` are bytes that were read from the stream already.
    pub(super) fn new(
        handle: &Handle,
        stream: Box<dyn ByteStream>,
        arrived: &[u8],
        role: Role,
        config: &Config,
        protocol: Option<String>,
    ) -> Self {
        WebSocket {
            wire: Some(Box::new(Wire::new(handle, stream, arrived, role, config))),
            queue: Rc::new(Queue::new(config.max_queued)),
            protocol,
            closed: None,
            failed: None,
            handle: handle.clone(),
            patience: handle.sleep(config.ping_interval),
            interval: config.ping_interval,
            asked: None,
        }
    }

    /// The subprotocol that both sides agreed on, if any.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Returns a sender for use elsewhere in the program.
    pub fn sender(&self) -> Sender {
        Sender::new(self.queue.clone())
    }

    /// How the peer closed the WebSocket, if it did.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Returns the next message, or `None` if the WebSocket was closed.
    ///
    /// # Errors
    /// The reason if the WebSocket failed. After that, `next` returns `None`.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Sends a message after those that are queued by senders, and waits until it is written.
    /// Nothing is received meanwhile; [`talk`](WebSocket::talk) does both.
    ///
    /// # Errors
    /// If the WebSocket has ended. [`Error::Stuck`] if the peer does not read; this ends it.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let mut message = Some(message.into());
        poll_fn(|cx| {
            ready!(self.poll_queue(cx))?;
            let wire = self.open()?;
            if let Some(message) = message.take() {
                wire.message(&message);
            }
            self.poll_flush(cx)
        })
        .await
    }

    /// Sends and receives at the same time. It sends the messages of `outgoing`, and takes the next
    /// one only when the previous one is written. It calls `received` for each message that
    /// arrives. It returns when the peer closes the WebSocket, or when `outgoing` has ended and
    /// everything is sent.
    ///
    /// If `outgoing` is a [`Subscriber`](entwined::broadcast::Subscriber), a slow peer misses
    /// messages instead of making them pile up.
    ///
    /// # Errors
    /// If the connection fails, the peer violates the protocol, or does not read.
    pub async fn talk<S>(
        &mut self,
        outgoing: S,
        mut received: impl FnMut(Message),
    ) -> Result<(), Error>
    where
        S: Stream<Item = Message>,
    {
        let mut outgoing = std::pin::pin!(outgoing);
        poll_fn(|cx| {
            loop {
                match Pin::new(&mut *self).poll_next(cx) {
                    Poll::Ready(Some(Ok(message))) => {
                        received(message);
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
                if self.failed.is_some() {
                    return Poll::Pending;
                }
                if let Err(error) = ready!(self.poll_queue(cx)) {
                    self.fail(error);
                    continue;
                }
                match ready!(outgoing.as_mut().poll_next(cx)) {
                    Some(message) => self.open()?.message(&message),
                    None => return Poll::Ready(Ok(())),
                }
            }
        })
        .await
    }

    /// Closes the WebSocket with a closing handshake. It sends everything that is queued, then the
    /// code and the reason (RFC 6455, 7.4; at most 123 bytes), and waits at most 5 s for the peer's
    /// answer. Messages that arrive meanwhile are dropped. Codes that must not be sent, such as
    /// 1005 and 1006, are left out together with the reason. If this is dropped before the answer
    /// has come, nothing more can be sent; the answer may still come with
    /// [`next`](WebSocket::next).
    ///
    /// # Errors
    /// If the connection fails first. [`Error::Stuck`] if the peer does not read, and
    /// [`Error::Silent`] if it does not answer.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let mut begun = false;
        poll_fn(|cx| {
            if self.wire.is_none() {
                return Poll::Ready(Ok(()));
            }
            if !begun {
                ready!(self.poll_queue(cx))?;
                begun = true;
                self.queue.close();
                if let Some(wire) = &mut self.wire {
                    wire.close(code, reason);
                }
            }
            self.poll_flush(cx)
        })
        .await?;
        let handle = self.handle.clone();
        let answered = poll_fn(|cx| {
            loop {
                let Some(wire) = &mut self.wire else {
                    return Poll::Ready(Ok(()));
                };
                match ready!(wire.poll_event(cx)) {
                    Ok(Event::Close(closed)) => {
                        self.closed = Some(closed);
                        self.finish(cx, VecDeque::new(), None);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(_) => {}
                    Err(end) => {
                        // The peer has our CLOSE frame, which is the last one.
                        self.end();
                        return Poll::Ready(Err(match end {
                            End::Error(error) => error,
                            End::Fault(fault) => Error::Protocol(fault.what.to_owned()),
                        }));
                    }
                }
            }
        });
        let answered = handle.timeout(GRACE, answered).await;
        answered.unwrap_or_else(|_| {
            self.end();
            Err(Error::Silent)
        })
    }

    /// The connection, as long as messages can be sent.
    fn open(&mut self) -> Result<&mut Wire, Error> {
        let wire = self.wire.as_deref_mut();
        wire.filter(|wire| !wire.is_closing()).ok_or(Error::Closed)
    }

    /// Writes what is encoded, and then what senders have queued.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.poll_flush(cx))?;
            let wire = self.wire.as_mut().ok_or(Error::Closed)?;
            let mut some = false;
            while wire.has_room() {
                let Some(message) = self.queue.pop() else {
                    break;
                };
                wire.message(&message);
                some = true;
            }
            if !some {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let wire = self.wire.as_mut().ok_or(Error::Closed)?;
        let result = ready!(wire.poll_flush(cx));
        if let Err(Error::Stuck) = &result {
            self.end();
        }
        Poll::Ready(result)
    }

    /// Nothing can be written any longer. What arrives in the next moment is still read.
    fn fail(&mut self, error: Error) {
        if self.failed.is_none() {
            self.failed = Some(error);
            self.patience.reset(later(self.handle.now(), LAST_WORDS));
        }
    }

    /// Nothing is sent or received any longer.
    fn end(&mut self) {
        self.wire = None;
        self.queue.close();
    }

    /// Ends the connection in order. What cannot be done at once is done by a task.
    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        messages: VecDeque<Message>,
        close: Option<(u16, String)>,
    ) {
        if let Some(wire) = self.wire.take() {
            let mut ending = Box::pin(wire.end(messages, close));
            if ending.as_mut().poll(cx).is_pending() {
                self.handle.spawn(ending);
            }
        }
        self.queue.close();
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        // A write that is late comes before reading can use up the task's share.
        if self.failed.is_none() && self.wire.as_ref().is_some_and(|wire| wire.is_stalled()) {
            if let Poll::Ready(Err(error)) = self.poll_queue(cx) {
                self.fail(error);
            }
        }
        // However much it says then.
        if self.failed.is_some() && Pin::new(&mut self.patience).poll(cx).is_ready() {
            self.end();
        }
        loop {
            let Some(wire) = &mut self.wire else {
                return Poll::Ready(self.failed.take().map(Err));
            };
            match wire.poll_event(cx) {
                Poll::Ready(Ok(Event::Message(message))) => {
                    // If writing fails, what arrived before is still returned.
                    if let Poll::Ready(Err(error)) = self.poll_queue(cx) {
                        self.fail(error);
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Ok(Event::Ping(payload))) => wire.pong(payload),
                Poll::Ready(Ok(Event::Nothing)) => {}
                Poll::Ready(Ok(Event::Close(closed))) => {
                    let code = closed.code;
                    self.closed = Some(closed);
                    let queued = self.queue.take();
                    self.finish(cx, queued, Some((code, String::new())));
                    return Poll::Ready(None);
                }
                Poll::Ready(Err(End::Fault(fault))) => {
                    let close = (fault.code, fault.what.to_owned());
                    self.finish(cx, VecDeque::new(), Some(close));
                    return Poll::Ready(Some(Err(Error::Protocol(fault.what.to_owned()))));
                }
                Poll::Ready(Err(End::Error(error))) => {
                    self.end();
                    let error = self.failed.take().unwrap_or(error);
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending if self.failed.is_some() => {
                    ready!(Pin::new(&mut self.patience).poll(cx));
                    self.end();
                }
                Poll::Pending => match self.poll_queue(cx) {
                    Poll::Ready(Err(error)) => self.fail(error),
                    _ => return self.poll_silent(cx).map(|error| Some(Err(error))),
                },
            }
        }
    }

    /// Asks a peer that was not heard for a while whether it is there, and then gives it up. Every
    /// byte counts: a long message may take its time.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            ready!(Pin::new(&mut self.patience).poll(cx));
            let Some(wire) = &mut self.wire else {
                return Poll::Ready(Error::Closed);
            };
            // What has arrived may not have been read for want of a share.
            if !self.handle.spend(0) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (now, due) = (self.handle.now(), later(wire.heard(), self.interval));
            if now < due {
                self.patience.reset(due);
                continue;
            }
            if self.asked.is_some_and(|asked| wire.heard() < asked) {
                self.end();
                return Poll::Ready(Error::Silent);
            }
            self.asked = Some(now);
            self.patience.reset(later(now, self.interval));
            wire.ping();
            // An error shows when the socket is polled next.
            let _ = wire.poll_flush(cx);
        }
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.keep(cx);
        self.poll_message(cx)
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("protocol", &self.protocol)
            .field("closed", &self.closed)
            .field("over", &self.wire.is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{error, io, task::Waker};

    use entwined::{Standalone, transport::Address};
    use futures_io::{AsyncRead, AsyncWrite};

    use super::*;

    /// A peer whose last bytes arrive between a read that finds nothing and a write that fails.
    struct Leaves {
        last: &'static [u8],
        reader: Option<Waker>,
        failed: bool,
    }

    impl AsyncRead for Leaves {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if !self.failed {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if self.last.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let last = std::mem::take(&mut self.last);
            buffer[..last.len()].copy_from_slice(last);
            Poll::Ready(Ok(last.len()))
        }
    }

    impl AsyncWrite for Leaves {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.failed = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl ByteStream for Leaves {
        fn local_address(&self) -> Address {
            Address::Unknown
        }

        fn peer_address(&self) -> Address {
            Address::Unknown
        }

        fn abort(&mut self) {}
    }

    /// Has nothing to send, and does not end.
    struct Nothing;

    impl Stream for Nothing {
        type Item = Message;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Message>> {
            Poll::Pending
        }
    }

    fn socket(handle: &Handle, last: &'static [u8]) -> WebSocket {
        let peer = Box::new(Leaves {
            last,
            reader: None,
            failed: false,
        });
        let config = Config::default();
        let socket = WebSocket::new(handle, peer, &[], Role::Client, &config, None);
        socket.sender().send("news").expect("it is open");
        socket
    }

    #[test]
    fn the_reason_of_a_peer_that_is_gone_is_heard_though_writing_to_it_fails() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let done = reactor.block_on(async move {
            let reason = Closed {
                code: 1001,
                reason: "bye".to_owned(),
            };
            let mut reading = socket(&handle, b"\x88\x05\x03\xe9bye");
            assert!(reading.next().await.is_none());
            assert_eq!(reading.closed(), Some(&reason));
            let mut talking = socket(&handle, b"\x88\x05\x03\xe9bye");
            let talked = talking.talk(Nothing, |_| {});
            assert!(talked.await.is_ok());
            assert_eq!(talking.closed(), Some(&reason));
            // It has said nothing.
            let mut silent = socket(&handle, b"");
            let broken = silent.next().await.expect("an error").expect_err("broken");
            let Error::Stream(broken) = broken else {
                panic!("{broken}");
            };
            assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
            Ok::<_, Box<dyn error::Error>>(())
        });
        done.expect("it ends");
    }
}
