//! Where connections come from: listening sockets, and layers above them.

use std::{
    cell::RefCell,
    fmt, io,
    task::{Context, Poll},
};

use super::{Address, ByteStream, Listener, Stream};
use crate::reactor::Handle;

/// A source of connections that a server can be run on: a [`Listener`], or a
/// [layer](Listen::layered) above one.
pub trait Listen: 'static {
    /// What it accepts.
    type Stream: ByteStream;

    /// Waits for the next connection; `None` when no more will come. One task at a time, and not
    /// again after `None` or an error. It does not wait until the connection is
    /// [established](ByteStream::poll_established): a peer that is slow to shake hands holds up
    /// nobody else.
    ///
    /// # Errors
    /// Only those after which it cannot go on.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Self::Stream>>>;

    /// The address that it listens on.
    fn local_address(&self) -> Address;

    /// The handle of its reactor.
    fn handle(&self) -> Handle;

    /// Puts a layer above each connection: TLS, a limit, a log.
    ///
    /// `layer` runs where connections are accepted and should only wrap the stream; what takes
    /// time, and what may fail, belongs into the layer's
    /// [`poll_established`](ByteStream::poll_established).
    fn layered<F, S>(self, layer: F) -> Layered<Self, F>
    where
        Self: Sized,
        F: Fn(Self::Stream) -> S + 'static,
        S: ByteStream,
    {
        Layered {
            listener: self,
            layer,
        }
    }

    /// The same with its types forgotten, for listeners that are chosen while the program runs.
    fn boxed(self) -> BoxedListener
    where
        Self: Sized,
    {
        Box::new(self.layered(|stream| -> Box<dyn ByteStream> { Box::new(stream) }))
    }
}

/// A source of connections of any kind.
pub type BoxedListener = Box<dyn Listen<Stream = Box<dyn ByteStream>>>;

impl Listen for Listener {
    type Stream = Stream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Stream>>> {
        Listener::poll_accept(self, cx).map(Some)
    }

    fn local_address(&self) -> Address {
        Listener::local_address(self).clone()
    }

    fn handle(&self) -> Handle {
        Listener::handle(self)
    }
}

impl Listen for BoxedListener {
    type Stream = Box<dyn ByteStream>;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Self::Stream>>> {
        (**self).poll_accept(cx)
    }

    fn local_address(&self) -> Address {
        (**self).local_address()
    }

    fn handle(&self) -> Handle {
        (**self).handle()
    }

    fn boxed(self) -> BoxedListener {
        self
    }
}

/// A source of one connection, whose stream is there already: inherited, or one end of a pair.
/// After that none come.
///
/// A server that is run on it serves that one peer, and has [ended](crate::protocol::Server::ended)
/// when the connection is gone.
///
/// ```
/// use entwined::{Standalone, protocol::{self, Echo}, transport::{listen_once, memory}};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let (here, there) = memory::pair(&handle);
/// let server = protocol::serve(listen_once(&handle, here), |_peer: &_| Some(Echo));
/// let ended = server.ended();
/// handle.spawn({
///     let handle = handle.clone();
///     async move {
///         drop(there);
///         ended.await.expect("it did not fail");
///         handle.stop()
///     }
/// })
/// .detach();
/// reactor.run()?;
/// # drop(server);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn listen_once<S: ByteStream>(handle: &Handle, stream: S) -> Once<S> {
    Once {
        handle: handle.clone(),
        stream: RefCell::new(Some(stream)),
    }
}

/// A source of one connection. Made by [`listen_once`].
pub struct Once<S> {
    handle: Handle,
    stream: RefCell<Option<S>>,
}

impl<S: ByteStream> Listen for Once<S> {
    type Stream = S;

    fn poll_accept(&self, _: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        Poll::Ready(self.stream.take().map(Ok))
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl<S> fmt::Debug for Once<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("accepted", &self.stream.borrow().is_none())
            .finish_non_exhaustive()
    }
}

/// A source of connections with a layer above each. Made by [`Listen::layered`].
#[derive(Debug)]
pub struct Layered<L, F> {
    listener: L,
    layer: F,
}

impl<L, F, S> Listen for Layered<L, F>
where
    L: Listen,
    F: Fn(L::Stream) -> S + 'static,
    S: ByteStream,
{
    type Stream = S;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        self.listener.poll_accept(cx).map_ok(&self.layer)
    }

    fn local_address(&self) -> Address {
        self.listener.local_address()
    }

    fn handle(&self) -> Handle {
        self.listener.handle()
    }
}
