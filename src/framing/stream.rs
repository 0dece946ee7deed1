//! Frames over a byte stream, for async code.

use std::{
    cell::RefCell,
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};

use super::{FrameError, Frames, Framing};
use crate::share::spend_message;

/// Frames over a byte stream.
///
/// ```
/// use entwined::{Standalone, framing::{FramedStream, Prefixed, Width}, transport::memory};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let (here, there) = memory::pair(&handle);
/// let framing = Prefixed::new(Width::U16, 1_000);
/// let mut here = FramedStream::new(here, framing.clone());
/// let mut there = FramedStream::new(there, framing);
///
/// handle.clone().spawn(async move {
///     here.send(b"hello").await.expect("sent");
///     assert_eq!(there.next().await.expect("a frame").expect("no error"), b"hello");
///     here.close().await.expect("closed");
///     assert!(there.next().await.is_none());
///     handle.stop();
/// });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// If both sides send at the same time, someone must also read: [`send`](FramedStream::send) waits
/// while the peer does not read, and a peer that waits in `send` does not read either. If this can
/// happen, [`split`](FramedStream::split) the stream and use one task for each direction.
#[derive(Debug)]
pub struct FramedStream<S, F> {
    stream: S,
    incoming: Incoming<F>,
    outgoing: Outgoing,
}

/// The number of bytes to read at a time.
const INPUT: usize = 16 * 1024;

