//! Streams in the form that hyper uses.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use entwined::{Handle, server::Scratch};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

/// Adapts any [`futures_io`] stream, such as a [`Stream`](entwined::transport::Stream), to the
/// traits of [`hyper::rt`], for hyper itself and for libraries built on it.
#[derive(Clone, Debug)]
pub struct HyperIo<S>(pub S);

impl<S: AsyncRead + Unpin> Read for HyperIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        read_into(Pin::new(&mut self.0), cx, &mut cursor).map_ok(|_| ())
    }
}

impl<S: AsyncWrite + Unpin> Write for HyperIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    /// All our streams handle vectored writes well.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }
}

/// Charges what was read to the task's share, if it is cut into small pieces without giving way:
/// hyper and h2 take all frames, interim responses and tiny chunks from what was read. 32 KiB are a
/// whole share, which may be 2,520 frames of 13 bytes.
pub(super) fn charge_frames(handle: &Handle, count: usize) {
    let _ = handle.spend(count.div_ceil(512) as u32);
}

/// The window of a connection of HTTP/2 on which each of so many streams may use its own: a stream
/// that nobody reads takes nothing from the others.
#[cfg(feature = "http2")]
pub(super) fn window(stream: u32, streams: usize) -> u32 {
    /// RFC 9113, 6.9.1.
    const MOST: usize = (1 << 31) - 1;
    streams.max(1).saturating_mul(stream as usize).min(MOST) as u32
}

/// Reads into hyper's buffer, and returns the number of bytes.
///
/// Hyper's buffer is uninitialized, and claiming that it was filled is unsafe. Copying from an
/// initialized buffer costs less than a hundredth of the system call.
pub(super) fn read_into(
    stream: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
    cursor: &mut ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    let mut scratch = Scratch::take();
    let room = cursor.remaining().min(Scratch::SIZE);
    let result = stream.poll_read(cx, &mut scratch[..room]);
    if let Poll::Ready(Ok(received)) = result {
        cursor.put_slice(&scratch[..received]);
    }
    result
}
