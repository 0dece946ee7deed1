//! Connecting, for sockets of every family.

use std::{error::Error, fmt, io, time::Duration};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{self, AddressFamily, SocketType, addr::SocketAddrArg, sockopt},
};

use super::{Address, Stream, sys};
use crate::{
    reactor::{Direction, Handle, Interest, Readiness, Registration},
    report, share,
};

/// How long to wait before retrying a Unix listener with a full backlog, for which there is no
/// readiness to wait for.
const FULL_BACKLOG: Duration = Duration::from_millis(5);

/// Connects a new socket. Dropping the future cancels the attempt.
pub(super) async fn connect(
    handle: &Handle,
    family: AddressFamily,
    target: &impl SocketAddrArg,
    peer: Address,
    prepare: impl Fn(&OwnedFd) -> io::Result<()>,
) -> Result<Stream, ConnectError> {
    let attempt = async {
        loop {
            // It may succeed or fail at once, also many times in a row.
            share::operation().await;
            let socket = sys::socket(family, SocketType::STREAM)?;
            prepare(&socket)?;
            match net::connect(&socket, target) {
                Ok(()) => return Ok(Registration::new(handle, socket, Interest::BOTH)?),
                Err(errno) if sys::is_connecting(errno) => {
                    let socket = Registration::new(handle, socket, Interest::BOTH)?;
                    socket.ready(Direction::Write).await;
                    sockopt::socket_error(socket.object())??;
                    return Ok(socket);
                }
                Err(Errno::AGAIN) => handle.sleep(FULL_BACKLOG).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let connected = attempt.await.and_then(|socket| {
        refuse_itself(socket.object(), &peer)?;
        Ok(socket)
    });
    match connected {
        Ok(socket) => Ok(Stream::new(socket.assume_ready(Readiness::WRITABLE), peer)),
        Err(error) => Err(ConnectError::new(peer, error)),
    }
}

/// Refuses a socket that is connected to itself. If nobody listens on a port of the range from
/// which the system chooses the ports of clients, it may choose that very port, and then TCP's
/// simultaneous open succeeds (RFC 9293, section 3.5).
fn refuse_itself(socket: &OwnedFd, peer: &Address) -> io::Result<()> {
    if !matches!(peer, Address::Tcp(_)) || !is_itself(socket) {
        return Ok(());
    }
    // Leaves no TIME_WAIT on the port, where a server may be about to listen.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    Err(io::ErrorKind::ConnectionRefused.into())
}

pub(super) fn is_itself(socket: &OwnedFd) -> bool {
    match (net::getsockname(socket), net::getpeername(socket)) {
        (Ok(local), Ok(Some(peer))) => local == peer,
        _ => false,
    }
}

/// Why connecting failed. For a timeout of your own, see [`Handle::timeout`]; dropping the future
/// cancels the attempt.
///
/// `Debug` prints the same text as `Display`, and the causes.
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    Refused {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// There is no route to the host or network, or the socket file does not exist.
    Unreachable {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// The host did not answer within the system's timeout, or the backlog of a Unix listener was
    /// full for 30 s.
    TimedOut {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// Anything else: out of file descriptors, permission denied, ...
    Other {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
}

impl ConnectError {
    pub(super) fn new(address: Address, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { address, source },
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NotFound => ConnectError::Unreachable { address, source },
            io::ErrorKind::TimedOut => ConnectError::TimedOut { address, source },
            _ => ConnectError::Other { address, source },
        }
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.parts().1.kind()
    }

    fn parts(&self) -> (&Address, &io::Error) {
        match self {
            ConnectError::Refused { address, source }
            | ConnectError::Unreachable { address, source }
            | ConnectError::TimedOut { address, source }
            | ConnectError::Other { address, source } => (address, source),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, source) = self.parts();
        if *address == Address::Unknown {
            return write!(f, "cannot connect: {source}");
        }
        match self {
            ConnectError::Refused { .. } => write!(f, "nobody listens on {address}"),
            ConnectError::Unreachable { .. } => write!(f, "{address} cannot be reached: {source}"),
            ConnectError::TimedOut { .. } => write!(f, "{address} does not answer"),
            ConnectError::Other { .. } => write!(f, "cannot connect to {address}: {source}"),
        }
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(self, f)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.parts().1)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
