//! Logs the traffic of a connection.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures_io::{AsyncRead, AsyncWrite};

use crate::{forward_stream, transport::ByteStream};

/// A stream that logs its traffic through [`tracing`], at level `DEBUG` with the target
/// `entwined::traffic`. Each read or write is an event with the peer, the direction, the number of
/// bytes, and the first 64 of them, escaped. When the stream is dropped, one more event has the
/// totals.
///
/// Below TLS this logs encrypted records; above TLS it logs plain text, including secrets.
#[derive(Debug)]
pub struct TrafficLog<S: ByteStream> {
    below: S,
    received: u64,
    sent: u64,
}

/// How many bytes of each read or write are shown.
const SHOWN: usize = 64;

const TARGET: &str = "entwined::traffic";

impl<S: ByteStream> TrafficLog<S> {
    /// Logs the traffic of `stream`.
    pub fn new(stream: S) -> Self {
        TrafficLog {
            below: stream,
            received: 0,
            sent: 0,
        }
    }

    fn note(&self, direction: &'static str, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let peer = self.below.peer_address();
        tracing::debug!(
            target: TARGET,
            %peer,
            direction,
            bytes = data.len(),
            data = %Excerpt(data)
        );
    }
}

impl<S: ByteStream> Drop for TrafficLog<S> {
    fn drop(&mut self) {
        let peer = self.below.peer_address();
        tracing::debug!(
            target: TARGET,
            %peer,
            received = self.received,
            sent = self.sent,
            "the connection is over"
        );
    }
}

struct Excerpt<'a>(&'a [u8]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN)];
        write!(
            f,
            "{}{}",
            shown.escape_ascii(),
            if shown.len() < self.0.len() {
                "..."
            } else {
                ""
            }
        )
    }
}

impl<S: ByteStream> AsyncRead for TrafficLog<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.below).poll_read(cx, buffer);
        if let Poll::Ready(Ok(count)) = read {
            self.received += count as u64;
            self.note("received", &buffer[..count]);
        }
        read
    }
}

impl<S: ByteStream> AsyncWrite for TrafficLog<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write(cx, buffer);
        if let Poll::Ready(Ok(count)) = written {
            self.sent += count as u64;
            self.note("sent", &buffer[..count]);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.below).poll_write_vectored(cx, buffers);
        if let Poll::Ready(Ok(count)) = written {
            self.sent += count as u64;
            let mut left = count;
            for buffer in buffers {
                let piece = &buffer[..buffer.len().min(left)];
                left -= piece.len();
                self.note("sent", piece);
            }
        }
        written
    }

    forward_stream!(below: poll_flush, poll_close);
}

impl<S: ByteStream> ByteStream for TrafficLog<S> {
    forward_stream!(below: local_address, peer_address, poll_established, abort, below);
}
