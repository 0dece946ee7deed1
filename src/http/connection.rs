//! One connection: hyper's state machine, our handlers, and the deadlines.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};
use http_body::Body as _;
use hyper::{body::Incoming, service::Service};

use super::{
    Body, Method, Request, Response, ResponseFuture,
    body::Upgrade,
    check::check,
    exchange::{Exchange, Sniff, Streams},
    header::{CONNECTION, CONTENT_LENGTH, HeaderValue},
    pace::{Pace, Paced, Verdict, Watch},
    rate::Least,
    request::Common,
    router::{Found, Routes, nothing},
    server::Shared,
    upgrade::Upgraded,
    wire::Wire,
};
use crate::{
    reactor::Origin,
    task::Sleep,
    transport::{ByteStream, Permit},
};

pub(super) fn start(
    server: &Rc<Shared>,
    stream: Box<dyn ByteStream>,
    permit: Permit,
    origin: Origin,
) {
    let pace = Pace::new(server.clone());
    let sleep = server.handle.sleep(pace.look_interval());
    let connection = Connection {
        stage: Stage::Fresh {
            stream,
            sniff: Sniff::default(),
        },
        pace,
        sleep,
        server: server.clone(),
        slot: None,
        origin,
        permit: Some(permit),
    };
    server.handle.core().spawn_detached(connection, origin);
}

struct Connection {
    stage: Stage,
    pace: Rc<Pace>,
    /// When to check the pace again, or when to stop lingering.
    sleep: Sleep,
    server: Rc<Shared>,
    /// Its slot in the server's list; set by the first poll.
    slot: Option<usize>,
    origin: Origin,
    /// Present until the connection is handed over.
    permit: Option<Permit>,
}

// The large variant is the usual one, and the task is a single allocation anyway.
#[expect(clippy::large_enum_variant)]
enum Stage {
    /// Accepted, but not [established](ByteStream::poll_established) yet, or the protocol is still
    /// unknown. This counts towards the deadline of the first head.
    Fresh {
        stream: Box<dyn ByteStream>,
        sniff: Sniff,
    },
    /// Requests and responses, until there are no more.
    Exchange {
        exchange: Exchange,
        wire: Rc<Wire>,
        /// Whether hyper has been asked for a graceful shutdown.
        ending: bool,
        /// The result of the exchange, kept while its last response is still being sent.
        ended: Option<hyper::Result<()>>,
    },
    /// The last response is sent and the write direction is closed. We read and discard what the
    /// peer still sends, for a while: if a socket is closed with unread bytes, the kernel sends a
    /// reset, which may overtake the response (RFC 9112, 9.6).
    Linger {
        stream: Box<dyn ByteStream>,
        left: usize,
    },
    Done,
}

/// How long, and for how many bytes, a connection lingers.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 32 * 1024 * 1024;

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.slot
            .get_or_insert_with(|| this.server.connections.add(cx.waker().clone()));
        loop {
            match &mut this.stage {
                Stage::Fresh { .. } => ready!(this.poll_fresh(cx)),
                Stage::Exchange { .. } => ready!(this.poll_exchange(cx)),
                Stage::Linger { .. } => ready!(this.poll_linger(cx)),
                Stage::Done => return Poll::Ready(()),
            }
        }
    }
}

