//! Linux: flags that spare system calls, and many datagrams with one of them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    num::NonZeroU32,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, getsockopt, recvmmsg,
    sockopt::PeerCredentials,
};
use rustix::{
    io::fcntl_dupfd_cloexec,
    net::{
        self, AddressFamily, MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny,
        SocketAddrUnix, SocketFlags, SocketType, sendmmsg, sockopt,
    },
    process::{Resource, getrlimit},
};

use crate::{
    address::Address,
    transport::{credentials::Credentials, received::ReceivedDatagram},
};

/// Writing to a broken pipe raises no signal.
pub(in crate::transport) const SEND: SendFlags = SendFlags::NOSIGNAL;

/// File descriptors that come with bytes are not inherited by other programs.
pub(in crate::transport) const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

pub(in crate::transport) fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = net::socket_with(family, kind, FLAGS, None)?;
    if family == AddressFamily::UNIX {
        pass_fds(&socket, false);
    }
    Ok(socket)
}

/// Says whether peers may send file descriptors to a Unix socket, and to those that it accepts. The
/// kernel closes what nobody wants in a system call of this thread, and takes as long for it as the
/// peer has seen to (`SO_LINGER`).
pub(in crate::transport) fn pass_fds(socket: &OwnedFd, pass: bool) {
    // Linux before 6.16 does not know this.
    let _ = entwined_spawn::pass_fds(socket, pass);
}

/// Two Unix sockets that are connected to each other.
pub(in crate::transport) fn pair(kind: SocketType) -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = net::socketpair(AddressFamily::UNIX, kind, FLAGS, None)?;
    pass_fds(&a, false);
    pass_fds(&b, false);
    Ok((a, b))
}

pub(in crate::transport) fn accept(
    socket: &OwnedFd,
) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    net::acceptfrom_with(socket, FLAGS)
}

/// Whether a socket listens.
pub(in crate::transport) fn is_listening(socket: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// An address in the abstract namespace: unix(7).
pub(in crate::transport) fn abstract_name(name: &[u8]) -> Option<SocketAddrUnix> {
    SocketAddrUnix::new_abstract_name(name).ok()
}

/// `SO_PEERCRED` of a Unix socket.
pub(in crate::transport) fn credentials(socket: &OwnedFd) -> io::Result<Credentials> {
    // rustix reads the process number into a type that cannot be 0.
    let credentials = getsockopt(socket, PeerCredentials)?;
    Ok(Credentials {
        pid: u32::try_from(credentials.pid())
            .ok()
            .and_then(NonZeroU32::new),
        uid: credentials.uid(),
        gid: credentials.gid(),
    })
}

/// Size that the kernel's file descriptor table is grown to at once, unless the process may have
/// fewer fds.
const ROOM: u64 = 16 * 1024;

/// Makes the kernel grow its file descriptor table now. The kernel doubles the table when it is
/// full. In a process with several threads it then waits until all processors have noticed
/// (`synchronize_rcu` in `expand_fdtable`). On the way to 5,000 connections we saw five such waits
/// of 5 to 15 ms, each of them a late frame.
pub(in crate::transport) fn make_room(socket: &OwnedFd) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = limit.min(ROOM).saturating_sub(1);
    if let Ok(last) = i32::try_from(last) {
        // If even that number is taken, the table is already as large as it can get.
        drop(fcntl_dupfd_cloexec(socket, last));
    }
}

/// Sends datagrams until the system accepts no more (sendmmsg(2)).
pub(in crate::transport) fn send_all(
    socket: &OwnedFd,
    slices: &[[IoSlice<'_>; 1]],
    addresses: &[Option<SocketAddrAny>],
) -> io::Result<usize> {
    let mut controls: Vec<_> = slices
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<_> = slices
        .iter()
        .zip(addresses)
        .zip(&mut controls)
        .map(|((slice, to), control)| match to {
            Some(to) => MMsgHdr::new_with_addr(to, slice, control),
            None => MMsgHdr::new(slice, control),
        })
        .collect();
    Ok(sendmmsg(socket, &mut messages, SEND)?)
}

/// What receiving many datagrams at once takes, kept from one time to the next.
#[derive(Default)]
pub(in crate::transport) struct Headers {
    v4: Option<MultiHeaders<SockaddrIn>>,
    v6: Option<MultiHeaders<SockaddrIn6>>,
}

impl Headers {
    /// Receives what is queued, up to `most` datagrams of up to `size` bytes, from a UDP socket
    /// (recvmmsg(2)). Returns `None` if the addresses of this family have no fixed length.
    pub(in crate::transport) fn receive_all(
        &mut self,
        socket: &OwnedFd,
        family: AddressFamily,
        (buffer, size, most): (&mut [u8], usize, usize),
        received: &mut Vec<ReceivedDatagram>,
    ) -> Option<io::Result<()>> {
        Some(match family {
            AddressFamily::INET6 => {
                let headers = self
                    .v6
                    .get_or_insert_with(|| MultiHeaders::preallocate(most, None));
                receive_all(socket, headers, buffer, size, received, |from| {
                    Address::Udp((*from).into())
                })
            }
            AddressFamily::INET => {
                let headers = self
                    .v4
                    .get_or_insert_with(|| MultiHeaders::preallocate(most, None));
                receive_all(socket, headers, buffer, size, received, |from| {
                    Address::Udp((*from).into())
                })
            }
            _ => return None,
        })
    }
}

fn receive_all<S: SockaddrLike + Copy>(
    socket: &OwnedFd,
    headers: &mut MultiHeaders<S>,
    buffer: &mut [u8],
    size: usize,
    received: &mut Vec<ReceivedDatagram>,
    told: impl Fn(&S) -> Address,
) -> io::Result<()> {
    let mut slices: Vec<_> = buffer
        .chunks_exact_mut(size)
        .map(|place| [IoSliceMut::new(place)])
        .collect();
    let messages = recvmmsg(
        socket.as_raw_fd(),
        headers,
        &mut slices,
        MsgFlags::empty(),
        None,
    )?;
    received.extend(messages.map(|message| ReceivedDatagram {
        count: message.bytes,
        from: message.address.as_ref().map_or(Address::Unknown, &told),
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr};

    use super::*;
    use crate::{Standalone, transport::tcp};

    #[test]
    fn the_kernels_table_of_descriptors_is_large_before_the_first_peer_comes() {
        let reactor = Standalone::new().expect("a reactor");
        let _listener =
            tcp::listen(&reactor.handle(), (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("FDSize:"))
            .expect("a size");
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(
            size.trim().parse::<u64>().expect("a number") >= limit.min(ROOM),
            "{size} of {limit}"
        );
    }
}
