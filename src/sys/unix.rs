//! Unix: sources are file descriptors.

use std::{
    ffi::OsString,
    hash::{Hash, Hasher},
    io,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketAddrAny},
    time::{ClockId, Timespec, clock_gettime},
};

/// A source of readiness, borrowed: a file descriptor on Unix, a socket on Windows.
pub use std::os::fd::BorrowedFd as Source;

/// What has a [`Source`]: anything with a file descriptor on Unix, a socket on Windows.
pub use std::os::fd::AsFd as AsSource;

/// The source that this has.
pub(crate) fn borrow<T: AsSource>(object: &T) -> Source<'_> {
    object.as_fd()
}

/// The monotonic clock in nanoseconds (clock_gettime(2)). It starts near system boot, so it lasts
/// for 584 years.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    tv_sec as u64 * 1_000_000_000 + tv_nsec as u64
}

/// The processor time of this thread. A frame that waits for the display takes long but costs
/// little.
pub(crate) fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime)
        .try_into()
        .unwrap_or_default()
}

/// Leaves the process's signals to the threads of the program, for a thread that this crate starts.
/// A program that blocks a signal, to get it in another way (signalfd(2), sigwait(3)), cannot block
/// it in threads that it does not know; there it would have its default effect, and end the
/// program. GLib's own thread does the same.
pub(crate) fn take_no_signals() {
    use nix::sys::signal::{SigSet, Signal};
    let mut blocked = SigSet::all();
    // These are about what this thread does, or for profilers.
    for signal in [
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGPROF,
        Signal::SIGSEGV,
        Signal::SIGSYS,
        Signal::SIGTRAP,
        Signal::SIGVTALRM,
    ] {
        blocked.remove(signal);
    }
    // It cannot fail: pthread_sigmask(3).
    let _ = blocked.thread_block();
}

/// The number of a network interface: if_nametoindex(3).
pub(crate) fn interface_number(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// A path that another program has written as bytes.
pub(crate) fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

/// The name in the address of a Unix socket, as the kernel has written it: unix(7), "Address
/// format". `None` if it is an address of another family.
///
/// rustix cannot: a name of 108 bytes has no room for its NUL byte in a `sockaddr_un`, so the
/// kernel returns a length of one more than that has, and rustix panics. Any peer can have such
/// a name.
pub(crate) fn unix_name(address: &SocketAddrAny) -> Option<Vec<u8>> {
    if address.address_family() != AddressFamily::UNIX {
        return None;
    }
    // rustix shows the bytes to a hasher only.
    let mut bytes = Bytes::default();
    address.hash(&mut bytes);
    let Bytes(mut name) = bytes;
    name.drain(..name.len().min(size_of::<u16>()));
    Some(name)
}

/// Collects the bytes of a socket's address.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The length of the slice that follows.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        0
    }
}

/// Waits for the end of a thread that was told to end. What it panicked with was printed.
pub(crate) fn leave(thread: JoinHandle<()>) {
    let _ = thread.join();
}
