//! All Unix systems.

use std::io::{self, IoSlice, IoSliceMut};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno,
    net::{
        self, RecvAncillaryBuffer, ReturnFlags, SendAncillaryBuffer, SocketAddrAny, SocketAddrUnix,
        addr::SocketAddrArg, sockopt,
    },
};

use super::{Message, RECEIVE, SEND, abstract_name};
use crate::address::UnixAddress;
pub(in crate::transport) use crate::transport::{fds::FdQueue, socket_file::SocketFile};

/// Whether connecting goes on. Its end makes the socket writable.
pub(in crate::transport) fn is_connecting(errno: Errno) -> bool {
    matches!(errno, Errno::INPROGRESS | Errno::INTR)
}

/// Whether the process or the system has no file descriptors, or no memory, left.
pub(in crate::transport) fn is_exhausted(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM
    )
}

/// Lets a server restart while connections of its predecessor are in TIME_WAIT. Two listeners still
/// exclude each other.
pub(in crate::transport) fn listen_again(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(socket, true)?)
}

/// Lets several datagram sockets have one address.
pub(in crate::transport) fn share_address(socket: &OwnedFd) -> io::Result<()> {
    sockopt::set_socket_reuseaddr(socket, true)?;
    Ok(sockopt::set_socket_reuseport(socket, true)?)
}

pub(in crate::transport) fn send_vectored(
    socket: &OwnedFd,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    let mut control = SendAncillaryBuffer::default();
    Ok(net::sendmsg(socket, buffers, &mut control, SEND)?)
}

/// Receives one datagram.
pub(in crate::transport) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut control = RecvAncillaryBuffer::default();
    let message = net::recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RECEIVE,
    )?;
    Ok(Message {
        count: message.bytes,
        from: message.address,
        truncated: message.flags.contains(ReturnFlags::TRUNC),
    })
}

/// The file descriptor that a listener gives up to turn a peer away.
#[derive(Debug)]
pub(in crate::transport) struct Spare(#[expect(dead_code, reason = "it is held")] OwnedFd);

impl Spare {
    pub(in crate::transport) fn open() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty());
        null.ok().map(Spare)
    }
}

/// Converts to the system's form. `None` if the address has no name, or its name is too long.
pub(in crate::transport) fn unix_address(address: &UnixAddress) -> Option<SocketAddrAny> {
    name(address).map(|address| address.as_any())
}

/// As [`unix_address`].
pub(in crate::transport) fn name(address: &UnixAddress) -> Option<SocketAddrUnix> {
    match address {
        UnixAddress::Unnamed => None,
        UnixAddress::Path(path) => SocketAddrUnix::new(path).ok(),
        UnixAddress::Abstract(name) => abstract_name(name),
    }
}
