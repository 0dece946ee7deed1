//! Serving calls to all that connect.

use std::{cell::Cell, fmt, rc::Rc};

use super::{Config, Methods, Peer, connection::launch};
use crate::{
    deferred::Deferred,
    reactor::{Label, Origin},
    server::{AcceptError, Acceptor},
    transport::{Address, Listen},
};

/// Answers the calls of all peers that connect, until it is dropped. Created by [`serve`].
///
/// Dropping it stops accepting; open connections continue.
#[must_use = "dropping it stops accepting; use `keep` to let it accept until the run ends"]
pub struct Server {
    acceptor: Acceptor,
    config: Rc<Cell<Config>>,
}

/// Accepts connections until the [`Server`] is dropped. `connected` is called for each of them and
/// returns the methods that this peer may call. It may keep the [`Peer`], to call it.
///
/// The listener may wrap its streams, in TLS for example. If `connected` panics, that connection is
/// lost and nothing else.
///
/// ```
/// use entwined::{Standalone, rpc::{self, Failure, Methods}, transport::tcp};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let server = rpc::serve(tcp::listen(&handle, "127.0.0.1:0")?, |_peer| {
///     let mut methods = Methods::new();
///     methods.add("double", |_call, number: i64| async move { Ok::<_, Failure>(2 * number) });
///     methods
/// });
/// server.set_max_connections(32);
/// let address = server.local_address().tcp().ok_or("it listens on TCP")?;
/// reactor.block_on(async move {
///     let peer = rpc::start(&handle, tcp::connect(&handle, address).await?, Methods::new());
///     assert_eq!(peer.call::<i64>("double", &21).await?, 42);
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn serve(listener: impl Listen, connected: impl Fn(&Peer) -> Methods + 'static) -> Server {
    let origin = Origin::here(Label::CONNECTION);
    let handle = listener.handle();
    let config = Rc::new(Cell::new(Config::default()));
    let acceptor = Acceptor::new(listener, origin, {
        let config = config.clone();
        move |stream, permit| {
            let (peer, place) = launch(&handle, stream, config.get(), Some(permit), origin);
            match handle.contain(origin, || connected(&peer)) {
                Some(methods) => *place.borrow_mut() = methods,
                None => peer.abort(),
            }
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

    /// Sets how many connections may be open at a time. The default is 10,000. See
    /// [`protocol::Server::set_max_connections`](crate::protocol::Server::set_max_connections).
    pub fn set_max_connections(&self, most: usize) {
        self.acceptor.set_max_connections(most);
    }

    /// Sets the limits of connections accepted from now on.
    pub fn set_config(&self, config: Config) {
        self.config.set(config);
    }

    /// Fires when it no longer accepts and its last connection is gone. See
    /// [`protocol::Server::closed`](crate::protocol::Server::closed).
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        self.acceptor.closed()
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
