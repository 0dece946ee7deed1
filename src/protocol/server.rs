//! Where protocols come from: factories, servers and clients.

use std::{cell::Cell, fmt, net::SocketAddr, rc::Rc};

use super::{
    Limits, Protocol, Transport,
    connection::{self, Content},
};
use crate::{
    deferred::Deferred,
    reactor::{Handle, Label, Origin},
    server::{AcceptError, Acceptor},
    transport::{Address, BoxedListener, ConnectError, Listen, tcp},
};

/// Makes a protocol for each connection that is accepted.
///
/// Every function from an address to an `Option` of a protocol is one.
pub trait Factory {
    /// The protocol for a connection with `peer`, or `None` to refuse it: then it is closed.
    fn build(&self, peer: &Address) -> Option<Box<dyn Protocol>>;
}

impl<F, P> Factory for F
where
    F: Fn(&Address) -> Option<P>,
    P: Protocol + 'static,
{
    fn build(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self(peer).map(|protocol| Box::new(protocol) as Box<dyn Protocol>)
    }
}

/// Serves a protocol on a listener until it is dropped. Made by [`serve`].
///
/// Dropping it stops accepting; the connections that are there go on.
#[must_use = "dropping it stops accepting"]
pub struct Server {
    acceptor: Acceptor,
    limits: Rc<Cell<Limits>>,
}

/// Accepts connections and runs on each the protocol that `factory` makes, until the [`Server`] is
/// dropped.
///
/// The listener may have layers, such as TLS; `factory` is asked when a connection is
/// [established](crate::transport::ByteStream::poll_established). A factory that panics loses that
/// connection and nothing else.
#[track_caller]
pub fn serve(listener: impl Listen, factory: impl Factory + 'static) -> Server {
    let origin = Origin::here(Label::CONNECTION);
    serve_any(listener.boxed(), Rc::new(factory), origin)
}

fn serve_any(listener: BoxedListener, factory: Rc<dyn Factory>, origin: Origin) -> Server {
    let handle = listener.handle();
    let limits = Rc::new(Cell::new(Limits::default()));
    let acceptor = Acceptor::new(listener, origin, {
        let limits = limits.clone();
        move |stream, permit| {
            let content = Content::Factory(factory.clone());
            connection::start(
                &handle,
                stream,
                content,
                limits.get(),
                Some(permit),
                origin.location,
            );
        }
    });
    Server { acceptor, limits }
}

impl Server {
    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        self.acceptor.local_address()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// How many connections may be open at a time, 10,000 at first. Peers beyond it wait in the
    /// listener's backlog (1,024) until one ends.
    pub fn set_max_connections(&self, most: usize) {
        self.acceptor.set_max_connections(most);
    }

    /// Fires when it accepts no more and its last connection is gone: because it was dropped, or
    /// because what it listens on [has no more](crate::transport::listen_once). With the reason if
    /// the listener has failed; what a single connection ran into is its protocol's affair. Where
    /// the run ends before, it is abandoned.
    pub fn closed(&self) -> Deferred<(), AcceptError> {
        self.acceptor.closed()
    }

    /// The bounds for connections accepted from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
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

/// Connects to `address` and runs the protocol that `build` makes over the connection.
///
/// # Errors
/// See [`tcp::connect`]; no protocol was made then.
pub async fn connect<P: Protocol + 'static>(
    handle: &Handle,
    address: SocketAddr,
    build: impl FnOnce() -> P,
) -> Result<Transport, ConnectError> {
    let stream = tcp::connect(handle, address).await?;
    Ok(super::start(handle, stream, build()))
}
