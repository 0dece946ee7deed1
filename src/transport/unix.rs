//! Unix stream sockets.

use std::{io, path::Path};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Address, ConnectError, ListenError, Listener, Stream, UnixAddress, listener::BACKLOG, socket};
use crate::reactor::{Handle, Interest, Readiness, Watched};

/// Connects to the socket at `path`.
///
/// # Errors
/// [`ConnectError`]; a path that does not exist is `Unreachable`, a socket file without a listener `Refused`.
pub async fn connect(handle: &Handle, path: impl AsRef<Path>) -> Result<Stream, ConnectError> {
    let path = path.as_ref();
    let peer = Address::Unix(UnixAddress::Path(path.to_owned()));
    match SocketAddrUnix::new(path) {
        Ok(target) => socket::connect(handle, AddressFamily::UNIX, &target, peer, |_| Ok(())).await,
        Err(error) => Err(ConnectError::Other { address: peer, source: error.into() }),
    }
}

/// Listens on a socket at `path`, which must not exist; it is removed when the listener is dropped.
///
/// # Errors
/// [`ListenError`], also for a path of more than 107 bytes.
pub fn listen(handle: &Handle, path: impl AsRef<Path>) -> Result<Listener, ListenError> {
    let path = path.as_ref();
    let open = || {
        let socket = socket::new(AddressFamily::UNIX)?;
        net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        net::listen(&socket, BACKLOG)?;
        Ok(Listener::new(handle, socket)?.remove_on_drop(path.to_owned()))
    };
    open().map_err(|source| ListenError { address: Address::Unix(UnixAddress::Path(path.to_owned())), source })
}

/// Two streams that are connected to each other.
///
/// # Errors
/// When there are no file descriptors left.
pub fn pair(handle: &Handle) -> io::Result<(Stream, Stream)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let stream = |socket| -> io::Result<Stream> {
        let socket = Watched::new(handle, socket, Interest::BOTH)?.assume_ready(Readiness::WRITABLE);
        Ok(Stream::new(socket, Address::Unix(UnixAddress::Unnamed)))
    };
    Ok((stream(a)?, stream(b)?))
}
