//! Listening sockets of every family.

use std::{
    cell::RefCell,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, fcntl_dupfd_cloexec},
    net::{self, SocketFlags, SocketType, sockopt},
    process::{Resource, getrlimit},
};

use super::{Address, Stream, UnixAddress, unix::SocketFile};
use crate::{
    reactor::{Direction, Handle, Interest, Readiness, Watched},
    task::Sleep,
};

/// Connections that the kernel completes ahead of accept; it may allow less (net.core.somaxconn).
pub(super) const BACKLOG: i32 = 1024;

/// How long accepting rests when not even turning peers away is possible.
const REST: Duration = Duration::from_millis(100);

/// A socket that accepts connections. Dropping it stops that, and has the kernel refuse those that
/// wait.
///
/// When the process runs out of file descriptors, peers are not left hanging: a spare fd is given
/// up for each of them, the connection is accepted and closed, and the spare taken back. Accepting
/// goes on by itself as soon as there are fds again.
#[derive(Debug)]
pub struct Listener {
    socket: Watched<OwnedFd>,
    local: Address,
    /// The fd that is given up to turn a peer away.
    spare: RefCell<Option<OwnedFd>>,
    /// There while accepting rests.
    rest: RefCell<Option<Sleep>>,
    /// A socket file to be removed.
    _file: Option<SocketFile>,
}

impl Listener {
    pub(super) fn new(handle: &Handle, socket: OwnedFd) -> io::Result<Self> {
        let local = net::getsockname(&socket)?.into();
        make_room(&socket);
        let socket = Watched::new(handle, socket, Interest::READABLE)?;
        Ok(Listener {
            socket,
            local,
            spare: RefCell::new(open_spare()),
            rest: RefCell::default(),
            _file: None,
        })
    }

    /// A listener of a socket that is bound and listens already: inherited, or made elsewhere. It
    /// becomes non-blocking, for every process that shares it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when it is no stream socket that listens.
    pub fn from_fd(handle: &Handle, socket: OwnedFd) -> io::Result<Self> {
        let listens = sockopt::socket_type(&socket)? == SocketType::STREAM
            && sockopt::socket_acceptconn(&socket)?;
        if !listens {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket does not listen for connections",
            ));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        // Accepted sockets inherit it; a Unix socket knows no such thing.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        Listener::new(handle, socket)
    }

    pub(super) fn with_file(mut self, file: Option<SocketFile>) -> Self {
        self._file = file;
        self
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    pub fn local_address(&self) -> &Address {
        &self.local
    }

    /// The handle of its reactor.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// Waits for the next connection. One task at a time.
    ///
    /// # Errors
    /// Only those after which the listener cannot go on. A connection that was lost before it was
    /// accepted (`ECONNABORTED`) or a want of file descriptors is none of them.
    pub async fn accept(&self) -> io::Result<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Listener::accept) for futures written by hand.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            ready!(self.poll_rest(cx));
            let accepted = ready!(self.socket.poll_io(cx, Direction::Read, |socket| {
                // The errno is looked at below, but these two are for poll_io.
                match net::acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                    Err(error @ (Errno::AGAIN | Errno::INTR)) => Err(error.into()),
                    other => Ok(other),
                }
            }))?;
            match accepted {
                Ok((socket, peer)) => {
                    match self.admit(socket, peer.map_or(Address::Unknown, Address::from)) {
                        Ok(stream) => return Poll::Ready(Ok(stream)),
                        Err(error) => {
                            tracing::warn!(%error, "a connection cannot be watched and was closed")
                        }
                    }
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => self.turn_away(),
                Err(
                    error @ (Errno::BADF
                    | Errno::INVAL
                    | Errno::NOTSOCK
                    | Errno::FAULT
                    | Errno::OPNOTSUPP),
                ) => {
                    return Poll::Ready(Err(error.into()));
                }
                // A connection that failed before it was accepted, whatever the reason: accept(2),
                // "Error handling".
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost before it was accepted")
                }
            }
        }
    }

    fn admit(&self, socket: OwnedFd, peer: Address) -> io::Result<Stream> {
        // On Unix sockets a client has no name of its own, and its end is told by the listener's.
        let peer = if peer == Address::Unknown && matches!(self.local, Address::Unix(_)) {
            Address::Unix(UnixAddress::Unnamed)
        } else {
            peer
        };
        let socket = Watched::new(&self.handle(), socket, Interest::BOTH)?;
        Ok(Stream::new(
            socket.assume_ready(Readiness::READABLE | Readiness::WRITABLE),
            peer,
        ))
    }

    /// No file descriptors: accepts a connection with the spare one and closes it, or rests if that
    /// is not possible.
    fn turn_away(&self) {
        let spare = self.spare.borrow_mut().take();
        let had_spare = spare.is_some();
        drop(spare);
        let accepted =
            had_spare.then(|| net::accept_with(self.socket.object(), SocketFlags::CLOEXEC));
        let turned_away = matches!(accepted, Some(Ok(_)));
        drop(accepted);
        *self.spare.borrow_mut() = open_spare();
        if turned_away {
            tracing::warn!(address = %self.local, "out of file descriptors: a connection was turned away");
        } else {
            *self.rest.borrow_mut() = Some(self.handle().sleep(REST));
        }
    }

    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rest = self.rest.borrow_mut();
        if let Some(sleep) = rest.as_mut() {
            ready!(Pin::new(sleep).poll(cx));
            *rest = None;
            if self.spare.borrow().is_none() {
                *self.spare.borrow_mut() = open_spare();
            }
        }
        Poll::Ready(())
    }
}

/// File descriptors for which the kernel's table gets room at once, unless the process may have
/// fewer.
const ROOM: u64 = 16 * 1024;

/// Has the kernel make its table of file descriptors large now: it doubles it when it is full, and
/// for that waits, in a process with several threads, for all processors to have noticed
/// (`synchronize_rcu` in `expand_fdtable`). Five times 5 to 15 ms were seen on the way to 5,000
/// connections: late frames, all of them.
fn make_room(socket: &OwnedFd) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = limit.min(ROOM).saturating_sub(1);
    if let Ok(last) = i32::try_from(last) {
        // Where even that number is taken, the table is as large as it gets.
        drop(fcntl_dupfd_cloexec(socket, last));
    }
}

fn open_spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    /// Which address.
    pub address: Address,
    /// As the system says it.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, source } = self;
        write!(f, "cannot listen on {address}: ")?;
        let unix = matches!(address, Address::Unix(_));
        match source.kind() {
            io::ErrorKind::AddrInUse if unix => f.write_str(
                "another program listens there, or the file is no socket; choose another path, or remove the file",
            ),
            io::ErrorKind::AddrInUse => {
                f.write_str("another program listens there; choose another port, or port 0 for a free one")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str("this machine has no such address"),
            io::ErrorKind::PermissionDenied if !unix => f.write_str("not allowed; ports below 1024 need privileges"),
            _ => source.fmt(f),
        }
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use super::*;
    use crate::{Standalone, transport::tcp};

    #[test]
    fn the_kernels_table_of_descriptors_is_large_before_the_first_peer_comes() {
        let reactor = Standalone::new().expect("a reactor");
        let _listener =
            tcp::listen(&reactor.handle(), (Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("FDSize:"))
            .expect("a size");
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(
            size.trim().parse::<u64>().expect("a number") >= limit.min(ROOM),
            "{size} of {limit}"
        );
    }
}
