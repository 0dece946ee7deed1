//! Windows: sources are sockets.

use std::{
    io,
    path::PathBuf,
    sync::LazyLock,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::net::SocketAddrAny;

/// A source of readiness, borrowed: a socket on Windows, a file descriptor on Unix.
pub use std::os::windows::io::BorrowedSocket as Source;

/// What has a [`Source`]: anything with a socket on Windows, with a file descriptor on Unix.
pub use std::os::windows::io::AsSocket as AsSource;

/// The source that this has.
pub(crate) fn borrow<T: AsSource>(object: &T) -> Source<'_> {
    object.as_socket()
}

/// The monotonic clock in nanoseconds, from the first call on.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// The time that passes. The processor time of a thread is counted here in steps of 15 ms
/// (GetThreadTimes), which says nothing about a frame.
pub(crate) fn thread_time() -> Duration {
    Duration::from_nanos(monotonic_nanoseconds())
}

/// There are no signals.
pub(crate) fn take_no_signals() {}

/// Network interfaces have numbers here, which an address can have in it. Their names are not
/// looked up.
pub(crate) fn interface_number(_: &str) -> io::Result<u32> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "on Windows, use the number of the interface",
    ))
}

/// A path that another program has written as bytes. It is from another system, and for display.
pub(crate) fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Always `None`: there are no Unix sockets.
pub(crate) fn unix_name(_: &SocketAddrAny) -> Option<Vec<u8>> {
    None
}

/// Lets a thread that was told to end do so by itself. If its reactor goes with the thread-locals
/// of another one, it cannot end before that has ended: both need the lock of the loader ("Dynamic-
/// Link Library Best Practices").
pub(crate) fn leave(_: JoinHandle<()>) {}
