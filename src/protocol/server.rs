//! Where connections come from: servers and clients.

use std::{cell::Cell, fmt, rc::Rc};

use super::{
    Config, Connection, Factory, Protocol,
    driver::{self, Content},
};
use crate::{
    deferred::Deferred,
    reactor::{Handle, Label, Origin},
    server::{AcceptError, Acceptor},
    transport::{Address, BoxedListener, ConnectError, IntoSocketAddr, Listen, tcp},
};

/// Serves a protocol on a listener until it is dropped. Created by [`serve`].
///
/// Dropping it stops accepting; open connections continue.
#[must_use = "dropping it stops accepting; use `keep` to let it accept until the run ends"]
pub struct Server {
    acceptor: Acceptor,
    config: Rc<Cell<Config>>,
}

/// Accepts connections until the [`Server`] is dropped, and runs the protocol that `build` makes on
/// each of them. `build` gets the peer's address. If it returns `None`, the connection is closed.
///
/// The listener may wrap its streams, in TLS for example. `build` is called when a connection is
/// [established](crate::transport::ByteStream::poll_established). If it panics, that connection is
/// lost and nothing else.
#[track_caller]
pub fn serve<F, P>(listener: impl Listen, build: F) -> Server
where
    F: Fn(&Address) -> Option<P> + 'static,
    P: Protocol + 'static,
{
    let origin = Origin::here(Label::CONNECTION);
    let build = move |peer: &Address| -> Option<Box<dyn Protocol>> { Some(Box::new(build(peer)?)) };
    serve_any(listener.boxed(), Rc::new(build), origin)
}

fn serve_any(listener: BoxedListener, factory: Rc<Factory>, origin: Origin) -> Server {
    let handle = listener.handle();
    let config = Rc::new(Cell::new(Config::default()));
    let acceptor = Acceptor::new(listener, origin, {
        let config = config.clone();
        move |stream, permit| {
            let content = Content::Factory(factory.clone());
            driver::spawn(
                &handle,
                stream,
                content,
                config.get(),
                Some(permit),
                origin.location,
            );
        }
    });
    Server { acceptor, config }
}

impl Server {
    /// Lets it accept until the run ends. Without this, dropping it stops accepting.
    pub fn keep(self) {
        self.acceptor.keep();
    }

    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Sets how many connections may be open at a time. The default is 10,000. Peers beyond that
    /// wait in the listener's backlog (1,024) until a connection ends.
    pub fn set_max_connections(&self, most: usize) {
        self.acceptor.set_max_connections(most);
    }

    /// Fires when the server no longer accepts and its last connection is gone: because the server
    /// was dropped, or because its listener [has no more
    /// connections](crate::transport::listen_once).
    ///
    /// Fails with the reason if the listener failed. Errors of a single connection go to its
    /// protocol. If the reactor's run ends first, the `Deferred` is abandoned.
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        self.acceptor.closed()
    }

    /// Sets the limits of connections accepted from now on.
    pub fn set_config(&self, config: Config) {
        self.config.set(config);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", self.local_address())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Connects to `address` and runs the protocol that `build` returns over the connection.
///
/// # Errors
/// See [`tcp::connect`]. In that case `build` is not called.
pub async fn connect<P: Protocol + 'static>(
    handle: &Handle,
    address: impl IntoSocketAddr,
    build: impl FnOnce() -> P,
) -> Result<Connection, ConnectError> {
    let stream = tcp::connect(handle, address).await?;
    Ok(driver::start(handle, stream, build()))
}
