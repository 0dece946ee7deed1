//! Unix sockets: unix(7).
//!
//! # Socket files
//!
//! Listening at a path creates a socket file there. It is removed with the socket, if it is still
//! the same file. A program that crashes leaves its file behind. The next program that listens
//! there finds that nobody answers, and replaces the file. If somebody answers, or the file is not
//! a socket, the path is left alone and the error is [`AddrInUse`](io::ErrorKind::AddrInUse). Of
//! several programs that find the same stale file, one replaces it: meanwhile it has a lock on the
//! folder (flock(2)). A path cannot be empty. A relative one means the directory that the program
//! is in at that moment, also if it changes its directory before the file is removed.
//!
//! Only the user that the program runs as can connect: the file has the mode 0600, whatever the
//! umask is, from the moment it exists. To let others connect, change it with
//! [`std::fs::set_permissions`]; they also need access to its directory.
//!
//! Abstract names (Linux) have no file and disappear with their socket.

use std::{
    fs::{File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
        },
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
    net::{self, AddressFamily, SocketAddrUnix, SocketType},
};

use super::{
    Address, ConnectError, DatagramSocket, ListenError, Listener, Stream, UnixAddress,
    listener::BACKLOG, socket, socket_file::SocketFile, sys,
};
use crate::reactor::{Handle, Interest, Readiness, Registration};

/// Connects to the socket at `path`.
///
/// # Errors
/// [`ConnectError`]: `Unreachable` if the path does not exist, `Refused` if nobody listens on the
/// socket file.
pub async fn connect(handle: &Handle, path: impl AsRef<Path>) -> Result<Stream, ConnectError> {
    connect_to(handle, UnixAddress::Path(path.as_ref().to_owned())).await
}

/// Connects to the socket with this abstract name (without the leading zero byte).
///
/// # Errors
/// [`ConnectError`]: `Refused` if no socket has this name.
pub async fn connect_abstract(
    handle: &Handle,
    name: impl AsRef<[u8]>,
) -> Result<Stream, ConnectError> {
    connect_to(handle, UnixAddress::Abstract(name.as_ref().to_owned())).await
}

/// How long the backlog of a listener may be full. The kernel sets no limit, as it does for TCP.
pub(crate) const BACKLOG_TIME: Duration = Duration::from_secs(30);

async fn connect_to(handle: &Handle, address: UnixAddress) -> Result<Stream, ConnectError> {
    connect_within(handle, address, BACKLOG_TIME).await
}

/// Connects, with another limit for a listener whose backlog is full.
pub(crate) async fn connect_within(
    handle: &Handle,
    address: UnixAddress,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let (target, address) = (name(&address), Address::Unix(address));
    let target = match target {
        Ok(target) => target,
        Err(source) => return Err(ConnectError::Other { address, source }),
    };
    let family = AddressFamily::UNIX;
    let attempt = socket::connect(handle, family, &target, address.clone(), |_| Ok(()));
    handle.timeout(limit, attempt).await.unwrap_or_else(|_| {
        let message = "it accepts no connections, and its backlog is full";
        let source = io::Error::new(io::ErrorKind::TimedOut, message);
        Err(ConnectError::TimedOut { address, source })
    })
}

/// Listens on a socket at `path`. See [the module](self) about the socket file, and about who can
/// connect.
///
/// # Errors
/// [`ListenError`]. A path that is empty or has more than 107 bytes is also an error.
pub fn listen(handle: &Handle, path: impl AsRef<Path>) -> Result<Listener, ListenError> {
    listen_on(handle, UnixAddress::Path(path.as_ref().to_owned()))
}

/// Listens on a socket with this abstract name (without the leading zero byte). Every user of the
/// system can connect to it; check the [credentials](Stream::peer_credentials).
///
/// # Errors
/// [`ListenError`]. A name that is empty or has more than 107 bytes is also an error.
pub fn listen_abstract(handle: &Handle, name: impl AsRef<[u8]>) -> Result<Listener, ListenError> {
    listen_on(handle, UnixAddress::Abstract(name.as_ref().to_owned()))
}

fn listen_on(handle: &Handle, address: UnixAddress) -> Result<Listener, ListenError> {
    let open = || {
        let socket = sys::socket(AddressFamily::UNIX, SocketType::STREAM)?;
        let lock = FolderLock::take(&address);
        let file = bind(&socket, &address, &lock)?;
        net::listen(&socket, BACKLOG)?;
        Ok(Listener::new(handle, socket)?.with_file(file))
    };
    open().map_err(|source| ListenError {
        address: Address::Unix(address),
        source,
    })
}

/// Creates a datagram socket with this name. A socket without a name can send, but nobody can reply
/// to it.
///
/// # Errors
/// [`ListenError`]. A name that is empty or has more than 107 bytes is also an error.
pub fn datagram(handle: &Handle, address: &UnixAddress) -> Result<DatagramSocket, ListenError> {
    let open = || {
        let socket = DatagramSocket::open(AddressFamily::UNIX)?;
        let file = if *address == UnixAddress::Unnamed {
            None
        } else {
            bind(&socket, address, &FolderLock::take(address))?
        };
        Ok(DatagramSocket::new(handle, socket, AddressFamily::UNIX)?.with_file(file))
    };
    open().map_err(|source| ListenError {
        address: Address::Unix(address.clone()),
        source,
    })
}

