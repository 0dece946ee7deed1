//! The wrapper that reads the header.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::Header;
use crate::{
    forward_stream,
    transport::{Address, ByteStream, Side, Waiting},
};

/// A stream that starts with a PROXY header. Once it is
/// [established](ByteStream::poll_established), it returns the addresses from the header.
#[derive(Debug)]
pub struct Proxied<S> {
    below: S,
    header: State,
    /// Those that wait for the header: a writer reads it too.
    waiting: Waiting,
}

#[derive(Debug)]
enum State {
    /// The header has not arrived completely.
    Awaited(Vec<u8>),
    /// The header, and bytes after it that have not been read yet.
    Known(Header, Vec<u8>),
    /// No header is expected.
    None,
}

impl<S: ByteStream> Proxied<S> {
    /// Reads a header from `stream` if `expected` is true; otherwise it changes nothing.
    ///
    /// Expect a header only from your own proxies, because it is trusted, and then always: a
    /// connection with a header cannot be told from one without by its bytes (section 2 of the
    /// specification).
    pub fn new(stream: S, expected: bool) -> Self {
        Proxied {
            below: stream,
            header: if expected {
                State::Awaited(Vec::new())
            } else {
                State::None
            },
            waiting: Waiting::default(),
        }
    }

    /// The header, once it has arrived.
    pub fn header(&self) -> Option<&Header> {
        match &self.header {
            State::Known(header, _) => Some(header),
            State::Awaited(_) | State::None => None,
        }
    }

    /// Waits for the header, for a reader or a writer.
    fn poll_header(&mut self, cx: &mut Context<'_>, side: Side) -> Poll<io::Result<()>> {
        if !matches!(self.header, State::Awaited(_)) {
            return self.below.poll_established(cx);
        }
        Waiting::poll(
            self,
            |this| &mut this.waiting,
            side,
            cx,
            Self::poll_established,
        )
    }
}

impl<S: ByteStream> ByteStream for Proxied<S> {
    fn local_address(&self) -> Address {
        let told = self.header().and_then(|header| header.destination.clone());
        told.unwrap_or_else(|| self.below.local_address())
    }

    fn peer_address(&self) -> Address {
        let told = self.header().and_then(|header| header.source.clone());
        told.unwrap_or_else(|| self.below.peer_address())
    }

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.below.poll_established(cx))?;
        while let State::Awaited(bytes) = &mut self.header {
            let mut buffer = [0; 512];
            let count = ready!(Pin::new(&mut self.below).poll_read(cx, &mut buffer))?;
            if count == 0 {
                let message = "the peer ended the connection in its PROXY header";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
            bytes.extend_from_slice(&buffer[..count]);
            if let Some((header, length)) = Header::parse(bytes)? {
                let rest = bytes.split_off(length);
                self.header = State::Known(header, rest);
            }
        }
        Poll::Ready(Ok(()))
    }

    forward_stream!(below: abort, below);
}

impl<S: ByteStream> AsyncRead for Proxied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_header(cx, Side::Reader))?;
        match &mut self.header {
            State::Known(_, rest) if !rest.is_empty() => {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                rest.drain(..count);
                if rest.is_empty() {
                    *rest = Vec::new();
                }
                return Poll::Ready(Ok(count));
            }
            _ => {}
        }
        Pin::new(&mut self.below).poll_read(cx, buffer)
    }
}

impl<S: ByteStream> AsyncWrite for Proxied<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_header(cx, Side::Writer))?;
        Pin::new(&mut self.below).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_header(cx, Side::Writer))?;
        Pin::new(&mut self.below).poll_write_vectored(cx, buffers)
    }

    forward_stream!(below: poll_flush, poll_close);
}
