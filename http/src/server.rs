//! Servers: their limits, how they start and how they stop.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use super::{
    Router,
    config::Config,
    connection,
    labels::labels,
    state::{Connections, Shared},
};
use entwined::{
    deferred::Deferred,
    reactor::{Origin, Phase, ShutdownHook},
    server::{AcceptError, Acceptor},
    transport::{Address, BoxedListener, Listen},
};

/// An HTTP server. Made by [`serve`] and [`serve_with`].
///
/// Dropping it stops accepting. Open connections continue until they end; if the run ends first,
/// their requests finish as those of other servers do.
#[must_use = "dropping it stops accepting; use `keep` to let it accept until the run ends"]
pub struct Server {
    acceptor: Rc<Acceptor>,
    shared: Rc<Shared>,
    /// Present until it is kept or dropped.
    hook: Option<ShutdownHook>,
}

/// Serves `router` on `listener` with the default [`Config`].
#[track_caller]
pub fn serve(listener: impl Listen, router: Router) -> Server {
    serve_with(listener, router, Config::default())
}

/// Serves `router` on `listener`: a socket, or something above a socket such as TLS.
#[track_caller]
pub fn serve_with(listener: impl Listen, router: Router, config: Config) -> Server {
    let origin = Origin::here(labels().connection);
    serve_any(listener.boxed(), router, config, origin)
}

fn serve_any(listener: BoxedListener, router: Router, config: Config, origin: Origin) -> Server {
    let handle = listener.handle();
    let shared = Rc::new(Shared {
        handle: handle.clone(),
        config,
        closing: Cell::new(false),
        connections: Connections::default(),
        requests: Cell::new(0),
        left: RefCell::default(),
    });
    let routes = Rc::new(router.build());
    let acceptor = Rc::new(Acceptor::new(listener, origin, {
        let shared = shared.clone();
        move |stream, permit| connection::start(&shared, &routes, stream, permit, origin)
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
        hook: Some(hook),
    }
}

impl Server {
    /// Lets it accept until the run ends. Without this, dropping it stops accepting.
    pub fn keep(mut self) {
        self.acceptor.keep();
        if let Some(hook) = self.hook.take() {
            hook.keep();
        }
    }

    /// Returns the address that the server listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Fires when the server accepts no more and its last connection is gone: because it was
    /// dropped, or because its listener [has no more](entwined::transport::listen_once). The error
    /// says why the listener failed. A WebSocket still counts as a connection. If the run ends
    /// first, the Deferred is abandoned.
    ///
    /// This tells a program that serves one peer, over standard input and output, when to end:
    ///
    /// ```no_run
    /// use entwined::{Standalone, endpoint};
    /// use entwined_http::{self as http, Router};
    ///
    /// let reactor = Standalone::new()?;
    /// let handle = reactor.handle();
    /// let listener = endpoint::server("stdio:")?.listen(&handle)?;
    /// let server = http::serve(listener, Router::new().get("/", || "hello"));
    /// server.closed().map(move |()| handle.stop());
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        self.acceptor.closed()
    }

    /// Returns the number of requests since the server started.
    pub fn requests(&self) -> u64 {
        self.shared.requests.get()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(hook) = self.hook.take() else {
            return;
        };
        self.acceptor.stop();
        if !self.shared.connections.is_empty() {
            // Until the last of them has ended. A WebSocket is none any more.
            let before = self.shared.left.replace(Some(hook));
            drop(before);
        }
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
