//! Linux: proc(5), and names of Unix sockets that are no files.

use std::{
    fs::{File, OpenOptions},
    iter,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::OpenOptionsExt,
            net::{SocketAddr, UnixStream},
        },
    },
    sync::atomic::{AtomicU64, Ordering},
};

use entwined::{
    Handle,
    transport::{ConnectError, ListenError, Listener, Stream, UnixAddress, unix},
};
use rustix::{
    event::PollFlags,
    fs::OFlags,
    net::{SendFlags, SocketAddrUnix},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};

/// Nothing is lacking here.
pub(super) fn lacks() -> impl Iterator<Item = (&'static str, &'static str)> {
    iter::empty()
}

/// Returns the number of open file descriptors of this process.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc(5)").count()
}

/// Returns the resident memory of this process, in KiB.
pub(crate) fn resident() -> u64 {
    let size = line_of("/proc/self/status", "VmRSS:");
    size.trim_end_matches(" kB").parse().expect("a number")
}

/// How often this thread has gone to sleep and woken up.
pub(crate) fn wake_ups() -> Option<u64> {
    let count = line_of("/proc/thread-self/status", "voluntary_ctxt_switches:");
    Some(count.parse().expect("a number"))
}

/// The signals that the process catches, as the kernel reports them.
pub(crate) fn caught_signals() -> Option<String> {
    Some(line_of("/proc/self/status", "SigCgt:"))
}

fn line_of(file: &str, field: &str) -> String {
    let text = std::fs::read_to_string(file).expect("proc(5)");
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    value.expect("a field").trim().to_owned()
}

/// What poll(2) reports when the other side has closed, also only its half, if it is asked to.
pub(super) const CLOSED: PollFlags = PollFlags::RDHUP;

/// No signal for a write that nobody reads.
pub(crate) const SEND: SendFlags = SendFlags::NOSIGNAL;

/// Makes a pipe that holds more than one receive takes.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let (output, input) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    fcntl_setpipe_size(&input, 256 * 1024).expect("room: pipe(7)");
    (output, input)
}

/// Opens a file with `O_PATH`: every operation on it returns `EBADF`.
pub(crate) fn file_that_cannot_be_read() -> File {
    let flags = OFlags::PATH.bits() as i32;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/null")
        .expect("it exists")
}

/// A free name for a Unix socket, in the abstract namespace: unix(7).
#[derive(Clone)]
pub(crate) struct UnixName(String);

impl UnixName {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        UnixName(format!("entwined-{}-{count}", std::process::id()))
    }

    pub(crate) fn listen(&self, handle: &Handle) -> Result<Listener, ListenError> {
        unix::listen_abstract(handle, &self.0)
    }

    pub(crate) async fn connect(&self, handle: &Handle) -> Result<Stream, ConnectError> {
        unix::connect_abstract(handle, &self.0).await
    }

    pub(crate) fn dial(&self) -> UnixStream {
        let address = SocketAddr::from_abstract_name(&self.0).expect("an address");
        UnixStream::connect_addr(&address).expect("a connection")
    }

    /// Whether a message names it.
    pub(crate) fn is_named_in(&self, text: &str) -> bool {
        text.contains(&self.0)
    }
}

/// The system's form of an address that a [`UnixName`] listens at.
pub(crate) fn unix_address(address: &UnixAddress) -> Option<SocketAddrUnix> {
    match address {
        UnixAddress::Abstract(name) => SocketAddrUnix::new_abstract_name(name).ok(),
        _ => None,
    }
}
