//! The frames of one connection: I/O, deadlines and the end.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};

use super::{
    Config, Error, Message,
    frame::{Decoder, Encoder, Event, Fault, PING, PONG, Role},
};
use entwined::{reactor::Handle, server::Scratch, task::Sleep, transport::ByteStream};

/// Encoded messages are written in blocks of about this many bytes. A peer must take as many within
/// [`Config::write_timeout`].
const BLOCK: usize = 16 * 1024;

/// How long an ending connection waits for the peer to end it too.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A connection, as frames.
pub(super) struct Wire {
    handle: Handle,
    stream: Box<dyn ByteStream>,
    role: Role,
    decoder: Decoder,
    encoder: Encoder,
    /// What has arrived and is not decoded. At most one read, and no memory while it is empty.
    input: BytesMut,
    /// Encoded frames, and how much of them is written.
    output: Vec<u8>,
    written: usize,
    /// The answer to the latest PING, if there was no room for it. Earlier ones need none (RFC
    /// 6455, 5.5.3).
    pong: Option<Bytes>,
    /// Present while the peer takes nothing.
    stall: Option<Stall>,
    write_timeout: Duration,
    /// When bytes arrived last.
    heard: Instant,
    /// Whether our CLOSE frame is encoded. It is the last one.
    closing: bool,
}

struct Stall {
    sleep: Sleep,
    taken: usize,
    /// Whether the time has passed. It may have passed while the thread was blocked, so the peer's
    /// socket gets one more try.
    late: bool,
}

/// What ended the input.
pub(super) enum End {
    Error(Error),
    Fault(Fault),
}

impl Wire {
    /// `arrived` are bytes that were read from the stream already.
    pub(super) fn new(
        handle: &Handle,
        stream: Box<dyn ByteStream>,
        arrived: &[u8],
        role: Role,
        config: &Config,
    ) -> Self {
        Wire {
            handle: handle.clone(),
            stream,
            role,
            decoder: Decoder::new(role, config.max_message_size),
            encoder: Encoder::new(role),
            input: arrived.into(),
            output: Vec::new(),
            written: 0,
            pong: None,
            stall: None,
            write_timeout: config.write_timeout,
            heard: handle.now(),
            closing: false,
        }
    }

    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether more should be encoded before the next write.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() - self.written < BLOCK
    }

    /// Whether nothing more can be sent, because our CLOSE frame has been.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn message(&mut self, message: &Message) {
        debug_assert!(!self.closing, "nothing comes after a CLOSE");
        self.encoder.message(message, &mut self.output);
    }

    pub(super) fn ping(&mut self) {
        if self.closing {
            return;
        }
        self.encoder.frame(PING, &[], &mut self.output);
    }

    pub(super) fn pong(&mut self, payload: Bytes) {
        if self.closing {
            return;
        }
        if self.has_room() {
            self.pong = None;
            self.encoder.frame(PONG, &payload, &mut self.output);
        } else {
            self.pong = Some(payload);
        }
    }

    /// Sends our CLOSE frame, unless it was sent already.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        self.pong = None;
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        self.encoder.close(code, reason, &mut self.output);
    }

    /// Writes all that is encoded.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            while self.written < self.output.len() {
                let stream = Pin::new(&mut self.stream);
                match stream.poll_write(cx, &self.output[self.written..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Error::Stream(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(count)) => {
                        self.written += count;
                        if let Some(stall) = &mut self.stall {
                            stall.taken += count;
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Stream(error))),
                    Poll::Pending => return self.poll_stuck(cx),
                }
            }
            self.written = 0;
            // An idle connection holds no memory.
            if self.output.capacity() > 1024 {
                self.output = Vec::new();
            }
            self.output.clear();
            match self.pong.take() {
                Some(payload) => self.encoder.frame(PONG, &payload, &mut self.output),
                None => break,
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(result) => {
                self.stall = None;
                Poll::Ready(result.map_err(Error::Stream))
            }
            Poll::Pending => self.poll_stuck(cx),
        }
    }

    /// Whether the peer did not take everything at the last write.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Fails if the peer has taken too little for too long.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (handle, timeout) = (&self.handle, self.write_timeout);
        let stall = self.stall.get_or_insert_with(|| Stall {
            sleep: handle.sleep(timeout),
            taken: 0,
            late: false,
        });
        if stall.taken >= BLOCK {
            (stall.taken, stall.late) = (0, false);
            stall.sleep.reset(handle.after(timeout));
        }
        ready!(Pin::new(&mut stall.sleep).poll(cx));
        // Without a share left, nothing was tried.
        if !stall.late || !self.handle.spend(0) {
            stall.late = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.stream.abort();
        Poll::Ready(Err(Error::Stuck))
    }

    /// Returns the next event. Each frame costs a unit of the task's share, whether or not it takes
    /// any I/O.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, End>> {
        loop {
            if !self.input.is_empty() {
                if !self.handle.spend(1) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.decoder.decode(&mut self.input) {
                    Ok(None) => {}
                    Ok(Some(Event::Nothing)) => continue,
                    Ok(Some(event)) => return Poll::Ready(Ok(event)),
                    Err(fault) => return Poll::Ready(Err(End::Fault(fault))),
                }
            }
            let (stream, input) = (Pin::new(&mut self.stream), &mut self.input);
            let read = poll_read(stream, cx, |bytes| {
                // Replaces the memory of what was decoded.
                if input.is_empty() {
                    *input = bytes.into();
                } else {
                    input.extend_from_slice(bytes);
                }
            });
            let failed = |error| Poll::Ready(Err(End::Error(Error::Stream(error))));
            match read {
                Poll::Pending => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return failed(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => self.heard = self.handle.now(),
                Poll::Ready(Err(error)) => return failed(error),
            }
        }
    }

    /// Ends the connection in order (RFC 6455, 7.1.1): sends `messages`, then a CLOSE frame if
    /// there is one to send, then reads until the peer ends it too. Closing it while input is
    /// unread would reset it, and the peer could lose what is on its way.
    pub(super) async fn end(
        mut self,
        mut messages: VecDeque<Message>,
        close: Option<(u16, String)>,
    ) {
        let mut close = close;
        let sent = poll_fn(|cx| {
            loop {
                while self.has_room() {
                    match messages.pop_front() {
                        Some(message) => self.message(&message),
                        None => break,
                    }
                }
                if messages.is_empty() {
                    if let Some((code, reason)) = close.take() {
                        self.close(code, &reason);
                    }
                }
                ready!(self.poll_flush(cx))?;
                if messages.is_empty() {
                    return Poll::Ready(Ok::<_, Error>(()));
                }
            }
        });
        if sent.await.is_err() {
            return;
        }
        let (handle, mut half_closed) = (self.handle.clone(), self.role == Role::Client);
        let drained = poll_fn(|cx| {
            // The server ends the connection first.
            if !half_closed {
                half_closed = ready!(Pin::new(&mut self.stream).poll_close(cx)).is_ok();
                if !half_closed {
                    return Poll::Ready(());
                }
            }
            while let Ok(1..) = ready!(poll_read(Pin::new(&mut self.stream), cx, |_| {})) {}
            Poll::Ready(())
        });
        let _ = handle.timeout(GRACE, drained).await;
    }
}

/// Reads into memory that all connections of the thread share.
fn poll_read(
    stream: Pin<&mut Box<dyn ByteStream>>,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut scratch = Scratch::take();
    let result = stream.poll_read(cx, &mut scratch[..BLOCK]);
    if let Poll::Ready(Ok(count)) = result {
        take(&scratch[..count]);
    }
    result
}
