//! Requests and responses over one connection, in the version of HTTP that the peer uses.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};

use entwined::{
    reactor::{Handle, Origin},
    task::Sleep,
    transport::ByteStream,
};

use super::{
    config::Config,
    pace::{Pace, StreamPace},
    service::Answer,
    state::Shared,
    wire::Wire,
};

/// What a client of HTTP/2 says first: RFC 9113, 3.4.
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
#[expect(clippy::large_enum_variant)]
pub(super) enum Exchange {
    One(http1::Connection<Wire, Answer>),
    Two(Box<http2::Connection<Wire, Answer, Streams>>),
}

/// Hyper's default. If any number is set, even this one, hyper allocates for each request.
const HYPER_HEADERS: usize = 100;

impl Exchange {
    pub(super) fn one(config: &Config, stream: Wire, answer: Answer) -> Self {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(config.head_limit.max(8 * 1024));
        if config.header_count != HYPER_HEADERS {
            builder.max_headers(config.header_count);
        }
        Exchange::One(builder.serve_connection(stream, answer))
    }

    pub(super) fn two(config: &Config, stream: Wire, answer: Answer, streams: Streams) -> Self {
        streams.pace.multiplex();
        let mut builder = http2::Builder::new(streams);
        builder
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(config.head_limit.max(8 * 1024) as u32)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .max_local_error_reset_streams(MOST_ERRORS)
            .enable_connect_protocol();
        Exchange::Two(Box::new(builder.serve_connection(stream, answer)))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Exchange::One(exchange) => exchange.poll_without_shutdown(cx),
            Exchange::Two(exchange) => Pin::new(&mut **exchange).poll(cx),
        }
    }

    pub(super) fn graceful_shutdown(&mut self) {
        match self {
            Exchange::One(exchange) => Pin::new(exchange).graceful_shutdown(),
            Exchange::Two(exchange) => Pin::new(&mut **exchange).graceful_shutdown(),
        }
    }

    /// Returns the stream below and the bytes that were read from it but not used. `None` for
    /// HTTP/2, which closes its stream itself.
    pub(super) fn into_stream(self) -> Option<(Box<dyn ByteStream>, bytes::Bytes)> {
        match self {
            Exchange::One(exchange) => {
                let parts = exchange.into_parts();
                Some((parts.io.take_stream()?, parts.read_buf))
            }
            Exchange::Two(_) => None,
        }
    }
}

/// Bytes of a response that may be buffered for one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of request bodies that a peer may send before they are read: on one stream, and on all
/// streams of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How many streams a peer may reset before we accept them, and how many may be reset for its
/// errors, before the connection is closed (CVE-2023-44487, CVE-2025-8671).
const MOST_RESETS: usize = 20;
const MOST_ERRORS: usize = 256;

/// Spawns each stream of a connection as a task.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) server: Rc<Shared>,
    pub(super) pace: Rc<Pace>,
    pub(super) origin: Origin,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let stream = self.pace.latest_stream();
        let look = self.server.config.write_deadline;
        let limited = Limited {
            future,
            stream,
            handle: self.server.handle.clone(),
            look,
            sleep: None,
        };
        self.server.handle.spawn_detached(self.origin, limited);
    }
}

pin_project_lite::pin_project! {
    /// A stream that ends if its peer stops reading the response.
    struct Limited<F> {
        #[pin]
        future: F,
        stream: Option<Rc<StreamPace>>,
        handle: Handle,
        look: std::time::Duration,
        sleep: Option<Sleep>,
    }
}

impl<F: Future<Output = ()>> Future for Limited<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(stream) = this.stream else {
            return Poll::Pending;
        };
        loop {
            let sleep = this
                .sleep
                .get_or_insert_with(|| this.handle.sleep(*this.look));
            ready!(Pin::new(&mut *sleep).poll(cx));
            let now = this.handle.now();
            match stream.stuck_since() {
                // Dropping the future resets the stream.
                Some(since) if since + *this.look <= now => return Poll::Ready(()),
                Some(since) => sleep.reset(since + *this.look),
                None => sleep.reset(now + *this.look),
            }
        }
    }
}
