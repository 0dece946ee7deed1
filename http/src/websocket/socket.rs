//! An open WebSocket.

use std::{
    error, fmt,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use tungstenite::{
    Message as Raw,
    protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::{Config, Message, Sender, sender::Queue};
use entwined::{reactor::Handle, task::Sleep, transport::ByteStream};

/// Why a WebSocket ended without a closing handshake.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The stream failed, or ended before the WebSocket was closed.
    Stream(io::Error),
    /// The peer violated the protocol, or exceeded a limit. It has been told so.
    Protocol(String),
    /// The peer does not answer.
    Silent,
    /// The WebSocket is closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Stream(source) => write!(f, "the connection failed: {source}"),
            Error::Protocol(what) => write!(f, "the peer violated the WebSocket protocol: {what}"),
            Error::Silent => f.write_str("the peer does not answer"),
            Error::Closed => f.write_str("the WebSocket is closed"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Stream(source) => Some(source),
            _ => None,
        }
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(source) => Error::Stream(source),
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Error::Closed
            }
            tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => Error::Stream(io::ErrorKind::UnexpectedEof.into()),
            other => Error::Protocol(other.to_string()),
        }
    }
}

/// How the peer closed the WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The close code (RFC 6455, 7.4). 1005 if the peer sent none.
    pub code: u16,
    /// The peer's reason.
    pub reason: String,
}

/// A WebSocket. Keep calling [`next`](WebSocket::next): it also answers pings, and sends the
/// messages of [senders](Sender).
///
/// Dropping it ends the connection without a closing handshake. Use [`close`](WebSocket::close) to
/// close it properly.
pub struct WebSocket {
    inner: tungstenite::WebSocket<Blocking>,
    queue: Rc<Queue>,
    protocol: Option<String>,
    closed: Option<Closed>,
    over: bool,
    handle: Handle,
    /// The timer for the next PING, or for giving up the peer.
    patience: Sleep,
    interval: Duration,
    asked: bool,
}

impl WebSocket {
    pub(super) fn new(
        handle: &Handle,
        stream: Box<dyn ByteStream>,
        role: Role,
        config: &Config,
        protocol: Option<String>,
    ) -> Self {
        let inner = tungstenite::WebSocket::from_raw_socket(
            Blocking::new(stream),
            role,
            Some(limits(config)),
        );
        Self::with_inner(handle, inner, config, protocol)
    }

    pub(super) fn with_inner(
        handle: &Handle,
        inner: tungstenite::WebSocket<Blocking>,
        config: &Config,
        protocol: Option<String>,
    ) -> Self {
        let queue = Rc::new(Queue::new(config.max_queued));
        let interval = config.ping_interval;
        let patience = handle.sleep(interval);
        let handle = handle.clone();
        WebSocket {
            inner,
            queue,
            protocol,
            closed: None,
            over: false,
            handle,
            patience,
            interval,
            asked: false,
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
    ///
    /// # Errors
    /// If the WebSocket has ended.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let mut message = Some(message.into());
        poll_fn(|cx| {
            self.inner.get_mut().keep(cx);
            if self.over {
                return Poll::Ready(Err(Error::Closed));
            }
            if self.poll_queue()?.is_pending() {
                return Poll::Pending;
            }
            if let Some(message) = message.take() {
                unless_blocked(self.inner.write(message.into()))?;
            }
            self.poll_flush()
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
    /// If the connection fails, or the peer violates the protocol.
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
                if self.poll_queue()?.is_pending() {
                    return Poll::Pending;
                }
                match std::task::ready!(outgoing.as_mut().poll_next(cx)) {
                    Some(message) => unless_blocked(self.inner.write(message.into()))?,
                    None => return Poll::Ready(Ok(())),
                };
            }
        })
        .await
    }

