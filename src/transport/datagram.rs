//! Datagrams: UDP and Unix.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use super::{Address, Batch, UnixAddress, batch, unix::SocketFile};
use crate::reactor::{Direction, Handle, Interest, Readiness, Watched};

/// A socket for datagrams. Made by [`udp`](super::udp) and [`unix`](super::unix).
///
/// Each datagram is sent and received as a whole or not at all. UDP may lose, repeat and reorder
/// them.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Watched<OwnedFd>,
    family: AddressFamily,
    connected: bool,
    /// A socket file to be removed.
    _file: Option<SocketFile>,
}

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that are in the buffer.
    pub count: usize,
    /// Who sent it.
    pub from: Address,
    /// Whether it was longer than the buffer, and its end is lost.
    pub truncated: bool,
}

impl DatagramSocket {
    pub(super) fn open(family: AddressFamily) -> io::Result<OwnedFd> {
        Ok(net::socket_with(
            family,
            SocketType::DGRAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?)
    }

    pub(super) fn new(handle: &Handle, socket: OwnedFd, family: AddressFamily) -> io::Result<Self> {
        let socket =
            Watched::new(handle, socket, Interest::BOTH)?.assume_ready(Readiness::WRITABLE);
        let connected = net::getpeername(socket.object()).is_ok();
        Ok(DatagramSocket {
            socket,
            family,
            connected,
            _file: None,
        })
    }

    pub(super) fn with_file(mut self, file: Option<SocketFile>) -> Self {
        self._file = file;
        self
    }

    /// The handle of its reactor.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// The address that it has, with the port that the system chose for port 0.
    pub fn local_address(&self) -> Address {
        net::getsockname(self.socket.object())
            .map_or(Address::Unknown, |address| self.told(Some(address)))
    }

    /// The address that it is connected to, if it is.
    pub fn peer_address(&self) -> Option<Address> {
        let peer = net::getpeername(self.socket.object()).ok()?;
        Some(self.told(peer))
    }

    /// Sends a datagram to `to`, as soon as the system takes it; for a UDP socket that is mostly at
    /// once.
    ///
    /// # Errors
    /// When it is too long for one datagram, the address is of another family, nobody listens there
    /// (Unix), or an earlier datagram was refused by its host (UDP, connected).
    pub async fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<()> {
        poll_fn(|cx| self.poll_send_to(cx, bytes, to)).await
    }

    /// Sends a datagram to the address that the socket is connected to.
    ///
    /// # Errors
    /// As for [`send_to`](DatagramSocket::send_to), and when it is not connected.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, bytes)).await
    }

