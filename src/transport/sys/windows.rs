//! Windows: Winsock, as rustix has it.
//!
//! Without `SO_REUSEADDR`, a port is the listener's own: other users cannot listen there. It is
//! free again at once when the listener is closed, also if connections are in TIME_WAIT.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
};

use rustix::{
    fd::OwnedFd,
    io::{Errno, ioctl_fionbio},
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketType, sockopt},
};

use super::Message;
use crate::{address::UnixAddress, scratch::Scratch};

/// There are no signals here.
pub(in crate::transport) const SEND: SendFlags = SendFlags::empty();

/// There are no Unix sockets here, so none of them has a file.
pub(in crate::transport) type SocketFile = Infallible;

/// An IPv6 socket is for IPv4 too, as on Linux, where that is the default. Child processes do not
/// inherit a socket of socket2; they do one of rustix.
pub(in crate::transport) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let (domain, kind) = (i32::from(family.as_raw()), kind.as_raw() as i32);
    let socket = socket2::Socket::new(domain.into(), kind.into(), None)?;
    let socket = OwnedFd::from(std::os::windows::io::OwnedSocket::from(socket));
    ioctl_fionbio(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    Ok(socket)
}

pub(in crate::transport) fn accept(
    socket: &OwnedFd,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (accepted, peer) = net::acceptfrom(socket)?;
    // It need not be as its listener is.
    if let Err(error) = socket2::SockRef::from(&accepted).set_no_inherit(true) {
        tracing::warn!(%error, "child processes may inherit a connection");
    }
    ioctl_fionbio(&accepted, true)?;
    Ok((accepted, peer))
}

/// Whether connecting goes on. Its end makes the socket writable.
pub(in crate::transport) fn is_connecting(errno: Errno) -> bool {
    matches!(errno, Errno::WOULDBLOCK | Errno::INPROGRESS | Errno::INTR)
}

/// Whether the process or the system has no sockets, or no memory, left.
pub(in crate::transport) fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NOBUFS)
}

/// Whether a socket listens.
pub(in crate::transport) fn is_listening(socket: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// Nothing is needed for that here.
pub(in crate::transport) fn listen_again(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// Lets several datagram sockets have one address.
pub(in crate::transport) fn share_address(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(socket, true)?)
}

/// There is no table of file descriptors.
pub(in crate::transport) fn make_room(_: &OwnedFd) {}

pub(in crate::transport) fn send_vectored(
    socket: &OwnedFd,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    socket2::SockRef::from(socket).send_vectored(buffers)
}

/// Receives one datagram.
///
/// Windows has an error for a datagram that is longer than the buffer, and does not say from whom
/// it is. So the buffer is one in which each fits. An error of an earlier datagram, which its
/// receiver has refused (`WSAECONNRESET`), says the same as on other systems if the socket is
/// connected, and nothing that anybody could use if it is not.
pub(in crate::transport) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut scratch = Scratch::take();
    loop {
        match net::recvfrom(socket, &mut scratch[..], RecvFlags::empty()) {
            Ok((received, _, from)) => {
                let count = received.min(buffer.len());
                buffer[..count].copy_from_slice(&scratch[..count]);
                return Ok(Message {
                    count,
                    from,
                    truncated: received > count,
                });
            }
            Err(Errno::CONNRESET | Errno::NETRESET) => {
                if net::getpeername(socket).is_ok() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Handles do not run out before memory does, so nothing is kept for that.
#[derive(Debug)]
pub(in crate::transport) enum Spare {}

impl Spare {
    pub(in crate::transport) fn open() -> Option<Self> {
        None
    }
}

/// There are no Unix sockets that it could be an address of.
pub(in crate::transport) fn unix_address(_: &UnixAddress) -> Option<SocketAddrAny> {
    None
}

/// File descriptors that come with bytes: there are none.
#[derive(Debug)]
pub(in crate::transport) enum FdQueue {}

impl FdQueue {
    pub(in crate::transport) fn receive(&self, _: &OwnedFd, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

/// There is no such option.
pub(in crate::transport) fn pass_fds(_: &OwnedFd, _: bool) {}
