//! Where protocols come from: factories, servers and clients.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    net::SocketAddr,
    panic::Location,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{Limits, Protocol, Transport, connection};
use crate::{
    reactor::{Handle, Kind, Origin},
    task::Task,
    transport::{Address, ConnectError, Listener, tcp},
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

/// Connections that one server holds at a time, unless it is told otherwise; peers beyond it wait in the listener's backlog.
const MOST_CONNECTIONS: usize = 10_000;

/// Serves a protocol on a listener until it is dropped. Made by [`serve`].
///
/// Dropping it stops accepting; the connections that are there go on.
#[must_use = "dropping it stops accepting"]
pub struct Server {
    address: Address,
    gate: Rc<Gate>,
    accepting: Option<Task<()>>,
}

/// Accepts connections and runs on each the protocol that `factory` makes, until the [`Server`] is dropped.
#[track_caller]
pub fn serve(listener: Listener, factory: impl Factory + 'static) -> Server {
    let handle = listener.handle();
    let address = listener.local_address().clone();
    let gate = Rc::new(Gate {
        open: Cell::new(0),
        most: Cell::new(MOST_CONNECTIONS),
        limits: Cell::new(Limits::default()),
        waiting: RefCell::default(),
    });
    let origin = Origin { kind: Kind::Connection, location: Location::caller() };
    let accepting = handle.core().spawn(accept(listener, factory, gate.clone(), origin), origin);
    Server { address, gate, accepting: Some(accepting) }
}

impl Server {
    /// The address that it listens on.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.gate.open.get()
    }

    /// How many connections may be open at a time, 10,000 at first. Peers beyond it wait in the listener's backlog (1,024) until one ends.
    pub fn set_max_connections(&self, most: usize) {
        self.gate.most.set(most);
        self.gate.wake();
    }

    /// The bounds for what connections accepted from now on may have waiting to be sent.
    pub fn set_limits(&self, limits: Limits) {
        self.gate.limits.set(limits);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.cancel();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("connections", &self.connections()).finish()
    }
}

async fn accept(listener: Listener, factory: impl Factory, gate: Rc<Gate>, origin: Origin) {
    let handle = listener.handle();
    loop {
        poll_fn(|cx| gate.poll_room(cx)).await;
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, address = %listener.local_address(), "a listener failed; it accepts no more");
                return;
            }
        };
        // A factory may panic: that ends this connection, by the drop of the stream, and not the server.
        let protocol = handle.core().contain(origin, || factory.build(stream.peer_address())).flatten();
        if let Some(protocol) = protocol {
            let permit = Some(Permit::new(&gate));
            connection::start(&handle, Box::new(stream), protocol, gate.limits.get(), permit, origin.location);
        }
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

/// Counts a server's connections.
pub(crate) struct Gate {
    open: Cell<usize>,
    most: Cell<usize>,
    limits: Cell<Limits>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.get() < self.most.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&self) {
        let waker = self.waiting.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A connection's place among those of its server.
pub(super) struct Permit(Rc<Gate>);

impl Permit {
    fn new(gate: &Rc<Gate>) -> Self {
        gate.open.set(gate.open.get() + 1);
        Permit(gate.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.wake();
    }
}
