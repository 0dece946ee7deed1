//! Listening sockets of every family.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{self, SocketType, sockopt},
};

use super::{
    Address, Stream, UnixAddress,
    sys::{self, SocketFile, Spare},
};
use crate::{
    reactor::{Direction, Handle, Interest, Readiness, Registration},
    report,
    task::Sleep,
};

/// Length of the backlog: connections that the kernel completes before they are accepted. The
/// kernel may enforce a lower limit (net.core.somaxconn).
pub(super) const BACKLOG: i32 = 1024;

/// How long to pause accepting when peers cannot even be turned away.
const REST: Duration = Duration::from_millis(100);

/// How many connections in a row may fail before they are accepted, until accepting pauses.
const MOST_FAILURES: u32 = 64;

/// A socket that accepts connections. Dropping it stops that, and the kernel refuses the
/// connections still in the backlog.
///
/// When the process runs out of file descriptors, peers are not left hanging. For each of them the
/// listener gives up a spare fd, accepts the connection, closes it, and takes the spare back.
/// Accepting resumes on its own as soon as fds are available again.
#[derive(Debug)]
pub struct Listener {
    /// A socket file to remove on drop. Declared first: as long as the socket is there, no other
    /// file has its number.
    _file: Option<SocketFile>,
    pub(super) socket: Registration<OwnedFd>,
    local: Address,
    /// The spare fd that is given up to turn a peer away.
    spare: RefCell<Option<Spare>>,
    /// Present while accepting is paused.
    rest: RefCell<Option<Sleep>>,
    /// How many connections in a row could not be accepted.
    failures: Cell<u32>,
}

impl Listener {
    pub(super) fn new(handle: &Handle, socket: OwnedFd) -> io::Result<Self> {
        let local = net::getsockname(&socket)?.into();
        sys::make_room(&socket);
        let socket = Registration::new(handle, socket, Interest::READABLE)?;
        Ok(Listener {
            socket,
            local,
            spare: RefCell::new(Spare::open()),
            rest: RefCell::default(),
            failures: Cell::new(0),
            _file: None,
        })
    }

