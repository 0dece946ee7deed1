//! Servers: what they allow, how they begin and end.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    panic::Location,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{Router, connection, router::Routes};
use crate::{
    deferred::Deferred,
    reactor::{Handle, Kind, Origin, Phase, ShutdownHook},
    transport::{Acceptor, Address, BoxedListener, Listen, MOST_CONNECTIONS},
};

/// What one server allows. Each bound holds for every peer; make one with [`Config::default`] and
/// change its fields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Connections at a time; peers beyond it wait in the listener's backlog. 10,000.
    pub max_connections: usize,
    /// Whether it speaks HTTP/2 to who begins with that (RFC 9113), over TLS (where the acceptor
    /// must offer `h2`: [`protocols`](crate::tls::AcceptorBuilder::protocols)) and without. True.
    pub http2: bool,
    /// Requests of one connection of HTTP/2 that are open at a time. 100.
    pub max_streams: u32,
    /// Bytes of a request's head, from the request line to the empty line; beyond it 431. 64 KiB, 8
    /// KiB at least.
    pub head_limit: usize,
    /// Headers of a request; beyond it 431. 100.
    pub header_count: usize,
    /// How long a head may take from its first byte, and a first request from the connection's
    /// begin: then 408. 10 s.
    pub header_deadline: Duration,
    /// How long a connection may be idle between two requests. 60 s.
    pub idle_deadline: Duration,
    /// Bytes of a body that is read as a whole; beyond it 413. 2 MiB.
    pub body_limit: usize,
    /// How long a body that is read as a whole may take; then 408. 30 s.
    pub body_deadline: Duration,
    /// How long a peer may take nothing of a response before its connection is ended. 30 s.
    pub write_deadline: Duration,
    /// Bytes a second that a peer has to send of a body, and to take of what is ready for it, on
    /// average since it was first waited for; a sender that is slower is answered by 408, a
    /// reader's connection ended. Counted after [`rate_grace`](Config::rate_grace). 240; 0 for no
    /// limit.
    pub min_rate: u32,
    /// How long a peer may be slower than [`min_rate`](Config::min_rate). 5 s.
    pub rate_grace: Duration,
    /// Requests of one connection; then it is ended in order, so that load spreads and what a
    /// library keeps for it goes. 1,000,000.
    pub max_requests: u64,
    /// How long requests that are being answered may take when the reactor stops. 5 s.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: MOST_CONNECTIONS,
            http2: true,
            max_streams: 100,
            head_limit: 64 * 1024,
            header_count: 100,
            header_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            body_limit: 2 * 1024 * 1024,
            body_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(30),
            min_rate: 240,
            rate_grace: Duration::from_secs(5),
            max_requests: 1_000_000,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// An HTTP server. Made by [`serve`] and [`serve_with`].
///
/// Dropping it stops accepting; connections that are there go on until they end.
#[must_use = "dropping it stops accepting"]
pub struct Server {
    acceptor: Rc<Acceptor>,
    shared: Rc<Shared>,
    _hook: ShutdownHook,
}

/// Serves `router` on `listener` with the default [`Config`].
#[track_caller]
pub fn serve(listener: impl Listen, router: Router) -> Server {
    serve_with(listener, router, Config::default())
}

/// Serves `router` on `listener`: a socket, or one with a layer above it such as TLS.
#[track_caller]
pub fn serve_with(listener: impl Listen, router: Router, config: Config) -> Server {
    let origin = Origin {
        kind: Kind::Http,
        location: Location::caller(),
    };
    serve_any(listener.boxed(), router, config, origin)
}

fn serve_any(listener: BoxedListener, router: Router, config: Config, origin: Origin) -> Server {
    let handle = listener.handle();
    let shared = Rc::new(Shared {
        handle: handle.clone(),
        config,
        routes: Rc::new(router.build()),
        closing: Cell::new(false),
        connections: Connections::default(),
        requests: Cell::new(0),
    });
    let acceptor = Rc::new(Acceptor::new(listener, origin, {
        let shared = shared.clone();
        move |stream, permit| connection::start(&shared, stream, permit, origin)
    }));
    acceptor.set_max_connections(config.max_connections);
    let hook = handle.on_shutdown(Phase::Before, {
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        move || async move {
            acceptor.stop();
            shared.close().await;
            Ok(())
        }
    });
    Server {
        acceptor,
        shared,
        _hook: hook,
    }
}

impl Server {
    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// Connections at present.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Fires when it accepts no more and its last connection is gone: because it was dropped, or
    /// because what it listens on [has no more](crate::transport::listen_once). With the reason if
    /// the listener has failed. A WebSocket is a connection still. Where the run ends before, it is
    /// abandoned.
    ///
    /// So a program that serves one peer, over its standard input and output, knows when to end:
    ///
    /// ```no_run
    /// use entwined::{Standalone, endpoint, http::{self, Router}};
    ///
    /// let reactor = Standalone::new()?;
    /// let handle = reactor.handle();
    /// let server = http::serve(endpoint::server("stdio:")?.listen(&handle)?, Router::new().get("/", || "hello"));
    /// server.ended().map(move |()| handle.stop()).detach();
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ended(&self) -> Deferred<(), String> {
        self.acceptor.ended()
    }

    /// Requests since the server began.
    pub fn requests(&self) -> u64 {
        self.shared.requests.get()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", self.local_address())
            .field("connections", &self.connections())
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) config: Config,
    pub(super) routes: Rc<Routes>,
    /// Whether connections should end as soon as they have answered.
    pub(super) closing: Cell<bool>,
    pub(super) connections: Connections,
    pub(super) requests: Cell<u64>,
}

impl Shared {
    /// The time of the turn: precise enough for deadlines of seconds.
    pub(super) fn time(&self) -> std::time::Instant {
        self.handle.core().time.get()
    }

    /// Has every connection end in order; returns when all have, or the grace is over.
    async fn close(&self) {
        self.closing.set(true);
        self.connections.wake_all();
        let empty = poll_fn(|cx| self.connections.poll_empty(cx));
        if self
            .handle
            .timeout(self.config.shutdown_grace, empty)
            .await
            .is_err()
        {
            tracing::warn!("requests that are still being answered are given up");
        }
    }
}

/// The connections of a server: the means to wake each, and to know when all are gone.
#[derive(Default)]
pub(super) struct Connections {
    slots: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    empty: RefCell<Option<Waker>>,
}

impl Connections {
    pub(super) fn add(&self, waker: Waker) -> usize {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some(waker);
        slot
    }

    pub(super) fn remove(&self, slot: usize) {
        let waker = self.slots.borrow_mut()[slot].take();
        drop(waker);
        self.free.borrow_mut().push(slot);
        if self.is_empty() {
            let waker = self.empty.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.free.borrow().len() == self.slots.borrow().len()
    }

    fn wake_all(&self) {
        let wakers: Vec<_> = self.slots.borrow().iter().flatten().cloned().collect();
        for waker in wakers {
            waker.wake();
        }
    }

    fn poll_empty(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        *self.empty.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
