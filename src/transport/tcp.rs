//! TCP.

use std::net::SocketAddr;

use rustix::net::{self, AddressFamily, sockopt};

use super::{ConnectError, ListenError, Listener, Stream, listener::BACKLOG, socket};
use crate::reactor::Handle;

/// Connects to `address`. Nagle's algorithm is off (`TCP_NODELAY`), since everything here writes
/// once for each callback.
///
/// The system gives up after about two minutes; for a limit of your own wrap it in
/// [`Handle::timeout`]. Dropping the future cancels the attempt.
///
/// # Errors
/// [`ConnectError`] tells refused from unreachable from timed out.
pub async fn connect(handle: &Handle, address: SocketAddr) -> Result<Stream, ConnectError> {
    let prepare = |socket: &_| Ok(sockopt::set_tcp_nodelay(socket, true)?);
    socket::connect(handle, family(address), &address, address.into(), prepare).await
}

/// Listens on `address`; port 0 takes a free one ([`Listener::local_address`] tells which).
///
/// # Errors
/// [`ListenError`] names the address and says what to do about a used port, a foreign address, or a
/// port that needs privileges.
pub fn listen(handle: &Handle, address: SocketAddr) -> Result<Listener, ListenError> {
    let open = || {
        let socket = socket::new(family(address))?;
        // Lets a server start again while connections of its predecessor are in TIME_WAIT; two
        // listeners still exclude each other.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // Accepted sockets inherit it.
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