impl Connection {
    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Fresh { stream, sniff } = &mut self.stage else {
            return Poll::Ready(());
        };
        // The protocol, once it is known: true for HTTP/2.
        let established = stream.poll_established(cx);
        let shakes_hands = established.is_pending();
        let told = match established {
            Poll::Ready(Ok(())) if !self.server.config.http2 => Poll::Ready(Ok(false)),
            Poll::Ready(Ok(())) => sniff.poll(cx, &mut **stream),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if told.is_pending() && !self.server.closing.get() {
            loop {
                ready!(Pin::new(&mut self.sleep).poll(cx));
                match self.pace.verdict(self.server.handle.now()) {
                    Verdict::Wait(until) => self.sleep.reset(until),
                    Verdict::Idle | Verdict::SlowHead | Verdict::Stuck => break,
                }
            }
        }
        let Stage::Fresh {
            mut stream,
            mut sniff,
        } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return Poll::Ready(());
        };
        match told {
            Poll::Ready(Ok(two)) => self.stage = self.exchange(stream, sniff.bytes(), two),
            Poll::Ready(Err(error)) => {
                let peer = stream.peer_address();
                tracing::debug!(%error, %peer, "a connection failed before its first request");
            }
            Poll::Pending if shakes_hands => stream.abort(),
            Poll::Pending if self.server.closing.get() => {}
            Poll::Pending => self.leave(cx, stream, Some(TIMED_OUT)),
        }
        Poll::Ready(())
    }

    fn exchange(&self, stream: Box<dyn ByteStream>, begin: Vec<u8>, two: bool) -> Stage {
        let (server, pace) = (&self.server, &self.pace);
        let common = Common {
            handle: server.handle.clone(),
            peer: stream.peer_address(),
            body_limit: server.config.body_limit,
            body_deadline: server.config.body_deadline,
            least: Least::of(&server.config),
        };
        let (common, origin) = (Rc::new(common), self.origin);
        let answer = Answer {
            server: server.clone(),
            pace: pace.clone(),
            common,
            origin,
        };
        let wire = Wire::new(stream, pace.clone(), server.handle.core().clone(), origin);
        let stream = Paced::new(wire.clone(), begin, pace.clone());
        let exchange = if two {
            let streams = Streams {
                server: server.clone(),
                pace: pace.clone(),
                origin: self.origin,
            };
            Exchange::two(&server.config, stream, answer, streams)
        } else {
            Exchange::one(&server.config, stream, answer)
        };
        Stage::Exchange {
            exchange,
            wire,
            ending: false,
            ended: None,
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Exchange {
            exchange,
            wire,
            ending,
            ended,
        } = &mut self.stage
        else {
            return Poll::Ready(());
        };
        loop {
            wire.go_on(cx);
            // Handle the input that has arrived before checking any deadline: if the loop was
            // blocked, that is not the peer's fault.
            if ended.is_none() {
                *ended = match exchange.poll(cx) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                };
            }
            if ended.is_some() && wire.poll_drain(cx).is_ready() {
                let failed = ended.take().and_then(Result::err).is_some_and(|error| {
                    tracing::debug!(%error, "an HTTP connection ended with an error");
                    error.is_user()
                });
                if let Some(take_over) = self.pace.take_upgrade().filter(|_| !failed) {
                    self.hand_over(take_over);
                } else if failed {
                    self.abort()
                } else {
                    self.linger(cx, None)
                }
                return Poll::Ready(());
            }
            let enough = self.pace.has_had_enough();
            let closing = (self.server.closing.get() || enough) && ended.is_none();
            if closing && !std::mem::replace(ending, true) {
                if self.pace.is_at_rest() && !wire.has_unsent() && !enough {
                    self.stage = Stage::Done;
                    return Poll::Ready(());
                }
                exchange.graceful_shutdown();
                self.pace.wake_live();
                continue;
            }
            ready!(Pin::new(&mut self.sleep).poll(cx));
            match self.pace.verdict(self.server.handle.now()) {
                Verdict::Wait(until) => self.sleep.reset(until),
                Verdict::Idle => {
                    self.stage = Stage::Done;
                    return Poll::Ready(());
                }
                Verdict::Stuck => {
                    self.abort();
                    return Poll::Ready(());
                }
                Verdict::SlowHead => {
                    self.linger(cx, Some(TIMED_OUT));
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Hands the connection to the handler that answered 101. It still counts towards
    /// [`max_connections`](super::Config::max_connections).
    fn hand_over(&mut self, take_over: Upgrade) {
        let Stage::Exchange { exchange, .. } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return;
        };
        let Some((stream, begin)) = exchange.into_stream() else {
            return;
        };
        let stream = Upgraded {
            stream,
            begin,
            permit: self.permit.take(),
        };
        self.server
            .handle
            .core()
            .contain(self.origin, || take_over(Box::new(stream)));
    }

    /// Aborts the exchange, so that the peer cannot mistake a partial response for a complete one.
    fn abort(&mut self) {
        if let Stage::Exchange { exchange, .. } = std::mem::replace(&mut self.stage, Stage::Done) {
            if let Some((mut stream, _)) = exchange.into_stream() {
                stream.abort();
            }
        }
    }

    /// Ends the exchange. Sends a last response, as far as that is possible without waiting.
    fn linger(&mut self, cx: &mut Context<'_>, answer: Option<&[u8]>) {
        let Stage::Exchange { exchange, .. } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return;
        };
        if let Some((stream, _)) = exchange.into_stream() {
            self.leave(cx, stream, answer);
        }
    }

    fn leave(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Box<dyn ByteStream>,
        answer: Option<&[u8]>,
    ) {
        if let Some(answer) = answer {
            let _ = AsyncWrite::poll_write(Pin::new(&mut stream), cx, answer);
        }
        if let Poll::Ready(Ok(())) = Pin::new(&mut stream).poll_close(cx) {
            self.sleep.reset(self.server.handle.now() + LINGER_TIME);
            self.stage = Stage::Linger {
                stream,
                left: LINGER_BYTES,
            };
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Linger { stream, left } = &mut self.stage else {
            return Poll::Ready(());
        };
        let mut buffer = [0; 16 * 1024];
        while let Poll::Ready(result) = Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            match result {
                Ok(count @ 1..) if count < *left => *left -= count,
                _ => {
                    self.stage = Stage::Done;
                    return Poll::Ready(());
                }
            }
        }
        ready!(Pin::new(&mut self.sleep).poll(cx));
        self.stage = Stage::Done;
        Poll::Ready(())
    }
}

/// The response to a peer that does not finish the head of its request in time.
const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.server.connections.remove(slot);
        }
    }
}