    /// Closes the WebSocket with a closing handshake. It sends everything that is queued, then the
    /// code and the reason (RFC 6455, 7.4; at most 123 bytes), and waits at most 5 s for the peer's
    /// answer.
    ///
    /// # Errors
    /// If the connection fails first.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let mut reason = reason;
        while reason.len() > 123 {
            reason = &reason[..reason
                .char_indices()
                .next_back()
                .map_or(0, |(place, _)| place)];
        }
        let mut frame = Some(CloseFrame {
            code: CloseCode::from(code),
            reason: reason.to_owned().into(),
        });
        let handle = self.handle.clone();
        let closing = poll_fn(|cx| {
            self.inner.get_mut().keep(cx);
            if frame.is_some() && !self.over {
                if self.poll_queue()?.is_pending() {
                    return Poll::Pending;
                }
                unless_blocked(self.inner.close(frame.take()))?;
            }
            loop {
                match Pin::new(&mut *self).poll_next(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        handle
            .timeout(Duration::from_secs(5), closing)
            .await
            .unwrap_or(Err(Error::Silent))
    }

    /// Passes queued messages to tungstenite, as far as they can be sent.
    fn poll_queue(&mut self) -> Result<Poll<()>, Error> {
        loop {
            if self.poll_flush()?.is_pending() {
                return Ok(Poll::Pending);
            }
            let message = self.queue.pop();
            let Some(message) = message else {
                return Ok(Poll::Ready(()));
            };
            unless_blocked(self.inner.write(message.into()))?;
        }
    }

    fn poll_flush(&mut self) -> Poll<Result<(), Error>> {
        match unless_blocked(self.inner.flush()) {
            Ok(Some(())) => Poll::Ready(Ok(())),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.queue.close();
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            // If writing fails, reading fails too, but first returns what arrived before.
            let _ = self.poll_queue();
            match unless_blocked(self.inner.read())? {
                Some(message) => {
                    self.asked = false;
                    self.patience.reset(self.handle.now() + self.interval);
                    match message {
                        Raw::Text(text) => {
                            return Poll::Ready(Ok(Message::Text(text.as_str().to_owned())));
                        }
                        Raw::Binary(bytes) => return Poll::Ready(Ok(Message::Binary(bytes))),
                        Raw::Close(frame) => {
                            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                                (frame.code.into(), frame.reason.to_string())
                            });
                            self.closed = Some(Closed { code, reason });
                        }
                        Raw::Ping(_) | Raw::Pong(_) | Raw::Frame(_) => {}
                    }
                }
                None => {
                    if Pin::new(&mut self.patience).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if self.asked {
                        return Poll::Ready(Err(Error::Silent));
                    }
                    self.asked = true;
                    self.patience.reset(self.handle.now() + self.interval);
                    let _ = self.inner.write(Raw::Ping(Bytes::new()));
                }
            }
        }
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        this.inner.get_mut().keep(cx);
        this.queue.keep(cx);
        let message = std::task::ready!(this.poll_message(cx));
        if message.is_err() {
            this.end();
        }
        Poll::Ready(match message {
            Err(Error::Closed) => None,
            message => Some(message),
        })
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
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// Turns "would block" into `None`.
fn unless_blocked<T>(result: tungstenite::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn limits(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(config.max_message_size))
        .max_frame_size(Some(config.max_message_size))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(16 * 1024)
}

/// Adapts a stream to the blocking traits that tungstenite uses. It returns `WouldBlock` instead of
/// blocking, and wakes the task that polled last.
pub(super) struct Blocking {
    stream: Box<dyn ByteStream>,
    waker: Waker,
}

impl Blocking {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Blocking {
            stream,
            waker: Waker::noop().clone(),
        }
    }

    pub(super) fn keep(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut Box<dyn ByteStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match poll(
            Pin::new(&mut self.stream),
            &mut Context::from_waker(&self.waker),
        ) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.poll(|stream, cx| stream.poll_read(cx, buffer))
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.poll(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.poll(AsyncWrite::poll_flush)
    }
}
