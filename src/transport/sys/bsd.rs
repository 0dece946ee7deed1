//! macOS and FreeBSD: sockets get their flags after they are made. A program that forks on another
//! thread in between inherits them.

use std::io;

use rustix::{
    fd::OwnedFd,
    io::{FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags,
        SocketType, sockopt,
    },
};

use crate::transport::credentials::Credentials;

/// Sockets have `SO_NOSIGPIPE` instead.
pub(in crate::transport) const SEND: SendFlags = SendFlags::empty();

/// There is no flag for file descriptors that come with bytes.
pub(in crate::transport) const RECEIVE: RecvFlags = RecvFlags::empty();

/// An IPv6 socket is for IPv4 too, as on Linux, where that is the default.
pub(in crate::transport) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = net::socket(family, kind, None)?;
    prepare(&socket)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    Ok(socket)
}

/// Two Unix sockets that are connected to each other.
pub(in crate::transport) fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = net::socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None)?;
    prepare(&a)?;
    prepare(&b)?;
    Ok((a, b))
}

pub(in crate::transport) fn accept(
    socket: &OwnedFd,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (accepted, peer) = net::acceptfrom(socket)?;
    prepare(&accepted)?;
    Ok((accepted, peer))
}

fn prepare(socket: &OwnedFd) -> rustix::io::Result<()> {
    ioctl_fionbio(socket, true)?;
    fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    sockopt::set_socket_nosigpipe(socket, true)
}

/// Whether a socket listens, as far as can be told: macOS does not say.
pub(in crate::transport) fn is_listening(socket: &OwnedFd) -> io::Result<bool> {
    Ok(net::getpeername(socket).is_err() && net::getsockname(socket).is_ok())
}

/// The table of file descriptors grows without a wait.
pub(in crate::transport) fn make_room(_: &OwnedFd) {}

/// There is no abstract namespace.
pub(in crate::transport) fn abstract_name(_: &[u8]) -> Option<SocketAddrUnix> {
    None
}

/// getpeereid(3).
pub(in crate::transport) fn credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    let (user, group) = nix::unistd::getpeereid(socket)?;
    Ok(Credentials {
        pid: None,
        uid: user.as_raw(),
        gid: group.as_raw(),
    })
}

/// There is no such option.
pub(in crate::transport) fn pass_fds(_: &OwnedFd, _: bool) {}
