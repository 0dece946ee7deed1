//! TCP.

use std::net::SocketAddr;

use rustix::net::{self, AddressFamily, SocketType, sockopt};

use super::{
    Address, ConnectError, IntoSocketAddr, ListenError, Listener, Stream, listener::BACKLOG,
    socket, sys,
};
use crate::reactor::Handle;

/// Connects to `address`. Nagle's algorithm is turned off (`TCP_NODELAY`), because everything in
/// this crate writes once per callback.
///
/// The system gives up after about two minutes. For a timeout of your own, wrap the future in
/// [`Handle::timeout`]. Dropping the future cancels the attempt.
///
/// # Errors
/// [`ConnectError`] distinguishes refused, unreachable and timed out. A text that is not an address
/// and a port is also an error.
pub async fn connect(
    handle: &Handle,
    address: impl IntoSocketAddr,
) -> Result<Stream, ConnectError> {
    let address = address
        .into_socket_addr()
        .map_err(|source| ConnectError::new(Address::Unknown, source))?;
    let prepare = |socket: &_| Ok(sockopt::set_tcp_nodelay(socket, true)?);
    socket::connect(handle, family(address), &address, address.into(), prepare).await
}

/// Listens on `address`. Port 0 takes a free port, which [`Listener::local_address`] returns.
///
/// # Errors
/// [`ListenError`] names the address and suggests a fix if the port is in use, the address does not
/// belong to this machine, or the port needs privileges. A text that is not an address and a port
/// is also an error.
pub fn listen(handle: &Handle, address: impl IntoSocketAddr) -> Result<Listener, ListenError> {
    let address = address
        .into_socket_addr()
        .map_err(ListenError::no_address)?;
    listen_on(handle, address)
}

fn listen_on(handle: &Handle, address: SocketAddr) -> Result<Listener, ListenError> {
    let open = || {
        let socket = sys::socket(family(address), SocketType::STREAM)?;
        sys::listen_again(&socket)?;
        // Accepted sockets inherit this option.
        sockopt::set_tcp_nodelay(&socket, true)?;
        net::bind(&socket, &address)?;
        net::listen(&socket, BACKLOG)?;
        Listener::new(handle, socket)
    };
    open().map_err(|source| ListenError {
        address: address.into(),
        source,
    })
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}