/// The service that hyper calls for each request.
pub(super) struct Answer {
    server: Rc<Shared>,
    pace: Rc<Pace>,
    common: Rc<Common>,
    /// The origin of the code around all handlers.
    origin: Origin,
}

impl Service<::http::Request<Incoming>> for Answer {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: ::http::Request<Incoming>) -> Answering {
        let server = &self.server;
        server.requests.set(server.requests.get() + 1);
        let watch = self.pace.request_begins();
        let two = request.version() == ::http::Version::HTTP_2;
        let headless = two && *request.method() == Method::HEAD;
        let last = !two && self.pace.has_had_enough();
        let response = match check(&request) {
            Some(refusal) => ResponseFuture::ready(refusal),
            None => self.find_handler(request),
        };
        Answering {
            response,
            watch: Some(watch),
            headless,
            last,
        }
    }
}

impl Answer {
    fn find_handler(&self, request: ::http::Request<Incoming>) -> ResponseFuture {
        let server = &self.server;
        let mut request = Request::new(request, self.common.clone());
        if server.routes.has_layers() {
            return self.call(self.origin, || {
                Routes::answer_all(&server.routes, None, request)
            });
        }
        match server.routes.find(&mut request) {
            Found::Answer(response) => response.into(),
            Found::Nothing => ResponseFuture::ready(nothing()),
            Found::Layered(routes, fallback) => self.call(self.origin, || {
                Routes::answer_all(&routes, fallback, request)
            }),
            Found::Handler(endpoint) => self.call(endpoint.origin, || (endpoint.handler)(request)),
        }
    }

    fn call(&self, origin: Origin, call: impl FnOnce() -> ResponseFuture) -> ResponseFuture {
        ResponseFuture::called(self.server.handle.core(), origin, call)
    }
}

/// The response to HEAD: the same head, with the length, but without a body (RFC 9110, 9.3.2).
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// The future of one response. If the handler panics, the response is 500.
pub(super) struct Answering {
    response: ResponseFuture,
    /// Present until the response is ready.
    watch: Option<Watch>,
    /// The body must not be sent, and hyper does not ensure that itself.
    headless: bool,
    /// The connection ends with this response.
    last: bool,
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Poll::Ready(mut response) = Pin::new(&mut this.response).poll(cx) else {
            if let Some(watch) = &this.watch {
                watch.handler_waits();
            }
            return Poll::Pending;
        };
        let watch = this
            .watch
            .take()
            .expect("the future was polled after completion");
        if this.headless {
            response = without_body(response);
        }
        if this.last {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.body_mut().watch(watch);
        Poll::Ready(Ok(response))
    }
}
