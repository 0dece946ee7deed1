//! UDP (RFC 768).
//!
//! ```
//! use entwined::{Standalone, transport::udp};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = udp::bind(&handle, "127.0.0.1:0")?;
//! let client = udp::connect(&handle, server.local_address().udp().expect("UDP"))?;
//!
//! handle.clone().spawn(async move {
//!     client.send(b"hello").await.expect("sent");
//!     let mut buffer = [0; 1500];
//!     let received = server.receive(&mut buffer).await.expect("a datagram");
//!     assert_eq!(&buffer[..received.count], b"hello");
//!     server.send_to(b"hello to you", &received.from).await.expect("sent");
//!     handle.stop();
//! });
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net;

use super::{
    Address, IntoSocketAddr, ListenError,
    datagram::{DatagramSocket, family},
    socket::is_itself,
    sys,
};
use crate::reactor::Handle;

/// Creates a socket that receives what is sent to `address`. Port 0 takes a free port, which
/// [`DatagramSocket::local_address`] returns.
///
/// # Errors
/// [`ListenError`] names the address and suggests a fix.
pub fn bind(handle: &Handle, address: impl IntoSocketAddr) -> Result<DatagramSocket, ListenError> {
    let address = address
        .into_socket_addr()
        .map_err(ListenError::no_address)?;
    open(handle, address, false)
}

/// Like [`bind`], but several sockets of the same user may share the address. Each of them receives
/// what is sent to a multicast group it has joined or to a broadcast address. Other datagrams are
/// distributed among them (`SO_REUSEADDR` and, on Unix, `SO_REUSEPORT`; see socket(7)).
///
/// # Errors
/// [`ListenError`] names the address and suggests a fix.
pub fn bind_shared(
    handle: &Handle,
    address: impl IntoSocketAddr,
) -> Result<DatagramSocket, ListenError> {
    let address = address
        .into_socket_addr()
        .map_err(ListenError::no_address)?;
    open(handle, address, true)
}

fn open(handle: &Handle, address: SocketAddr, shared: bool) -> Result<DatagramSocket, ListenError> {
    let open = || {
        let socket = DatagramSocket::open(family(address))?;
        if shared {
            sys::share_address(&socket)?;
        }
        net::bind(&socket, &address)?;
        DatagramSocket::new(handle, socket, family(address))
    };
    open().map_err(|source| ListenError {
        address: Address::Udp(address),
        source,
    })
}

/// Creates a socket that sends to `address` and receives only from it. Nothing is sent yet, so this
/// does not wait.
///
/// # Errors
/// Fails if there is no route to that address, or a text is not an address and a port; with
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if it would be connected to itself.
pub fn connect(handle: &Handle, address: impl IntoSocketAddr) -> io::Result<DatagramSocket> {
    let address = address.into_socket_addr()?;
    let socket = DatagramSocket::open(family(address))?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    net::bind(&socket, &any)?;
    net::connect(&socket, &address)?;
    if is_itself(&socket) {
        // Nobody listens there, and the system chose that very port for this socket.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    DatagramSocket::new(handle, socket, family(address))
}
