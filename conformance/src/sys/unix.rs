//! Unix.

use std::{
    os::fd::{AsFd, AsRawFd},
    thread,
    time::Duration,
};

use entwined::process::Command;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, test_kill_process},
    time::{ClockId, clock_gettime},
};

/// Returns a command whose program does nothing for a quarter of an hour.
pub(crate) fn long_program() -> Command {
    Command::new("sleep").arg("1000")
}

/// Whether there is a process of this number, also if it has ended and was not reaped.
pub(crate) fn is_process(id: u32) -> bool {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    test_kill_process(id.expect("a number")).is_ok()
}

/// One of two connected sockets.
pub(crate) use std::os::unix::net::UnixStream as Socket;

/// Makes two connected sockets.
pub(crate) fn pair() -> (Socket, Socket) {
    Socket::pair().expect("two sockets")
}

/// The number that the system knows a socket by.
pub(crate) fn number(socket: &Socket) -> u64 {
    u64::try_from(socket.as_raw_fd()).expect("it is open")
}

/// The processor time that this thread has used so far.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// By how much that number may differ if nothing was left behind.
pub(crate) const OPEN_FILES_DIFFER: usize = 0;

/// Blocks the thread.
pub(crate) fn hold(time: Duration) {
    // Sleep instead of spinning: time spent waiting for a processor would not count as blocked.
    thread::sleep(time);
}

/// Waits, without reading, until the other side has closed the connection.
pub(crate) fn wait_for_end(socket: impl AsFd, limit: Duration) {
    wait_for(socket, super::CLOSED, limit);
}

/// Waits until there is something to read.
pub(crate) fn wait_for_data(socket: impl AsFd, limit: Duration) {
    wait_for(socket, PollFlags::IN, limit);
}

fn wait_for(socket: impl AsFd, what: PollFlags, limit: Duration) {
    let time = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: 0,
    };
    let events = poll(&mut [PollFd::new(&socket, what)], Some(&time)).expect("poll(2)");
    assert!(events > 0, "nothing arrived within {limit:?}");
}
