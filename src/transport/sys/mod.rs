//! What systems do differently with sockets: a file for each, with the same names in it.
//!
//! The sockets themselves are rustix's on every system.

#[cfg(any(target_os = "macos", target_os = "freebsd"))]
mod bsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod one_by_one;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(any(target_os = "macos", target_os = "freebsd"))]
pub(super) use self::bsd::*;
#[cfg(target_os = "linux")]
pub(super) use self::linux::*;
#[cfg(not(target_os = "linux"))]
pub(super) use self::one_by_one::*;
#[cfg(unix)]
pub(super) use self::unix::*;
#[cfg(windows)]
pub(super) use self::windows::*;

/// A datagram, as a system call returns it.
pub(super) struct Message {
    pub(super) count: usize,
    pub(super) from: Option<rustix::net::SocketAddrAny>,
    pub(super) truncated: bool,
}
