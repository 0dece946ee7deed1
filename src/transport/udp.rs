//! UDP (RFC 768).
//!
//! ```
//! use entwined::{Standalone, transport::udp};
//!
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//! let server = udp::bind(&handle, "127.0.0.1:0".parse()?)?;
//! let client = udp::connect(&handle, server.local_address().udp().expect("UDP"))?;
//!
//! handle.clone().spawn(async move {
//!     client.send(b"hello").await.expect("sent");
//!     let mut buffer = [0; 1500];
//!     let received = server.receive(&mut buffer).await.expect("a datagram");
//!     assert_eq!(&buffer[..received.count], b"hello");
//!     server.send_to(b"hello to you", &received.from).await.expect("sent");
//!     handle.stop().expect("the reactor runs");
//! }).detach();
//! reactor.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net::{self, sockopt};

use super::{
    Address, ListenError,
    datagram::{DatagramSocket, family},
};
use crate::reactor::Handle;

/// A socket that receives what is sent to `address`; port 0 takes a free one
/// ([`DatagramSocket::local_address`] tells which).
///
/// # Errors
/// [`ListenError`] names the address and says what to do.
pub fn bind(handle: &Handle, address: SocketAddr) -> Result<DatagramSocket, ListenError> {
    open(handle, address, false)
}

/// The same beside others that are bound to this address by the same user: each receives what is
/// sent to a multicast group or a broadcast address that it listens to; of other datagrams each
/// gets some (`SO_REUSEADDR` and `SO_REUSEPORT`, socket(7)).
///
/// # Errors
/// [`ListenError`] names the address and says what to do.
pub fn bind_shared(handle: &Handle, address: SocketAddr) -> Result<DatagramSocket, ListenError> {
    open(handle, address, true)
}

fn open(handle: &Handle, address: SocketAddr, shared: bool) -> Result<DatagramSocket, ListenError> {
    let open = || {
        let socket = DatagramSocket::open(family(address))?;
        if shared {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        net::bind(&socket, &address)?;
        DatagramSocket::new(handle, socket, family(address))
    };
    open().map_err(|source| ListenError {
        address: Address::Udp(address),
        source,
    })
}

/// A socket that sends to `address` and receives from nobody else. Nothing is sent yet, so this
/// waits for nothing.
///
/// # Errors
/// When there is no way to that address.
pub fn connect(handle: &Handle, address: SocketAddr) -> io::Result<DatagramSocket> {
    let socket = DatagramSocket::open(family(address))?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    net::bind(&socket, &any)?;
    net::connect(&socket, &address)?;
    DatagramSocket::new(handle, socket, family(address))
}
