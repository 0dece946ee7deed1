//! Requests and responses over one connection, in the version of HTTP that the peer uses.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use entwined::transport::ByteStream;
use hyper::server::conn::http1;

#[cfg(feature = "http2")]
use super::http2;
use super::{
    config::{Config, MOST_HEADERS},
    service::Answer,
    wire::Wire,
};

/// The connection preface that an HTTP/2 client sends first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection, which show the protocol that the peer uses.
#[derive(Default)]
pub(super) struct Sniff(Vec<u8>);

impl Sniff {
    /// Returns whether the peer uses HTTP/2. Reads until that is clear, unless TLS has negotiated
    /// the protocol already.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn ByteStream,
    ) -> Poll<io::Result<bool>> {
        if let Some(two) = agreed(stream) {
            return Poll::Ready(Ok(two));
        }
        let mut buffer = [0; 4 * 1024];
        loop {
            let known = self.0.len().min(PREFACE.len());
            if self.0[..known] != PREFACE[..known] {
                return Poll::Ready(Ok(false));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))? {
                // The next read will return the end of input again.
                0 => return Poll::Ready(Ok(false)),
                count => self.0.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub(super) fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Whether both sides negotiated HTTP/2 (RFC 7301; RFC 9113, 3.2); `None` if they negotiated
/// nothing.
#[cfg(feature = "tls")]
fn agreed(stream: &dyn ByteStream) -> Option<bool> {
    match stream.find::<entwined::tls::TlsStream>()?.protocol()? {
        b"h2" => Some(true),
        b"http/1.1" => Some(false),
        _ => None,
    }
}

#[cfg(not(feature = "tls"))]
fn agreed(_: &dyn ByteStream) -> Option<bool> {
    None
}

// The large variant is the usual one, and the task is a single allocation anyway.
#[cfg_attr(feature = "http2", expect(clippy::large_enum_variant))]
pub(super) enum Exchange {
    One(http1::Connection<Wire, Answer>),
    #[cfg(feature = "http2")]
    Two(Box<http2::Connection>),
}

/// Hyper's default. If any number is set, even this one, hyper allocates for each request.
const HYPER_HEADERS: usize = 100;

impl Exchange {
    /// Starts the exchange, with HTTP/2 if `two`.
    pub(super) fn new(config: &Config, stream: Wire, answer: Answer, two: bool) -> Self {
        #[cfg(feature = "http2")]
        if two {
            return Exchange::Two(Box::new(http2::serve(config, stream, answer)));
        }
        debug_assert!(!two, "HTTP/2 needs the `http2` feature");
        Exchange::one(config, stream, answer)
    }

    fn one(config: &Config, stream: Wire, answer: Answer) -> Self {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(config.max_head_size.max(8 * 1024));
        if config.max_headers != HYPER_HEADERS {
            // hyper allocates for so many before it parses a head.
            builder.max_headers(config.max_headers.min(MOST_HEADERS));
        }
        Exchange::One(builder.serve_connection(stream, answer))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Exchange::One(exchange) => exchange.poll_without_shutdown(cx),
            #[cfg(feature = "http2")]
            Exchange::Two(exchange) => Pin::new(&mut **exchange).poll(cx),
        }
    }

    /// Whether this is HTTP/2.
    pub(super) fn is_two(&self) -> bool {
        !matches!(self, Exchange::One(_))
    }

    pub(super) fn graceful_shutdown(&mut self) {
        match self {
            Exchange::One(exchange) => Pin::new(exchange).graceful_shutdown(),
            #[cfg(feature = "http2")]
            Exchange::Two(exchange) => Pin::new(&mut **exchange).graceful_shutdown(),
        }
    }

    /// Returns the underlying stream, and the bytes that were read from it but not used. Returns
    /// `None` for HTTP/2, which closes its stream itself.
    pub(super) fn into_stream(self) -> Option<(Box<dyn ByteStream>, bytes::Bytes)> {
        match self {
            Exchange::One(exchange) => {
                let parts = exchange.into_parts();
                Some((parts.io.take_stream()?, parts.read_buf))
            }
            #[cfg(feature = "http2")]
            Exchange::Two(_) => None,
        }
    }
}
