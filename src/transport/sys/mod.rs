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

use rustix::{
    fd::OwnedFd,
    net::{SocketAddrAny, sockopt},
};

/// A datagram, as a system call returns it.
pub(super) struct Message {
    pub(super) count: usize,
    pub(super) from: Option<SocketAddrAny>,
    pub(super) truncated: bool,
}

/// Makes closing a socket from elsewhere wait for nothing. With `SO_LINGER` it waits for a peer
/// that does not read, also if the socket is non-blocking.
pub(super) fn close_at_once(socket: &OwnedFd) {
    let lingers = matches!(sockopt::socket_linger(socket), Ok(Some(time)) if !time.is_zero());
    if lingers {
        let _ = sockopt::set_socket_linger(socket, None);
    }
}
