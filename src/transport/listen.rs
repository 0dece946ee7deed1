//! Sources of connections: listening sockets, and wrappers of them.

use std::{
    cell::RefCell,
    fmt, io,
    task::{Context, Poll},
};

use super::{Address, ByteStream, Listener, Stream};
use crate::reactor::Handle;

/// A source of connections that a server can be run on: a [`Listener`], or one whose
/// streams are [wrapped](Listen::map_stream).
pub trait Listen: 'static {
    /// The type of the connections that it accepts.
    type Stream: ByteStream;

    /// Waits for the next connection. Returns `None` when no more will come. Only one task may wait
    /// at a time, and it must not call this again after `None` or an error.
    ///
    /// This does not wait until the connection is [established](ByteStream::poll_established), so a
    /// peer with a slow handshake does not hold up others.
    ///
    /// # Errors
    /// Only errors after which the listener cannot continue.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Self::Stream>>>;

    /// The address that it listens on.
    fn local_address(&self) -> Address;

    /// The handle of the listener's reactor.
    fn handle(&self) -> Handle;

    /// Wraps each accepted stream: in TLS, a limit, a log.
    ///
    /// `wrap` runs where connections are accepted and should only wrap the stream. Anything slow
    /// or fallible belongs in the wrapper's [`poll_established`](ByteStream::poll_established).
    fn map_stream<F, S>(self, wrap: F) -> MapStream<Self, F>
    where
        Self: Sized,
        F: Fn(Self::Stream) -> S + 'static,
        S: ByteStream,
    {
        MapStream {
            listener: self,
            wrap,
        }
    }

    /// Erases the types, for listeners that are chosen at run time.
    fn boxed(self) -> BoxedListener
    where
        Self: Sized,
    {
        Box::new(self.map_stream(|stream| -> Box<dyn ByteStream> { Box::new(stream) }))
    }
}

/// A source of connections of any type.
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

/// Creates a source of a single connection from an existing stream: inherited, or one end of a
/// pair. After that one, no more connections come.
///
/// A server on it serves that one peer, and is [closed](crate::protocol::Server::closed) when the
/// connection ends.
///
/// ```
/// use entwined::{Standalone, protocol::{self, Echo}, transport::{listen_once, memory}};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let (here, there) = memory::pair(&handle);
/// let server = protocol::serve(listen_once(&handle, here), |_| Some(Echo));
/// let closed = server.closed();
/// handle.spawn({
///     let handle = handle.clone();
///     async move {
///         drop(there);
///         closed.await.expect("it did not fail");
///         handle.stop()
///     }
/// });
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

/// A source of a single connection. Created by [`listen_once`].
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

/// A source of connections whose streams are wrapped. Created by [`Listen::map_stream`].
#[derive(Debug)]
pub struct MapStream<L, F> {
    listener: L,
    wrap: F,
}

impl<L, F, S> Listen for MapStream<L, F>
where
    L: Listen,
    F: Fn(L::Stream) -> S + 'static,
    S: ByteStream,
{
    type Stream = S;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<S>>> {
        self.listener.poll_accept(cx).map_ok(&self.wrap)
    }

    fn local_address(&self) -> Address {
        self.listener.local_address()
    }

    fn handle(&self) -> Handle {
        self.listener.handle()
    }
}