/// `send` waits while more than this many bytes are unsent.
const OUTPUT: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin, F: Framing> FramedStream<S, F> {
    /// Creates a framed stream over `stream`. It buffers up to 16 KiB of received data plus an
    /// incomplete frame, and up to 64 KiB of unsent data plus one frame.
    pub fn new(stream: S, framing: F) -> Self {
        let incoming = Incoming {
            frames: Frames::new(framing),
            input: Vec::new(),
            start: 0,
            ended: false,
        };
        FramedStream {
            stream,
            incoming,
            outgoing: Outgoing::default(),
        }
    }

    /// Returns the framing, to change it between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        self.incoming.frames.framing_mut()
    }

    /// Returns the underlying stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Returns the stream, and the received bytes that do not belong to a returned frame yet.
    /// Unsent data is lost.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        let mut incoming = self.incoming;
        let mut left = incoming.frames.pending.split_off(incoming.frames.taken);
        left.extend_from_slice(&incoming.input[incoming.start..]);
        (self.stream, left)
    }

    /// Splits the stream into a receiving and a sending half, for two tasks. The stream is dropped
    /// with the last half. Until then the writer's [`close`](FrameWriter::close) ends its
    /// direction. Each half has its own framing; changing one does not affect the other.
    ///
    /// ```
    /// use entwined::{Standalone, framing::{FramedStream, Lines}, transport::memory};
    ///
    /// let reactor = Standalone::new()?;
    /// let handle = reactor.handle();
    /// let (here, there) = memory::pair(&handle);
    /// for stream in [here, there] {
    ///     let (mut reader, mut writer) = FramedStream::new(stream, Lines::new(100)).split();
    ///     handle.spawn(async move {
    ///         for _ in 0..100_000 {
    ///             writer.send(b"as much as you like").await.expect("sent");
    ///         }
    ///         writer.close().await
    ///     });
    ///     let handle = handle.clone();
    ///     handle.clone().spawn(async move {
    ///         while let Some(line) = reader.next().await {
    ///             line.expect("a line");
    ///         }
    ///         handle.stop();
    ///     });
    /// }
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (FrameReader<S, F>, FrameWriter<S, F>)
    where
        F: Clone,
    {
        let stream = Rc::new(RefCell::new(self.stream));
        let framing = self.incoming.frames.framing().clone();
        let writer = FrameWriter {
            stream: stream.clone(),
            framing,
            outgoing: self.outgoing,
        };
        (
            FrameReader {
                stream,
                incoming: self.incoming,
            },
            writer,
        )
    }

    /// Returns the next frame, or `None` at the end of the input.
    ///
    /// # Errors
    /// The peer did not send a valid frame, or the stream failed. After a frame that was [too
    /// long](FrameError::TooLong), [`Lines`](super::Lines) continues.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, FramedError>>
    where
        F: Unpin,
    {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Sends a frame. Tries to send all buffered data, and waits while too much of it remains.
    ///
    /// If the future is dropped, the frame is sent if there was room for it.
    ///
    /// # Errors
    /// If the bytes cannot be sent as a frame, or the stream failed.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FramedError> {
        let (outgoing, stream) = (&mut self.outgoing, &mut self.stream);
        poll_fn(|cx| outgoing.poll_room(stream, cx)).await?;
        outgoing.put(self.incoming.frames.framing(), frame)?;
        poll_fn(|cx| outgoing.poll_some(stream, cx)).await
    }

    /// Waits until all data is sent.
    ///
    /// # Errors
    /// If the stream failed.
    pub async fn flush(&mut self) -> Result<(), FramedError> {
        poll_fn(|cx| self.outgoing.poll_all(&mut self.stream, cx)).await
    }

    /// Waits until all data is sent, then ends this direction.
    ///
    /// # Errors
    /// If the stream failed.
    pub async fn close(&mut self) -> Result<(), FramedError> {
        poll_fn(|cx| self.outgoing.poll_close(&mut self.stream, cx)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, F: Framing + Unpin> Stream for FramedStream<S, F> {
    type Item = Result<Vec<u8>, FramedError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Continue to send what `send` left in the buffer. Errors are reported to the sender.
        let _ = this.outgoing.poll_all(&mut this.stream, cx);
        this.incoming.poll_next(&mut this.stream, cx)
    }
}

/// The receiving half of a [`FramedStream`]. Created by [`FramedStream::split`].
#[derive(Debug)]
pub struct FrameReader<S, F> {
    stream: Rc<RefCell<S>>,
    incoming: Incoming<F>,
}

impl<S: AsyncRead + Unpin, F: Framing> FrameReader<S, F> {
    /// Returns the framing, to change it between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        self.incoming.frames.framing_mut()
    }

    /// See [`FramedStream::next`].
    ///
    /// # Errors
    /// See [`FramedStream::next`].
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, FramedError>>
    where
        F: Unpin,
    {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<S: AsyncRead + Unpin, F: Framing + Unpin> Stream for FrameReader<S, F> {
    type Item = Result<Vec<u8>, FramedError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.incoming.poll_next(&mut *this.stream.borrow_mut(), cx)
    }
}

/// The sending half of a [`FramedStream`]. Created by [`FramedStream::split`]. Dropping it loses
/// unsent data.
#[derive(Debug)]
pub struct FrameWriter<S, F> {
    stream: Rc<RefCell<S>>,
    framing: F,
    outgoing: Outgoing,
}

impl<S: AsyncWrite + Unpin, F: Framing> FrameWriter<S, F> {
    /// Returns the framing, to change it between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        &mut self.framing
    }

    /// Sends a frame. Waits while more than 64 KiB are unsent. A smaller rest is sent by the next
    /// call or by [`flush`](FrameWriter::flush). If the future is dropped, the frame is sent if
    /// there was room for it.
    ///
    /// # Errors
    /// If the bytes cannot be sent as a frame, or the stream failed.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FramedError> {
        poll_fn(|cx| self.outgoing.poll_room(&mut *self.stream.borrow_mut(), cx)).await?;
        self.outgoing.put(&self.framing, frame)?;
        poll_fn(|cx| self.outgoing.poll_some(&mut *self.stream.borrow_mut(), cx)).await
    }

    /// See [`FramedStream::flush`].
    ///
    /// # Errors
    /// See [`FramedStream::flush`].
    pub async fn flush(&mut self) -> Result<(), FramedError> {
        poll_fn(|cx| self.outgoing.poll_all(&mut *self.stream.borrow_mut(), cx)).await
    }

    /// See [`FramedStream::close`].
    ///
    /// # Errors
    /// See [`FramedStream::close`].
    pub async fn close(&mut self) -> Result<(), FramedError> {
        poll_fn(|cx| self.outgoing.poll_close(&mut *self.stream.borrow_mut(), cx)).await
    }
}

