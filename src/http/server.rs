//! Servers: their limits, how they start and how they stop.

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

/// The limits of a server. Each one applies to every peer. Start with [`Config::default`] and
/// change its fields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Maximum number of connections at a time. Further peers wait in the listener's backlog.
    /// Default 10,000.
    pub max_connections: usize,
    /// Whether the server accepts HTTP/2 (RFC 9113), over TLS and without. Over TLS, the acceptor
    /// must offer `h2`: see [`protocols`](crate::tls::AcceptorBuilder::protocols). Default true.
    pub http2: bool,
    /// Maximum number of requests in flight on an HTTP/2 connection. Default 100.
    pub max_streams: u32,
    /// Maximum bytes of a request's head, from the request line to the empty line. A larger head
    /// gets 431. Default 64 KiB; at least 8 KiB.
    pub head_limit: usize,
    /// Maximum number of headers of a request. More get 431. Default 100.
    pub header_count: usize,
    /// How long a head may take, from its first byte, or for the first request from the start of
    /// the connection. Then the response is 408. Default 10 s.
    pub header_deadline: Duration,
    /// How long a connection may be idle between two requests. Default 60 s.
    pub idle_deadline: Duration,
    /// Maximum bytes of a body that is read as a whole. A larger body gets 413. Default 2 MiB.
    pub body_limit: usize,
    /// How long it may take to read a whole body. Then the response is 408. Default 30 s.
    pub body_deadline: Duration,
    /// How long a peer may read nothing of a response before its connection is closed. Default 30
    /// s.
    pub write_deadline: Duration,
    /// Minimum rate of a peer, in bytes per second, when it sends a body and when it reads what is
    /// ready for it. This is an average from the time when we first waited for the peer, checked
    /// after [`rate_grace`](Config::rate_grace). A slower sender gets 408; a slower reader's
    /// connection is closed. Default 240; 0 for no limit.
    pub min_rate: u32,
    /// How long a peer may be slower than [`min_rate`](Config::min_rate). Default 5 s.
    pub rate_grace: Duration,
    /// Maximum number of requests on one connection. Then the connection shuts down gracefully, so
    /// that load is spread and memory that a library keeps for the connection is freed. Default
    /// 1,000,000.
    pub max_requests: u64,
    /// How long requests in flight may take when the reactor stops. Default 5 s.
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
/// Dropping it stops accepting. Open connections continue until they end.
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

/// Serves `router` on `listener`: a socket, or a socket with a layer above it such as TLS.
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
    /// Returns the address that the server listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Fires when the server no longer accepts and its last connection is gone. The server stops
    /// accepting when it is dropped, or when its listener [has no more
    /// peers](crate::transport::listen_once). If the listener failed, the error is the reason. A
    /// connection that became a WebSocket still counts. If the reactor's run ends first, the
    /// deferred is abandoned.
    ///
    /// A program that serves one peer, over its standard input and output, can use this to know
    /// when to exit:
    ///
    /// ```no_run
    /// use entwined::{Standalone, endpoint, http::{self, Router}};
    ///
    /// let reactor = Standalone::new()?;
    /// let handle = reactor.handle();
    /// let listener = endpoint::server("stdio:")?.listen(&handle)?;
    /// let server = http::serve(listener, Router::new().get("/", || "hello"));
    /// server.ended().map(move |()| handle.stop()).detach();
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ended(&self) -> Deferred<(), String> {
        self.acceptor.ended()
    }

    /// Returns the number of requests since the server started.
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

/// State shared by all connections of a server.
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) config: Config,
    pub(super) routes: Rc<Routes>,
    /// Whether connections should close as soon as they have answered.
    pub(super) closing: Cell<bool>,
    pub(super) connections: Connections,
    pub(super) requests: Cell<u64>,
}

impl Shared {
    /// The time of the current turn, which is precise enough for deadlines of seconds.
    pub(super) fn time(&self) -> std::time::Instant {
        self.handle.core().time.get()
    }

    /// Shuts every connection down gracefully. Returns when all are closed or the grace is over.
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
            tracing::warn!("the shutdown grace is over: requests still in flight are dropped");
        }
    }
}

/// The connections of a server. Wakes each of them, and knows when all are gone.
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
