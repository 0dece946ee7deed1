//! One connection: hyper's state machine, our handlers, and the deadlines.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use entwined::{reactor::Origin, server::Permit, task::Sleep, transport::ByteStream};
use futures_io::{AsyncRead, AsyncWrite};

use super::{
    exchange::{Exchange, Sniff},
    pace::{Pace, Upgrade, Verdict},
    rate::Least,
    request::Common,
    router::Routes,
    service::Answer,
    state::Shared,
    upgrade::Upgraded,
    wire::Wire,
};

pub(super) fn start(
    server: &Rc<Shared>,
    routes: &Rc<Routes>,
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
        routes: routes.clone(),
        slot: None,
        origin,
        permit: Some(permit),
    };
    server.handle.spawn_detached(origin, connection);
}

struct Connection {
    stage: Stage,
    pace: Rc<Pace>,
    /// When to check the pace again, or when to stop lingering.
    sleep: Sleep,
    server: Rc<Shared>,
    routes: Rc<Routes>,
    /// Its slot in the list of those that a shutdown waits for; set by the first poll.
    slot: Option<usize>,
    origin: Origin,
    /// Present until the connection is handed over.
    permit: Option<Permit>,
}

// The large variant is the usual one, and the task is a single allocation anyway.
#[expect(clippy::large_enum_variant)]
enum Stage {
    /// Accepted, but not yet [established](ByteStream::poll_established), or its protocol is not
    /// yet known. This time counts towards the deadline of the first head.
    Fresh {
        stream: Box<dyn ByteStream>,
        sniff: Sniff,
    },
    /// Requests and responses, until there are no more.
    Exchange {
        exchange: Exchange,
        wire: Wire,
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
        /// Whether it has been given more time.
        extended: bool,
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
        if let Stage::Fresh { .. } = this.stage {
            this.slot
                .get_or_insert_with(|| this.server.connections.add(cx.waker().clone()));
        }
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
            Poll::Pending => self.leave(cx, stream, Some(&timed_out())),
        }
        Poll::Ready(())
    }

    fn exchange(&self, stream: Box<dyn ByteStream>, begin: Vec<u8>, two: bool) -> Stage {
        let (server, pace) = (&self.server, &self.pace);
        let common = Common {
            handle: server.handle.clone(),
            peer: stream.peer_address(),
            secure: is_secure(&*stream),
            max_body_size: server.config.max_body_size,
            body_timeout: server.config.body_timeout,
            least: Least::of(&server.config),
            unread: pace.unread().clone(),
            #[cfg(feature = "http2")]
            pace: pace.clone(),
        };
        let (common, origin) = (Rc::new(common), self.origin);
        let answer = Answer {
            server: server.clone(),
            routes: self.routes.clone(),
            pace: pace.clone(),
            common,
            origin,
        };
        let wire = Wire::new(stream, begin, pace.clone(), server.handle.clone(), origin);
        let stream = wire.clone();
        let exchange = Exchange::new(&server.config, stream, answer, two);
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
            // hyper may be done before it has sent what it keeps. After an error that stays unsent.
            let sends = matches!(ended, Some(Ok(()))) && self.pace.has_kept();
            if ended.is_none() || sends {
                if let Poll::Ready(result) = exchange.poll(cx) {
                    *ended = Some(result);
                }
            }
            let sends = matches!(ended, Some(Ok(()))) && self.pace.has_kept();
            if ended.is_some() && !sends && wire.poll_drain(cx).is_ready() {
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
                    self.part(cx);
                    return Poll::Ready(());
                }
                exchange.graceful_shutdown();
                self.pace.wake_live();
                continue;
            }
            if self.server.closing.get() && self.pace.is_taken() {
                self.server.remove(&mut self.slot);
            }
            ready!(Pin::new(&mut self.sleep).poll(cx));
            match self.pace.verdict(self.server.handle.now()) {
                Verdict::Wait(until) => self.sleep.reset(until),
                Verdict::Stuck => {
                    self.abort();
                    return Poll::Ready(());
                }
                Verdict::SlowHead if !exchange.is_two() => {
                    self.linger(cx, Some(&timed_out()));
                    return Poll::Ready(());
                }
                // The peer may just be sending a request, perhaps its first, which the last GOAWAY
                // tells it about (RFC 9113, 6.8).
                _ if exchange.is_two() && !std::mem::replace(ending, true) => {
                    exchange.graceful_shutdown();
                    self.sleep.reset(self.server.handle.now() + LINGER_TIME);
                }
                Verdict::Idle | Verdict::SlowHead => {
                    self.part(cx);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Ends a connection at rest. Says so with a GOAWAY and, in TLS, with a close_notify, if there
    /// is room for them.
    fn part(&mut self, cx: &mut Context<'_>) {
        let Stage::Exchange {
            mut exchange, wire, ..
        } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return;
        };
        if exchange.is_two() {
            exchange.graceful_shutdown();
            let _ = exchange.poll(cx);
            let _ = wire.poll_drain(cx);
        }
        drop(exchange);
        if let Some(mut stream) = wire.take_stream() {
            let _ = Pin::new(&mut stream).poll_close(cx);
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

    /// Ends the exchange. Sends a last response, as far as possible without waiting.
    fn linger(&mut self, cx: &mut Context<'_>, answer: Option<&str>) {
        let Stage::Exchange { exchange, wire, .. } =
            std::mem::replace(&mut self.stage, Stage::Done)
        else {
            return;
        };
        // The answer is one of HTTP/1.
        let answer = answer.filter(|_| !exchange.is_two());
        drop(exchange);
        if let Some(stream) = wire.take_stream() {
            self.leave(cx, stream, answer);
        }
    }

    fn leave(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Box<dyn ByteStream>,
        answer: Option<&str>,
    ) {
        if let Some(answer) = answer {
            let _ = AsyncWrite::poll_write(Pin::new(&mut stream), cx, answer.as_bytes());
        }
        if let Poll::Ready(Ok(())) = Pin::new(&mut stream).poll_close(cx) {
            self.sleep.reset(self.server.handle.now() + LINGER_TIME);
            self.stage = Stage::Linger {
                stream,
                left: LINGER_BYTES,
                extended: false,
            };
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Linger {
            stream,
            left,
            extended,
        } = &mut self.stage
        else {
            return Poll::Ready(());
        };
        let before = *left;
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
        // If the thread was blocked, so was a peer that sends much.
        if *left < before && !std::mem::replace(extended, true) {
            self.sleep.reset(self.server.handle.now() + LINGER_TIME);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.stage = Stage::Done;
        Poll::Ready(())
    }
}

#[cfg(feature = "tls")]
fn is_secure(stream: &dyn ByteStream) -> bool {
    stream.find::<entwined::tls::TlsStream>().is_some()
}

#[cfg(not(feature = "tls"))]
fn is_secure(_: &dyn ByteStream) -> bool {
    false
}

/// The response to a peer that does not finish the head of its request in time.
fn timed_out() -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\
         date: {date}\r\n\r\n"
    )
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A body has panicked, or the run ends: for a peer of HTTP/1.0, the end in order would be
        // that of the body.
        if !self.pace.is_at_rest() {
            self.abort();
        }
        self.server.remove(&mut self.slot);
    }
}