/// Creates two datagram sockets that are connected to each other.
///
/// # Errors
/// Fails if there are no file descriptors left.
pub fn datagram_pair(handle: &Handle) -> io::Result<(DatagramSocket, DatagramSocket)> {
    let (a, b) = sys::pair(SocketType::DGRAM)?;
    let socket = |socket| DatagramSocket::new(handle, socket, AddressFamily::UNIX);
    Ok((socket(a)?, socket(b)?))
}

/// Creates two streams that are connected to each other.
///
/// # Errors
/// Fails if there are no file descriptors left.
pub fn pair(handle: &Handle) -> io::Result<(Stream, Stream)> {
    let (a, b) = sys::pair(SocketType::STREAM)?;
    let stream = |socket| -> io::Result<Stream> {
        let socket =
            Registration::new(handle, socket, Interest::BOTH)?.assume_ready(Readiness::WRITABLE);
        Ok(Stream::new(socket, Address::Unix(UnixAddress::Unnamed)))
    };
    Ok((stream(a)?, stream(b)?))
}

fn name(address: &UnixAddress) -> io::Result<SocketAddrUnix> {
    let name = match address {
        UnixAddress::Unnamed => &[],
        UnixAddress::Path(path) => path.as_os_str().as_bytes(),
        UnixAddress::Abstract(name) => &name[..],
    };
    let wrong = if name.is_empty() {
        // The kernel takes it for the abstract name of no bytes, which anybody may have.
        "the name of a Unix socket cannot be empty"
    } else if name.len() > 107 {
        "the name of a Unix socket can have at most 107 bytes"
    } else if matches!(address, UnixAddress::Path(_)) && name.contains(&0) {
        "a path cannot contain a NUL byte"
    } else {
        // Elsewhere than on Linux there are no abstract names.
        return sys::name(address).ok_or_else(|| io::ErrorKind::Unsupported.into());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
}

/// Binds a socket to its name, replacing a stale socket file.
fn bind(
    socket: &OwnedFd,
    address: &UnixAddress,
    lock: &FolderLock,
) -> io::Result<Option<SocketFile>> {
    let target = name(address)?;
    let UnixAddress::Path(path) = address else {
        net::bind(socket, &target)?;
        return Ok(None);
    };
    // The kernel gives the file the mode of the socket, less the umask, so nobody can come before.
    let owners = || Permissions::from_mode(OWNERS);
    let _ = File::from(socket.try_clone()?).set_permissions(owners());
    match net::bind(socket, &target) {
        Err(Errno::ADDRINUSE)
            if lock.is_ours && is_dead(path, &target, net::sockopt::socket_type(socket)?) =>
        {
            tracing::info!(path = %path.display(), "replacing a stale socket file");
            std::fs::remove_file(path)?;
            net::bind(socket, &target)?;
        }
        result => result?,
    }
    let file = SocketFile::of(path);
    // Kernels other than Linux may not.
    if std::fs::symlink_metadata(path)?.mode() & 0o777 != OWNERS {
        std::fs::set_permissions(path, owners())?;
    }
    Ok(file)
}

/// Lets programs make socket files in a folder one after another, from bind(2) to listen(2): in
/// between, a socket looks like a dead one. It is a lock on the folder (flock(2)), so nothing is
/// left behind.
struct FolderLock {
    _folder: Option<OwnedFd>,
    /// Whether a dead socket may be replaced: no other program is about to.
    is_ours: bool,
}

impl FolderLock {
    fn take(address: &UnixAddress) -> Self {
        let folder = match address {
            UnixAddress::Path(path) => folder_of(path),
            _ => None,
        };
        let mut is_ours = true;
        for _ in 0..LOCK_TRIES {
            let exclusive = FlockOperation::NonBlockingLockExclusive;
            // A folder that may not be read, or a file system without locks, is not locked.
            is_ours = !folder
                .as_ref()
                .is_some_and(|folder| flock(folder, exclusive) == Err(Errno::WOULDBLOCK));
            if is_ours {
                break;
            }
            thread::sleep(LOCK_PAUSE);
        }
        FolderLock {
            _folder: folder,
            is_ours,
        }
    }
}

/// How often the lock of a folder is asked for, and how long it is left to the others each time.
/// They have it for some system calls.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

fn folder_of(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()
}

/// The mode of a socket file: the owner may connect.
const OWNERS: u32 = 0o600;

/// Whether the file at a path is a socket that nobody listens on.
fn is_dead(path: &Path, target: &SocketAddrUnix, kind: SocketType) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && sys::socket(AddressFamily::UNIX, kind)
            .is_ok_and(|probe| net::connect(probe, target) == Err(Errno::CONNREFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Standalone, reactor::RunError};

    #[test]
    fn a_listener_that_accepts_nothing_is_not_waited_for_without_end() {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let listener = sys::socket(AddressFamily::UNIX, SocketType::STREAM).expect("a socket");
        let path = std::env::temp_dir().join(format!("full-{}.sock", std::process::id()));
        let address = UnixAddress::Path(path.clone());
        let _file = bind(&listener, &address, &FolderLock::take(&address)).expect("a socket file");
        net::listen(&listener, 0).expect("it listens");
        let result = reactor.block_on(async move {
            let mut accepted = Vec::new();
            loop {
                let limit = Duration::from_millis(20);
                match connect_within(&handle, address.clone(), limit).await {
                    Ok(stream) if accepted.len() < 8 => accepted.push(stream),
                    Ok(_) => panic!("the backlog is never full"),
                    Err(error) => return Ok::<_, RunError>(error),
                }
            }
        });
        let error = result.expect("an error");
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
        let _ = std::fs::remove_file(path);
    }
}
