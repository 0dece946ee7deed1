//! Byte streams: sockets that a reactor watches. They implement the traits of
//! [`futures_io`].
//!
//! ```
//! use entwined::{Standalone, transport::tcp};
//! use std::{io::Write, net::{Ipv4Addr, TcpStream}};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let listener = tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0))?;
//! let address = listener.local_address().tcp().expect("it listens on TCP");
//!
//! handle.clone().spawn(async move {
//!     let stream = listener.accept().await.expect("a connection");
//!     println!("{} is here", stream.peer_address());
//!     handle.stop();
//! });
//!
//! let peer = TcpStream::connect(address)?;
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
#[cfg(unix)]
mod credentials;
mod datagram;
#[cfg(unix)]
pub mod fd;
#[cfg(unix)]
mod fds;
mod forward;
mod listen;
mod listener;
pub mod memory;
#[cfg(unix)]
mod on_unix;
#[cfg(windows)]
mod on_windows;
mod race;
mod received;
mod socket;
#[cfg(unix)]
mod socket_file;
mod stream;
mod sys;
pub mod tcp;
pub mod udp;
#[cfg(unix)]
pub mod unix;
mod waiting;

use std::{
    any::Any,
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

use crate::reactor::Handle;

pub use crate::address::{Address, IntoSocketAddr, UnixAddress};
pub use batch::Batch;
#[cfg(unix)]
pub use credentials::Credentials;
pub use datagram::DatagramSocket;
pub(crate) use datagram::FULL_QUEUE;
pub use futures_io::{AsyncRead, AsyncWrite};
pub use listen::{BoxedListener, Listen, MapStream, Once, listen_once};
pub use listener::{ListenError, Listener};
#[cfg(unix)]
pub(crate) use on_unix::peer_user;
#[cfg(windows)]
pub(crate) use on_windows::peer_user;
pub(crate) use race::connect_host_within;
pub use race::{HostError, connect_host};
pub use received::ReceivedDatagram;
pub use socket::ConnectError;
pub use stream::Stream;
pub(crate) use waiting::{Side, Waiting};

/// A byte stream that a [protocol](crate::protocol) can be run over: a socket, or a wrapper (such
/// as TLS) around another stream.
///
/// For a wrapper of your own, [`forward_stream!`](crate::forward_stream) writes the methods that it
/// does not change.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Any {
    /// The address of this end.
    fn local_address(&self) -> Address;

    /// The address of the other end. Some wrappers learn another address, for example from a PROXY
    /// header; they return it once they are [established](ByteStream::poll_established).
    fn peer_address(&self) -> Address;

    /// Completes what must happen before the first byte, such as a handshake. If there is nothing
    /// to do, or it is already done, this is ready at once.
    ///
    /// A server waits for this, [within limits](crate::protocol::Config::establish_timeout), before
    /// it builds a protocol or reads a request. Code that only reads and writes need not call it:
    /// the first read or write waits for it too. A wrapper forwards the call to the stream below.
    ///
    /// # Errors
    /// Why the connection cannot be used: the handshake failed, or a certificate was refused.
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Makes the peer see a reset instead of an end of input when the stream is dropped, if the
    /// transport can tell the two apart.
    fn abort(&mut self);

    /// The stream below this one, if this is a wrapper.
    fn below(&self) -> Option<&dyn ByteStream> {
        None
    }
}

impl dyn ByteStream {
    /// Waits until the stream is [established](ByteStream::poll_established), for `limit` at most:
    /// a peer that never shakes hands must not be waited for for ever. Servers do this themselves.
    ///
    /// # Errors
    /// Why the connection cannot be used; [`TimedOut`](io::ErrorKind::TimedOut) if it takes longer.
    pub async fn established(&mut self, handle: &Handle, limit: Duration) -> io::Result<()> {
        let established = poll_fn(|cx| self.poll_established(cx));
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
        let in_time = handle.timeout(limit, established).await;
        in_time.unwrap_or_else(|_| Err(late()))
    }

    /// Returns the first stream of type `S`, searching from this one down through the wrapped ones,
    /// or `None` if there is none.
    ///
    /// ```
    /// # use entwined::transport::{ByteStream, Stream};
    /// fn credentials(stream: &dyn ByteStream) -> Option<u32> {
    ///     let credentials = stream.find::<Stream>()?.peer_credentials().ok()?;
    ///     Some(credentials.uid)
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