    /// Receives the next datagram. One task at a time.
    ///
    /// # Errors
    /// A connected UDP socket hears that its peer refused a datagram
    /// ([`ConnectionRefused`](io::ErrorKind::ConnectionRefused)); it goes on.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    /// [`send_to`](DatagramSocket::send_to) for futures written by hand.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &Address,
    ) -> Poll<io::Result<()>> {
        let to = batch::socket_address(to)?;
        self.poll_write(cx, |socket| {
            Ok(net::sendto(socket, bytes, SendFlags::NOSIGNAL, &to)?)
        })
    }

    /// [`send`](DatagramSocket::send) for futures written by hand.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        self.poll_write(cx, |socket| {
            Ok(net::send(socket, bytes, SendFlags::NOSIGNAL)?)
        })
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        send: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.socket.poll_io(cx, Direction::Write, send))?;
        self.socket.moved(Direction::Write, count);
        Poll::Ready(Ok(()))
    }

    /// [`receive`](DatagramSocket::receive) for futures written by hand.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Received>> {
        let message = ready!(self.socket.poll_io(cx, Direction::Read, |socket| {
            let mut control = RecvAncillaryBuffer::default();
            Ok(net::recvmsg(
                socket,
                &mut [IoSliceMut::new(buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?)
        }))?;
        self.socket.moved(Direction::Read, message.bytes);
        Poll::Ready(Ok(Received {
            count: message.bytes,
            from: self.told(message.address),
            truncated: message.flags.contains(ReturnFlags::TRUNC),
        }))
    }

    /// Sends datagrams in order, each to the address beside it or the one that the socket is
    /// connected to, with as few system calls as there can be (sendmmsg(2)). Gives how many were
    /// sent: fewer than all when the system takes no more at once, and at most 64.
    ///
    /// # Errors
    /// As for [`send_to`](DatagramSocket::send_to) of the first one: it was not sent. An error of a
    /// later one comes when that is the first.
    pub async fn send_batch(&self, datagrams: &[(&[u8], Option<&Address>)]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send_batch(cx, datagrams.iter().copied())).await
    }

    /// [`send_batch`](DatagramSocket::send_batch) for futures written by hand.
    pub fn poll_send_batch<'a>(
        &self,
        cx: &mut Context<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], Option<&'a Address>)> + Clone,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(
            self.socket
                .poll_io(cx, Direction::Write, |socket| batch::send(
                    socket,
                    datagrams.clone()
                ))
        )?;
        let bytes = datagrams.take(sent).map(|datagram| datagram.0.len()).sum();
        self.socket
            .spent(Direction::Write, sent.saturating_sub(1), bytes);
        Poll::Ready(Ok(sent))
    }

    /// Receives datagrams, at least one and as many as there are and the batch has room for, with
    /// one system call (recvmmsg(2); Unix sockets: one each). Gives how many. One task at a time.
    ///
    /// # Errors
    /// As for [`receive`](DatagramSocket::receive).
    pub async fn receive_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive_batch(cx, batch)).await
    }

    /// [`receive_batch`](DatagramSocket::receive_batch) for futures written by hand.
    pub fn poll_receive_batch(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(
            self.socket
                .poll_io(cx, Direction::Read, |socket| match self.family {
                    AddressFamily::UNIX => batch.receive_each(socket, |address| self.told(address)),
                    family => batch.receive_udp(socket, family == AddressFamily::INET6),
                })
        )?;
        if count < batch.capacity() && !self.connected {
            // There was no more. A connected socket may have an error to tell.
            self.socket.drained();
        }
        self.socket.spent(
            Direction::Read,
            count - 1,
            batch.iter().map(|datagram| datagram.0.len()).sum(),
        );
        Poll::Ready(Ok(count))
    }

    fn told(&self, address: Option<net::SocketAddrAny>) -> Address {
        match address.map_or(Address::Unknown, Address::from) {
            Address::Tcp(address) => Address::Udp(address),
            Address::Unknown if self.family == AddressFamily::UNIX => {
                Address::Unix(UnixAddress::Unnamed)
            }
            address => address,
        }
    }

    /// Allows datagrams to broadcast addresses. Not allowed at first.
    ///
    /// # Errors
    /// On Unix sockets.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_broadcast(
            self.socket.object(),
            broadcast,
        )?)
    }

    /// Receives what is sent to this group (RFC 1112), on the interface with this address or on one
    /// that the system chooses ([`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED)).
    ///
    /// # Errors
    /// When it is no multicast address, or there is no such interface.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_add_membership(
            self.socket.object(),
            &group,
            &interface,
        )?)
    }

    /// The reverse of [`join_multicast_v4`](DatagramSocket::join_multicast_v4).
    ///
    /// # Errors
    /// When it is not in this group.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_drop_membership(
            self.socket.object(),
            &group,
            &interface,
        )?)
    }

    /// Receives what is sent to this group, on the interface with this number (0 lets the system
    /// choose).
    ///
    /// # Errors
    /// When it is no multicast address, or there is no such interface.
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_add_membership(
            self.socket.object(),
            &group,
            interface,
        )?)
    }

    /// The reverse of [`join_multicast_v6`](DatagramSocket::join_multicast_v6).
    ///
    /// # Errors
    /// When it is not in this group.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_drop_membership(
            self.socket.object(),
            &group,
            interface,
        )?)
    }

    /// Whether what is sent to a group comes back to this machine's members of it. It does at
    /// first.
    ///
    /// # Errors
    /// On Unix sockets.
    pub fn set_multicast_loop(&self, loops: bool) -> io::Result<()> {
        match self.family {
            AddressFamily::INET6 => sockopt::set_ipv6_multicast_loop(self.socket.object(), loops),
            _ => sockopt::set_ip_multicast_loop(self.socket.object(), loops),
        }
        .map_err(io::Error::from)
    }

    /// Over how many routers what is sent to a group goes. 1 at first: it stays in the local
    /// network.
    ///
    /// # Errors
    /// On Unix sockets.
    pub fn set_multicast_hops(&self, hops: u8) -> io::Result<()> {
        match self.family {
            AddressFamily::INET6 => {
                sockopt::set_ipv6_multicast_hops(self.socket.object(), hops.into())
            }
            _ => sockopt::set_ip_multicast_ttl(self.socket.object(), hops.into()),
        }
        .map_err(io::Error::from)
    }
}

impl AsFd for DatagramSocket {
    /// For socket options that have no method here. Do not close it, do not make it blocking.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.object().as_fd()
    }
}

impl UnixAddress {
    /// As the system wants it; none for one without a name, or with a name that is too long.
    pub(super) fn to_socket_address(&self) -> Option<SocketAddrUnix> {
        match self {
            UnixAddress::Unnamed => None,
            UnixAddress::Path(path) => SocketAddrUnix::new(path).ok(),
            UnixAddress::Abstract(name) => SocketAddrUnix::new_abstract_name(name).ok(),
        }
    }
}

pub(super) fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}
