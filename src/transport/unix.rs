//! Unix sockets: unix(7).
//!
//! # Socket files
//!
//! A socket that listens at a path makes a file there, which is removed with it, if it is still the
//! same. A program that dies leaves its file behind; the next one to listen there finds that nobody
//! answers, and takes the path over. A path where somebody answers, or where there is something
//! else than a socket, is left alone: that is [`AddrInUse`](io::ErrorKind::AddrInUse). (Two
//! programs that find the same dead file at the same instant may both take it over, and the later
//! one has it.)
//!
//! Abstract names (Linux) have no file and go with their socket.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{
    Address, ConnectError, DatagramSocket, ListenError, Listener, Stream, UnixAddress,
    listener::BACKLOG, socket,
};
use crate::reactor::{Handle, Interest, Readiness, Watched};

/// Connects to the socket at `path`.
///
/// # Errors
/// [`ConnectError`]; a path that does not exist is `Unreachable`, a socket file without a listener
/// `Refused`.
pub async fn connect(handle: &Handle, path: impl AsRef<Path>) -> Result<Stream, ConnectError> {
    connect_to(handle, UnixAddress::Path(path.as_ref().to_owned())).await
}

/// Connects to the socket with this abstract name (without the leading zero byte).
///
/// # Errors
/// [`ConnectError`]; a name that nobody has is `Refused`.
pub async fn connect_abstract(
    handle: &Handle,
    name: impl AsRef<[u8]>,
) -> Result<Stream, ConnectError> {
    connect_to(handle, UnixAddress::Abstract(name.as_ref().to_owned())).await
}

async fn connect_to(handle: &Handle, address: UnixAddress) -> Result<Stream, ConnectError> {
    match name(&address) {
        Ok(target) => {
            socket::connect(
                handle,
                AddressFamily::UNIX,
                &target,
                Address::Unix(address),
                |_| Ok(()),
            )
            .await
        }
        Err(source) => Err(ConnectError::Other {
            address: Address::Unix(address),
            source,
        }),
    }
}

/// Listens on a socket at `path`; see [the module](self) for its file.
///
/// # Errors
/// [`ListenError`], also for a path of more than 107 bytes.
pub fn listen(handle: &Handle, path: impl AsRef<Path>) -> Result<Listener, ListenError> {
    listen_on(handle, UnixAddress::Path(path.as_ref().to_owned()))
}

/// Listens on a socket with this abstract name (without the leading zero byte). Every user of the
/// system can connect to it; ask for the [credentials](Stream::peer_credentials).
///
/// # Errors
/// [`ListenError`], also for a name of more than 107 bytes.
pub fn listen_abstract(handle: &Handle, name: impl AsRef<[u8]>) -> Result<Listener, ListenError> {
    listen_on(handle, UnixAddress::Abstract(name.as_ref().to_owned()))
}

fn listen_on(handle: &Handle, address: UnixAddress) -> Result<Listener, ListenError> {
    let open = || {
        let socket = socket::new(AddressFamily::UNIX)?;
        let file = bind(&socket, &address)?;
        net::listen(&socket, BACKLOG)?;
        Ok(Listener::new(handle, socket)?.with_file(file))
    };
    open().map_err(|source| ListenError {
        address: Address::Unix(address),
        source,
    })
}

/// A socket for datagrams with this name. Without a name it can send, and nobody can answer.
///
/// # Errors
/// [`ListenError`], also for a name of more than 107 bytes.
pub fn datagram(handle: &Handle, address: &UnixAddress) -> Result<DatagramSocket, ListenError> {
    let open = || {
        let socket = DatagramSocket::open(AddressFamily::UNIX)?;
        let file = if *address == UnixAddress::Unnamed {
            None
        } else {
            bind(&socket, address)?
        };
        Ok(DatagramSocket::new(handle, socket, AddressFamily::UNIX)?.with_file(file))
    };
    open().map_err(|source| ListenError {
        address: Address::Unix(address.clone()),
        source,
    })
}

/// Two sockets for datagrams that are connected to each other.
///
/// # Errors
/// When there are no file descriptors left.
pub fn datagram_pair(handle: &Handle) -> io::Result<(DatagramSocket, DatagramSocket)> {
    let (a, b) = open_pair(SocketType::DGRAM)?;
    let socket = |socket| DatagramSocket::new(handle, socket, AddressFamily::UNIX);
    Ok((socket(a)?, socket(b)?))
}

/// Two streams that are connected to each other.
///
/// # Errors
/// When there are no file descriptors left.
pub fn pair(handle: &Handle) -> io::Result<(Stream, Stream)> {
    let (a, b) = open_pair(SocketType::STREAM)?;
    let stream = |socket| -> io::Result<Stream> {
        let socket =
            Watched::new(handle, socket, Interest::BOTH)?.assume_ready(Readiness::WRITABLE);
        Ok(Stream::new(socket, Address::Unix(UnixAddress::Unnamed)))
    };
    Ok((stream(a)?, stream(b)?))
}

fn open_pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(net::socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

fn name(address: &UnixAddress) -> io::Result<SocketAddrUnix> {
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a name of a Unix socket has 107 bytes at most",
        )
    };
    address.to_socket_address().ok_or_else(wrong)
}

/// Gives a socket its name, and takes the file of one that is dead.
fn bind(socket: &OwnedFd, address: &UnixAddress) -> io::Result<Option<SocketFile>> {
    let target = name(address)?;
    let UnixAddress::Path(path) = address else {
        net::bind(socket, &target)?;
        return Ok(None);
    };
    match net::bind(socket, &target) {
        Err(Errno::ADDRINUSE) if is_dead(path, &target, net::sockopt::socket_type(socket)?) => {
            tracing::info!(path = %path.display(), "the socket of a program that has died is taken over");
            std::fs::remove_file(path)?;
            net::bind(socket, &target)?;
        }
        result => result?,
    }
    Ok(SocketFile::of(path))
}

/// Whether there is a socket's file at a path, and nobody who listens.
fn is_dead(path: &Path, target: &SocketAddrUnix, kind: SocketType) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    is_socket
        && net::socket_with(AddressFamily::UNIX, kind, flags, None)
            .is_ok_and(|probe| net::connect(probe, target) == Err(Errno::CONNREFUSED))
}

/// The file of a socket, removed on drop if it is still that one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Option<Self> {
        Some(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Somebody may be faster; then there is nothing to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What tells a file from another that has its name later.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