#[derive(Debug)]
struct Incoming<F> {
    frames: Frames<F>,
    /// Received data that was not decoded yet, from `start` on.
    input: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<F: Framing> Incoming<F> {
    fn poll_next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, FramedError>>> {
        loop {
            let has_more = self.start < self.input.len() || self.frames.pending() > 0;
            if has_more && !spend_message() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut input = &self.input[self.start..];
            let before = input.len();
            let frame = self
                .frames
                .next(&mut input)
                .map(|frame| frame.map(<[u8]>::to_vec));
            let used = before - input.len();
            self.start += used;
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(_) if self.ended => return Poll::Ready(None),
                Err(error) => {
                    // Nothing can follow a fatal error.
                    self.ended = error.is_fatal();
                    return Poll::Ready(Some(Err(FramedError::Frame(error))));
                }
            }
            (self.input, self.start) = (Vec::new(), 0);
            if self.ended {
                return Poll::Ready(None);
            }
            let mut buffer = [0; INPUT];
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                Ok(0) => {
                    self.ended = true;
                    let last = self.frames.finish().map(|last| last.map(<[u8]>::to_vec));
                    return Poll::Ready(last.map_err(FramedError::Frame).transpose());
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(FramedError::Stream(error))));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Outgoing {
    /// Encoded data that was not sent yet, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Whether the underlying stream may still buffer some of the data.
    unflushed: bool,
}

impl Outgoing {
    fn put(&mut self, framing: &impl Framing, frame: &[u8]) -> Result<(), FramedError> {
        // Moves the rest to the front if that copies fewer bytes than it frees. A peer that reads
        // slowly never lets it be empty.
        if self.sent > self.output.len() - self.sent {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        framing
            .encode(frame, &mut self.output)
            .map_err(FramedError::Frame)
    }

    /// Waits for room for a frame. There is none if a call that was given up has left too much.
    fn poll_room(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError>> {
        match self.output.len() - self.sent <= OUTPUT {
            true => Poll::Ready(Ok(())),
            false => self.poll_some(stream, cx),
        }
    }

    /// Waits only while more than `OUTPUT` bytes are left.
    fn poll_some(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError>> {
        match self.poll_all(stream, cx) {
            Poll::Pending if self.output.len() - self.sent <= OUTPUT => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    fn poll_all(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError>> {
        while self.sent < self.output.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.output[self.sent..])) {
                Ok(0) => {
                    return Poll::Ready(Err(FramedError::Stream(io::ErrorKind::WriteZero.into())));
                }
                Ok(count) => self.sent += count,
                Err(error) => return Poll::Ready(Err(FramedError::Stream(error))),
            }
            self.unflushed = true;
        }
        self.sent = 0;
        if self.output.capacity() > OUTPUT {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        if self.unflushed {
            ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(FramedError::Stream)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FramedError>> {
        ready!(self.poll_all(stream, cx))?;
        Pin::new(stream).poll_close(cx).map_err(FramedError::Stream)
    }
}

/// Why a frame was not received or not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum FramedError {
    /// The frame is invalid.
    Frame(FrameError),
    /// The stream failed.
    Stream(io::Error),
}

impl fmt::Display for FramedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramedError::Frame(source) => source.fmt(f),
            FramedError::Stream(source) => write!(f, "the connection failed: {source}"),
        }
    }
}

impl Error for FramedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FramedError::Frame(source) => Some(source),
            FramedError::Stream(source) => Some(source),
        }
    }
}
