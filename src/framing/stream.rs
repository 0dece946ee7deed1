//! Frames over a stream, for async code.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};

use super::{FrameError, Frames, Framing};

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
///     handle.stop().expect("the reactor runs");
/// }).detach();
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FramedStream<S, F> {
    stream: S,
    frames: Frames<F>,
    /// What was received and not looked at, from `start` on.
    input: Vec<u8>,
    start: usize,
    /// What was written and not sent, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    ended: bool,
}

/// Bytes that are received at a time.
const INPUT: usize = 16 * 1024;

/// Beyond so many bytes that were not sent, `send` waits.
const OUTPUT: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin, F: Framing> FramedStream<S, F> {
    /// Frames over `stream`. It buffers up to 16 KiB of what is received, an incomplete frame, and up to 64 KiB and one frame of what is sent.
    pub fn new(stream: S, framing: F) -> Self {
        FramedStream {
            stream,
            frames: Frames::new(framing),
            input: Vec::new(),
            start: 0,
            output: Vec::new(),
            sent: 0,
            ended: false,
        }
    }

    /// The framing, to be changed between two frames.
    pub fn framing_mut(&mut self) -> &mut F {
        self.frames.framing_mut()
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Gives back the stream, and the bytes that were received from it and belong to no frame yet. What was not sent is lost.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        let mut left = self.frames.pending.split_off(self.frames.taken);
        left.extend_from_slice(&self.input[self.start..]);
        (self.stream, left)
    }

    /// The next frame; none at the end of input.
    ///
    /// # Errors
    /// What the peer sends is no frame, or the stream has failed. After a frame that was [too long](FrameError::TooLong) lines go on.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, FramedError>>
    where
        F: Unpin,
    {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Sends a frame. It waits while too much waits to be sent, and tries to send all of it.
    ///
    /// # Errors
    /// When these bytes cannot be a frame, or the stream has failed.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FramedError> {
        self.frames.encode(frame, &mut self.output).map_err(FramedError::Frame)?;
        poll_fn(|cx| match self.poll_send(cx) {
            Poll::Pending if self.output.len() - self.sent <= OUTPUT => Poll::Ready(Ok(())),
            polled => polled,
        })
        .await
    }

    /// Waits until all is sent.
    ///
    /// # Errors
    /// When the stream has failed.
    pub async fn flush(&mut self) -> Result<(), FramedError> {
        poll_fn(|cx| {
            ready!(self.poll_send(cx))?;
            Pin::new(&mut self.stream).poll_flush(cx).map_err(FramedError::Stream)
        })
        .await
    }

    /// Waits until all is sent and ends this direction.
    ///
    /// # Errors
    /// When the stream has failed.
    pub async fn close(&mut self) -> Result<(), FramedError> {
        self.flush().await?;
        poll_fn(|cx| Pin::new(&mut self.stream).poll_close(cx)).await.map_err(FramedError::Stream)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FramedError>> {
        while self.sent < self.output.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(FramedError::Stream(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.sent += count,
                Err(error) => return Poll::Ready(Err(FramedError::Stream(error))),
            }
        }
        self.sent = 0;
        if self.output.capacity() > OUTPUT {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, F: Framing + Unpin> Stream for FramedStream<S, F> {
    type Item = Result<Vec<u8>, FramedError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // What was left behind by `send` goes on meanwhile; its errors are for who sends.
        let _ = this.poll_send(cx);
        loop {
            let mut input = &this.input[this.start..];
            let before = input.len();
            let frame = this.frames.next(&mut input).map(|frame| frame.map(<[u8]>::to_vec));
            let used = before - input.len();
            this.start += used;
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(_) if this.ended => return Poll::Ready(None),
                Err(error) => {
                    // Nothing comes behind an error that is fatal.
                    this.ended = error.is_fatal();
                    return Poll::Ready(Some(Err(FramedError::Frame(error))));
                }
            }
            (this.input, this.start) = (Vec::new(), 0);
            if this.ended {
                return Poll::Ready(None);
            }
            let mut buffer = [0; INPUT];
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(0) => {
                    this.ended = true;
                    let last = this.frames.finish().map(|last| last.map(<[u8]>::to_vec));
                    return Poll::Ready(last.map_err(FramedError::Frame).transpose());
                }
                Ok(count) => this.input.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(FramedError::Stream(error))));
                }
            }
        }
    }
}

/// Why there is no frame, or it was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum FramedError {
    /// It is no frame.
    Frame(FrameError),
    /// The stream has failed.
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
