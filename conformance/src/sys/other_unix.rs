//! macOS and FreeBSD.

use std::{
    fs::File,
    iter,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use entwined::{
    Handle,
    transport::{ConnectError, ListenError, Listener, Stream, UnixAddress, unix},
};
use rustix::{
    event::PollFlags,
    net::{SendFlags, SocketAddrUnix},
    process::{Resource, getrlimit},
};

/// Nothing is known to be lacking here.
pub(super) fn lacks() -> impl Iterator<Item = (&'static str, &'static str)> {
    iter::empty()
}

/// Returns the number of open file descriptors of this process.
pub(crate) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(65_536);
    let limit = i32::try_from(limit).unwrap_or(65_536).min(65_536);
    // A number without a file descriptor is an error.
    let is_open = |number: &i32| std::fs::metadata(format!("/dev/fd/{number}")).is_ok();
    (0..limit).filter(is_open).count()
}

/// The resident memory of this process is not looked up.
pub(crate) fn resident() -> u64 {
    0
}

/// How often this thread has woken up is not looked up.
pub(crate) fn wake_ups() -> Option<u64> {
    None
}

/// The signals that the process catches are not looked up.
pub(crate) fn caught_signals() -> Option<String> {
    None
}

/// What poll(2) reports when the other side has closed.
pub(super) const CLOSED: PollFlags = PollFlags::HUP;

/// The standard library's sockets have `SO_NOSIGPIPE`; Rust programs ignore the signal.
pub(crate) const SEND: SendFlags = SendFlags::empty();

/// Makes a pipe. The system lets it grow.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let (output, input) = std::io::pipe().expect("a pipe");
    (output.into(), input.into())
}

/// Opens a directory.
pub(crate) fn file_that_cannot_be_read() -> File {
    File::open("/").expect("it exists")
}

/// A free name for a Unix socket: a path.
#[derive(Clone)]
pub(crate) struct UnixName(PathBuf);

impl UnixName {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("entwined-{}-{count}", std::process::id());
        UnixName(std::env::temp_dir().join(name))
    }

    pub(crate) fn listen(&self, handle: &Handle) -> Result<Listener, ListenError> {
        unix::listen(handle, &self.0)
    }

    pub(crate) async fn connect(&self, handle: &Handle) -> Result<Stream, ConnectError> {
        unix::connect(handle, &self.0).await
    }

    pub(crate) fn dial(&self) -> UnixStream {
        UnixStream::connect(&self.0).expect("a connection")
    }

    /// Whether a message names it.
    pub(crate) fn is_named_in(&self, text: &str) -> bool {
        text.contains(&*self.0.to_string_lossy())
    }
}

/// The system's form of an address that a [`UnixName`] listens at.
pub(crate) fn unix_address(address: &UnixAddress) -> Option<SocketAddrUnix> {
    match address {
        UnixAddress::Path(path) => SocketAddrUnix::new(path).ok(),
        _ => None,
    }
}
