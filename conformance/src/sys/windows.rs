//! Windows. The only file with `unsafe`.

use std::{
    hint, mem,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::windows::io::{AsRawHandle, AsRawSocket, AsSocket, FromRawHandle, OwnedHandle},
    thread,
    time::{Duration, Instant},
};

use entwined::process::Command;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use windows_sys::Win32::{
    Foundation::{FILETIME, WAIT_TIMEOUT},
    System::{
        LibraryLoader::{GetModuleHandleA, GetProcAddress},
        ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS},
        Threading::{
            GetCurrentProcess, GetCurrentThread, GetThreadTimes, OpenProcess, PROCESS_SYNCHRONIZE,
            WaitForSingleObject,
        },
    },
};

/// Returns a command whose program does nothing but wait, for a quarter of an hour.
pub(crate) fn long_program() -> Command {
    Command::new("ping").args(["-n", "1000", "127.0.0.1"])
}

/// Whether a process of this number runs.
pub(crate) fn is_process(id: u32) -> bool {
    // SAFETY: the call takes numbers. Without such a process it returns null.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, id) };
    if process.is_null() {
        return false;
    }
    // SAFETY: the handle is new, and nothing else owns it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    // SAFETY: the handle is that of a process, which may be waited for.
    unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_TIMEOUT }
}

/// One of two connected sockets.
pub(crate) use std::net::TcpStream as Socket;

/// Makes two connected sockets.
pub(crate) fn pair() -> (Socket, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let ours = Socket::connect(address).expect("a connection");
    let (theirs, _) = listener.accept().expect("a connection");
    for socket in [&ours, &theirs] {
        socket.set_nodelay(true).expect("an option");
    }
    (ours, theirs)
}

/// The number that the system knows a socket by.
pub(crate) fn number(socket: &Socket) -> u64 {
    socket.as_raw_socket()
}

/// The processor time that this thread has used so far.
pub(crate) fn processor_time() -> Duration {
    let zero = FILETIME {
        dwLowDateTime: 0,
        dwHighDateTime: 0,
    };
    let (mut made, mut ended, mut kernel, mut user) = (zero, zero, zero, zero);
    // SAFETY: the handle is that of this thread, and all four are there to be written to.
    let known = unsafe {
        GetThreadTimes(
            GetCurrentThread(),
            &mut made,
            &mut ended,
            &mut kernel,
            &mut user,
        )
    };
    assert!(known != 0, "a thread knows its time");
    let steps =
        |time: FILETIME| (u64::from(time.dwHighDateTime) << 32) | u64::from(time.dwLowDateTime);
    Duration::from_nanos((steps(kernel) + steps(user)) * 100)
}

/// How often a thread has woken up is not counted.
pub(crate) fn wake_ups() -> Option<u64> {
    None
}

/// Tests by the beginnings of their names, with the reason why they cannot be passed.
pub(super) fn lacks() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_wine = if is_wine() { OF_WINE } else { &[] };
    OF_WINDOWS.iter().chain(of_wine).copied()
}

const OF_WINDOWS: &[(&str, &str)] = &[(
    "b43_out_of_fds_nobody_hangs_nothing_spins_and_accepting_goes_on",
    "handles do not run out before memory does",
)];

/// What Wine 8 does, and Windows does not.
const OF_WINE: &[(&str, &str)] = &[
    (
        "b44_a_reset_is_an_error_with_its_kind",
        "Wine ends a connection before it resets it, so the peer sees an end",
    ),
    (
        "b55_with_64_busy_connections_the_host_draws_60_frames_a_second",
        "Wine's server spins while a polled socket has bytes that are not read: with 60 of them, \
         a bare mio loop has a tenth of its speed",
    ),
];

/// Whether this Windows is Wine: its ntdll.dll says so.
fn is_wine() -> bool {
    // SAFETY: both names end with a NUL byte, and each process has the library for as long as it
    // runs. The function is not called.
    let function = unsafe {
        GetProcAddress(
            GetModuleHandleA(c"ntdll.dll".as_ptr().cast()),
            c"wine_get_version".as_ptr().cast(),
        )
    };
    function.is_some()
}

/// Returns a number that grows with the open handles of this process: the system gives a new
/// handle the lowest number that is free. (Wine does not count them.)
pub(crate) fn open_files() -> usize {
    let sockets: Vec<_> = (0..64)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"))
        .collect();
    let numbers = sockets.iter().map(|socket| socket.as_raw_socket() / 4);
    numbers.max().expect("some") as usize
}

/// By how much that number may differ if nothing was left behind.
pub(crate) const OPEN_FILES_DIFFER: usize = 64;

/// Returns the resident memory of this process, in KiB.
pub(crate) fn resident() -> u64 {
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: all zeros are a value of it.
    let mut counters: PROCESS_MEMORY_COUNTERS = unsafe { mem::zeroed() };
    // SAFETY: the handle is that of this process, and the size is the structure's.
    let known = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &mut counters, size) };
    assert!(known != 0, "a process knows its memory");
    counters.WorkingSetSize as u64 / 1024
}

/// Blocks the thread. The system sleeps for a millisecond or longer, so it spins if that is too
/// long.
pub(crate) fn hold(time: Duration) {
    if time >= Duration::from_millis(2) {
        return thread::sleep(time);
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        hint::spin_loop();
    }
}

/// Waits, without reading, until the other side has closed the connection.
pub(crate) fn wait_for_end(socket: impl AsSocket, limit: Duration) {
    wait_for(
        &socket,
        PollFlags::HUP | PollFlags::ERR,
        PollFlags::empty(),
        limit,
    );
}

/// Looks every few milliseconds: WSAPoll does not wait for an end alone.
fn wait_for(socket: &impl AsSocket, what: PollFlags, asked: PollFlags, limit: Duration) {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let mut polled = [PollFd::new(socket, asked)];
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut polled, Some(&zero)).expect("WSAPoll");
        if polled[0].revents().intersects(what) {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("nothing arrived within {limit:?}");
}
