//! Byte streams: sockets that a reactor watches, as [`futures_io`] streams and (with the feature
//! `http`) as hyper's.
//!
//! ```
//! use entwined::{Standalone, transport::tcp};
//! use std::{io::Write, net::{Ipv4Addr, TcpStream}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0).into())?;
//! let address = listener.local_address().tcp().expect("it listens on TCP");
//!
//! handle.clone().spawn(async move {
//!     let stream = listener.accept().await.expect("a connection");
//!     println!("{} is here", stream.peer_address());
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//!
//! let peer = TcpStream::connect(address)?;
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod datagram;
pub mod fd;
mod fds;
mod listen;
mod listener;
pub mod memory;
mod race;
mod socket;
mod stream;
pub mod tcp;
pub mod udp;
pub mod unix;

use std::{
    any::Any,
    future::poll_fn,
    io,
    task::{Context, Poll},
};

pub use crate::address::{Address, UnixAddress};
pub use batch::Batch;
pub use datagram::{DatagramSocket, Received};
use futures_io::{AsyncRead, AsyncWrite};
pub use listen::{BoxedListener, Layered, Listen, Once, listen_once};
pub use listener::{ListenError, Listener};
pub use race::{HostError, connect_host};
pub use socket::ConnectError;
pub use stream::Stream;

/// A byte stream that a [protocol](crate::protocol) can be run over: a socket, or a layer (such as
/// TLS) above another stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Any {
    /// The address of this end.
    fn local_address(&self) -> Address;

    /// The address of the other end. A layer that learns of another one (from a PROXY header) gives
    /// that once it is [established](ByteStream::poll_established).
    fn peer_address(&self) -> Address;

    /// Does what comes before the first byte, such as a handshake; ready at once where there is
    /// nothing to do, and ever after.
    ///
    /// A server waits for it, [within limits](crate::protocol::Limits::establish), before it makes
    /// a protocol or looks for a request. Whoever just reads and writes need not call it: the first
    /// read or write waits for it too. A layer forwards it to the stream below.
    ///
    /// # Errors
    /// Why there will be no connection: a handshake that failed, a certificate that was refused.
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Has the peer see a reset instead of an end of input when the stream is dropped, where the
    /// transport knows the difference.
    fn abort(&mut self);

    /// The stream that this one is a layer above.
    fn below(&self) -> Option<&dyn ByteStream> {
        None
    }
}

impl dyn ByteStream {
    /// Waits until it is [established](ByteStream::poll_established).
    ///
    /// # Errors
    /// Why there will be no connection.
    pub async fn established(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_established(cx)).await
    }

    /// The first stream of this type, from here down the layers. Asking for what is not there is
    /// answered by `None`.
    ///
    /// ```
    /// # use entwined::transport::{ByteStream, Stream};
    /// fn credentials(stream: &dyn ByteStream) -> Option<u32> {
    ///     let credentials = stream.find::<Stream>()?.peer_credentials().ok()?;
    ///     Some(credentials.uid.as_raw())
    /// }
    /// ```
    pub fn find<S: ByteStream>(&self) -> Option<&S> {
        let any: &dyn Any = self;
        any.downcast_ref().or_else(|| self.below()?.find())
    }
}

impl ByteStream for Box<dyn ByteStream> {
    fn local_address(&self) -> Address {
        (**self).local_address()
    }

    fn peer_address(&self) -> Address {
        (**self).peer_address()
    }

    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_established(cx)
    }

    fn abort(&mut self) {
        (**self).abort();
    }

    fn below(&self) -> Option<&dyn ByteStream> {
        Some(&**self)
    }
}
