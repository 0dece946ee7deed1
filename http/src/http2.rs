//! HTTP/2 for the server: its limits, and a task for each stream.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use entwined::{
    reactor::{Handle, Origin},
    task::Sleep,
    transport::{Address, ByteStream},
};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::{
    rt::{Executor, Read, ReadBuf, Write},
    server::conn::http2,
    upgrade::OnUpgrade,
};

use super::{
    Body, Error, Request, Response,
    config::{Config, MOST_HEADERS},
    io::window,
    pace::{Held, Pace, streams::StreamPace},
    rate::Least,
    response::TakesOver,
    service::Answer,
    state::Shared,
    times::{MIN_LOOK, later},
    unread::{Grace, Unread},
    wire::Wire,
};

/// One connection.
pub(super) type Connection = http2::Connection<Wire, Answer, Streams>;

/// Starts HTTP/2 on a stream.
pub(super) fn serve(config: &Config, stream: Wire, answer: Answer) -> Connection {
    let streams = Streams {
        server: answer.server.clone(),
        pace: answer.pace.clone(),
        origin: answer.origin,
    };
    streams.pace.multiplex();
    // Each header counts 32 bytes besides its own (RFC 9113, 6.5.2).
    let max_head = config.max_head_size.clamp(8 * 1024, 32 * MOST_HEADERS);
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(config.max_streams.max(1))
        .max_header_list_size(max_head as u32)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window(STREAM_WINDOW, config.max_streams as usize))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_ERRORS)
        .enable_connect_protocol();
    builder.serve_connection(stream, answer)
}

/// Bytes of a response that may be buffered for one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of a request body that a peer may send before they are read. All streams have as much: one
/// that a handler does not read yet must not hold up the others, whose peer would be too slow.
const STREAM_WINDOW: u32 = 256 * 1024;

/// How many streams a peer may reset before we accept them, and how many may be reset for its
/// errors, before the connection is closed (CVE-2023-44487, CVE-2025-8671).
const MAX_RESETS: usize = 20;
const MAX_ERRORS: usize = 256;

/// Spawns each stream of a connection as a task.
#[derive(Clone)]
pub(super) struct Streams {
    server: Rc<Shared>,
    pace: Rc<Pace>,
    origin: Origin,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let stream = self.pace.latest_stream();
        let config = &self.server.config;
        let limited = Limited {
            future,
            stream,
            handle: self.server.handle.clone(),
            write_timeout: config.write_timeout,
            least: Least::of(config),
            look: config.rate_grace.min(config.write_timeout).max(MIN_LOOK),
            sleep: None,
            unread: self.pace.unread().clone(),
            grace: Grace::default(),
        };
        self.server.handle.spawn_detached(self.origin, limited);
    }
}

pin_project_lite::pin_project! {
    /// A stream that ends if its peer stops reading the response, or reads it too slowly.
    struct Limited<F> {
        #[pin]
        future: F,
        stream: Option<Rc<StreamPace>>,
        handle: Handle,
        write_timeout: Duration,
        least: Least,
        // How often to look.
        look: Duration,
        sleep: Option<Sleep>,
        unread: Rc<Unread>,
        grace: Grace,
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
            let due = stream.due(this.handle.turn_time(), *this.write_timeout, *this.least);
            let sleep = this
                .sleep
                .get_or_insert_with(|| this.handle.sleep(*this.look));
            ready!(Pin::new(&mut *sleep).poll(cx));
            let now = this.handle.now();
            let next = later(now, *this.look);
            match due {
                // Dropping the future resets the stream.
                Some(due) if due <= now => {
                    return this.grace.poll_late(cx, this.handle, this.unread);
                }
                due => {
                    this.grace.reset();
                    sleep.reset(due.unwrap_or(next).min(next));
                }
            }
        }
    }
}

/// Answers an extended CONNECT (RFC 8441): `take_over` gets the stream when the response is sent.
pub(super) fn upgrade(
    mut request: Request,
    take_over: impl FnOnce(Box<dyn ByteStream>) + 'static,
) -> Result<Response, Error> {
    let pending = request
        .take_extension::<OnUpgrade>()
        .ok_or_else(|| Error::internal("this request cannot be upgraded"))?;
    let (peer, held) = (request.peer_address().clone(), request.hold_connection());
    request.handle().spawn(async move {
        match pending.await {
            Ok(stream) => take_over(Box::new(UpgradedStream {
                stream,
                peer,
                _held: held,
            })),
            Err(error) => tracing::debug!(%error, "a stream could not be upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(TakesOver);
    Ok(response)
}

/// One stream of an HTTP/2 connection.
struct UpgradedStream {
    stream: hyper::upgrade::Upgraded,
    peer: Address,
    /// The connection is not idle meanwhile.
    _held: Held,
}

impl AsyncRead for UpgradedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::<u8>::uninit(); 16 * 1024];
        let most = buffer.len().min(room.len());
        let mut read = ReadBuf::uninit(&mut room[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, read.unfilled()))?;
        let filled = read.filled();
        buffer[..filled.len()].copy_from_slice(filled);
        Poll::Ready(Ok(filled.len()))
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl ByteStream for UpgradedStream {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        self.peer.clone()
    }

    /// Does nothing: dropping it resets the stream.
    fn abort(&mut self) {}
}