    /// Wraps a socket that is already bound and listening: inherited, or created elsewhere. It
    /// becomes non-blocking for every process that shares it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if this is not a listening stream socket.
    pub fn from_fd(handle: &Handle, socket: OwnedFd) -> io::Result<Self> {
        let listens =
            sockopt::socket_type(&socket)? == SocketType::STREAM && sys::is_listening(&socket)?;
        if !listens {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket does not listen for connections",
            ));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        sys::pass_fds(&socket, false);
        // Accepted sockets inherit this too.
        sys::close_at_once(&socket);
        // Accepted sockets inherit this option. Unix sockets do not have it.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        Listener::new(handle, socket)
    }

    #[cfg_attr(windows, expect(dead_code, reason = "no socket has a file there"))]
    pub(super) fn with_file(mut self, file: Option<SocketFile>) -> Self {
        self._file = file;
        self
    }

    /// The address that it listens on. For port 0, this has the port that the system chose.
    pub fn local_address(&self) -> &Address {
        &self.local
    }

    /// The handle of the listener's reactor.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// Waits for the next connection. Only one task may wait at a time.
    ///
    /// # Errors
    /// Only errors after which the listener cannot continue. A connection that was lost before it
    /// was accepted (`ECONNABORTED`) and a lack of file descriptors are not among them.
    pub async fn accept(&self) -> io::Result<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The poll function behind [`accept`](Listener::accept), for hand-written futures.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            ready!(self.poll_rest(cx));
            let accepted = ready!(self.socket.poll_io(cx, Direction::Read, |socket| {
                // The errno is handled below; only these two are for poll_io.
                match sys::accept(socket) {
                    Err(error @ (Errno::AGAIN | Errno::INTR)) => Err(error.into()),
                    other => Ok(other),
                }
            }))?;
            match accepted {
                Ok((socket, peer)) => {
                    self.failures.set(0);
                    match self.admit(socket, peer.map_or(Address::Unknown, Address::from)) {
                        Ok(stream) => return Poll::Ready(Ok(stream)),
                        Err(error) => {
                            tracing::warn!(%error, "a connection cannot be watched and was closed")
                        }
                    }
                }
                Err(errno) if sys::is_exhausted(errno) => self.turn_away(),
                Err(
                    error @ (Errno::BADF
                    | Errno::INVAL
                    | Errno::NOTSOCK
                    | Errno::FAULT
                    | Errno::OPNOTSUPP),
                ) => {
                    return Poll::Ready(Err(error.into()));
                }
                // The connection failed before it was accepted, for whatever reason: accept(2),
                // "Error handling".
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost before it was accepted");
                    self.failed();
                }
            }
        }
    }

    fn admit(&self, socket: OwnedFd, peer: Address) -> io::Result<Stream> {
        // On Unix sockets a client usually has no name, and the listener's address tells the
        // family.
        let peer = if peer == Address::Unknown && matches!(self.local, Address::Unix(_)) {
            Address::Unix(UnixAddress::Unnamed)
        } else {
            peer
        };
        let socket = Registration::new(&self.handle(), socket, Interest::BOTH)?;
        Ok(Stream::new(
            socket.assume_ready(Readiness::READABLE | Readiness::WRITABLE),
            peer,
        ))
    }

    /// If none can be accepted, because a sandbox or a security module does not let this program
    /// (EACCES) and leaves the connection where it is, asking again at once would ask for ever.
    fn failed(&self) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures % MOST_FAILURES);
        if failures == MOST_FAILURES {
            tracing::warn!(address = %self.local, "no connection can be accepted; it rests");
            *self.rest.borrow_mut() = Some(self.handle().sleep(REST));
        }
    }

    /// Out of file descriptors: accepts a connection with the spare fd and closes it, or pauses
    /// accepting if that fails.
    fn turn_away(&self) {
        let spare = self.spare.borrow_mut().take();
        let had_spare = spare.is_some();
        drop(spare);
        let accepted = had_spare.then(|| sys::accept(self.socket.object()));
        let turned_away = matches!(accepted, Some(Ok(_)));
        drop(accepted);
        *self.spare.borrow_mut() = Spare::open();
        if turned_away {
            tracing::warn!(
                address = %self.local,
                "out of file descriptors: a connection was turned away"
            );
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
                *self.spare.borrow_mut() = Spare::open();
            }
        }
        Poll::Ready(())
    }
}

/// Why listening on an address failed. `Debug` prints the same text as `Display`, and the causes.
#[non_exhaustive]
pub struct ListenError {
    /// The address; [`Unknown`](Address::Unknown) if the text given is not one.
    pub address: Address,
    /// The system's error.
    pub source: io::Error,
}

impl ListenError {
    /// The text given is not an address.
    pub(super) fn no_address(source: io::Error) -> Self {
        ListenError {
            address: Address::Unknown,
            source,
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, source } = self;
        if *address == Address::Unknown {
            return write!(f, "cannot listen: {source}");
        }
        write!(f, "cannot listen on {address}: ")?;
        let unix = matches!(address, Address::Unix(_));
        match source.kind() {
            io::ErrorKind::AddrInUse if unix => f.write_str(
                "another program listens there, or the file is not a socket; choose another path, \
                 or remove the file",
            ),
            io::ErrorKind::AddrInUse => f.write_str(
                "another program listens there; choose another port, or port 0 for a free one",
            ),
            io::ErrorKind::AddrNotAvailable => f.write_str("this machine has no such address"),
            io::ErrorKind::PermissionDenied if !unix => {
                f.write_str("not allowed; ports below 1024 need privileges")
            }
            _ => source.fmt(f),
        }
    }
}

impl fmt::Debug for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(self, f)
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
