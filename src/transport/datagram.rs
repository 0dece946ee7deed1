//! Datagrams: UDP and Unix.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{self, AddressFamily, SocketType, sockopt},
};

use super::{
    Address, Batch, ReceivedDatagram, UnixAddress, batch,
    sys::{self, SEND, SocketFile},
};
use crate::{
    reactor::{Direction, Handle, Interest, Readiness, Registration},
    task::Sleep,
    wake::{WakeList, WakePlace},
};

/// A datagram socket. Create one with [`udp`](super::udp) or [`unix`](super::unix).
///
/// Each datagram is sent and received as a whole or not at all. UDP may lose, duplicate and reorder
/// datagrams.
#[derive(Debug)]
pub struct DatagramSocket {
    /// A socket file to remove on drop. Declared first: as long as the socket is there, no other
    /// file has its number.
    _file: Option<SocketFile>,
    pub(super) socket: Registration<OwnedFd>,
    family: AddressFamily,
    /// Whether it is a Unix socket that is not connected. Such a socket counts as writable though
    /// the queue of the one that a datagram is for is full, and each attempt makes it writable
    /// anew. So attempts are made after a while instead, not when it is writable.
    paced: bool,
    /// When the next attempt is made.
    retry: RefCell<Option<Sleep>>,
    /// The tasks that wait to send. The system wakes the one that has asked last.
    senders: WakeList,
}

impl DatagramSocket {
    pub(super) fn open(family: AddressFamily) -> io::Result<OwnedFd> {
        sys::socket(family, SocketType::DGRAM)
    }

    pub(super) fn new(handle: &Handle, socket: OwnedFd, family: AddressFamily) -> io::Result<Self> {
        let socket =
            Registration::new(handle, socket, Interest::BOTH)?.assume_ready(Readiness::WRITABLE);
        let connected = net::getpeername(socket.object()).is_ok();
        Ok(DatagramSocket {
            socket,
            family,
            paced: family == AddressFamily::UNIX && !connected,
            retry: RefCell::default(),
            senders: WakeList::default(),
            _file: None,
        })
    }

    #[cfg_attr(windows, expect(dead_code, reason = "no socket has a file there"))]
    pub(super) fn with_file(mut self, file: Option<SocketFile>) -> Self {
        self._file = file;
        self
    }

    /// The handle of the socket's reactor.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// The socket's own address. If it was bound to port 0, this has the port that the system
    /// chose.
    pub fn local_address(&self) -> Address {
        net::getsockname(self.socket.object())
            .map_or(Address::Unknown, |address| self.told(Some(address)))
    }

    /// The address that the socket is connected to, if any.
    pub fn peer_address(&self) -> Option<Address> {
        let peer = net::getpeername(self.socket.object()).ok()?;
        Some(self.told(peer))
    }

    /// Sends a datagram to `to` as soon as the system accepts it. For a UDP socket that is usually
    /// at once. If the queue of a Unix socket is full, it is tried again every 5 ms.
    ///
    /// # Errors
    /// Fails if the datagram is too long, if the address is of another family, if no socket is
    /// bound there (Unix), or if the host refused an earlier datagram (connected UDP sockets).
    pub async fn send_to(&self, bytes: &[u8], to: &Address) -> io::Result<()> {
        self.in_turn(|cx| self.poll_send_to(cx, bytes, to)).await
    }

    /// Sends a datagram to the address that the socket is connected to.
    ///
    /// # Errors
    /// As for [`send_to`](DatagramSocket::send_to), and if the socket is not connected.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.in_turn(|cx| self.poll_send(cx, bytes)).await
    }

    /// Receives the next datagram. Only one task may wait at a time.
    ///
    /// # Errors
    /// On a connected UDP socket, [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) means
    /// that the peer refused a datagram. The socket can still be used.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<ReceivedDatagram> {
        poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    /// The poll function behind [`send_to`](DatagramSocket::send_to), for hand-written futures.
    /// Only one task may wait in it, or in the others that send, at a time.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &Address,
    ) -> Poll<io::Result<()>> {
        let to = batch::socket_address(to)?;
        self.poll_write(cx, |socket| Ok(net::sendto(socket, bytes, SEND, &to)?))
    }

    /// The poll function behind [`send`](DatagramSocket::send), for hand-written futures.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        self.poll_write(cx, |socket| Ok(net::send(socket, bytes, SEND)?))
    }

    /// Waits beside other tasks that wait to send. One that has sent, or does not want to any more,
    /// lets the others try.
    async fn in_turn<R>(&self, mut send: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
        let mut place = Sender {
            senders: &self.senders,
            place: WakePlace::default(),
        };
        poll_fn(|cx| {
            let polled = send(cx);
            if polled.is_pending() {
                place.place.register(&self.senders, cx.waker());
            }
            polled
        })
        .await
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        send: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.poll_attempt(cx, send))?;
        self.socket.moved(Direction::Write, count);
        Poll::Ready(Ok(()))
    }

    /// Does `operation` as soon as the system accepts it.
    fn poll_attempt<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&OwnedFd) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if !self.paced {
            return self.socket.poll_io(cx, Direction::Write, operation);
        }
        let handle = self.handle();
        if !handle.spend(1) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match operation(self.socket.object()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            let mut retry = self.retry.borrow_mut();
            let sleep = retry.get_or_insert_with(|| handle.sleep(FULL_QUEUE));
            ready!(Pin::new(sleep).poll(cx));
            *retry = None;
        }
    }

    /// Whether a full queue of one receiver leaves the socket writable, so that others can be sent
    /// to meanwhile.
    pub(crate) fn is_paced(&self) -> bool {
        self.paced
    }

    /// Sends a datagram now. Returns false if the system accepts it only later.
    pub(crate) fn try_send(&self, bytes: &[u8], to: Option<&Address>) -> io::Result<bool> {
        let sent = match to {
            Some(to) => {
                let to = batch::socket_address(to)?;
                net::sendto(self.socket.object(), bytes, SEND, &to)
            }
            None => net::send(self.socket.object(), bytes, SEND),
        };
        match sent {
            Ok(count) => {
                self.socket.moved(Direction::Write, count);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The poll function behind [`receive`](DatagramSocket::receive), for hand-written futures.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<ReceivedDatagram>> {
        let message = ready!(self.socket.poll_io(cx, Direction::Read, |socket| {
            sys::receive(socket, buffer)
        }))?;
        self.socket.moved(Direction::Read, message.count);
        Poll::Ready(Ok(ReceivedDatagram {
            count: message.count,
            from: self.told(message.from),
            truncated: message.truncated,
        }))
    }

    /// Sends datagrams in order, with as few system calls as possible (on Linux, sendmmsg(2);
    /// elsewhere, one each). Each goes to the address beside it, or to the address that the socket
    /// is connected to. Returns how many were sent: at most 64, and fewer than all if the system
    /// accepts no more at once.
    ///
    /// # Errors
    /// As for [`send_to`](DatagramSocket::send_to) of the first datagram, which was then not sent.
    /// An error of a later datagram is returned once that datagram is the first.
    pub async fn send_batch(&self, datagrams: &[(&[u8], Option<&Address>)]) -> io::Result<usize> {
        self.in_turn(|cx| self.poll_send_batch(cx, datagrams.iter().copied()))
            .await
    }

    /// The poll function behind [`send_batch`](DatagramSocket::send_batch), for hand-written
    /// futures.
    pub fn poll_send_batch<'a>(
        &self,
        cx: &mut Context<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], Option<&'a Address>)> + Clone,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.poll_attempt(cx, |socket| batch::send(socket, datagrams.clone())))?;
        let bytes = datagrams.take(sent).map(|datagram| datagram.0.len()).sum();
        self.socket
            .spent(Direction::Write, sent.saturating_sub(1), bytes);
        Poll::Ready(Ok(sent))
    }

    /// Receives at least one datagram, and as many as are queued and fit into the batch, with one
    /// system call (recvmmsg(2); on Unix sockets, and on other systems than Linux, one call each).
    /// Returns how many. Only one task may wait at a time.
    ///
    /// # Errors
    /// As for [`receive`](DatagramSocket::receive).
    pub async fn receive_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive_batch(cx, batch)).await
    }

    /// The poll function behind [`receive_batch`](DatagramSocket::receive_batch), for hand-written
    /// futures.
    pub fn poll_receive_batch(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.socket.poll_io(cx, Direction::Read, |socket| {
            batch.receive(socket, self.family, |address| self.told(address))
        }))?;
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

    /// Allows or forbids sending to broadcast addresses. Forbidden by default.
    ///
    /// # Errors
    /// Fails on Unix sockets.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_broadcast(
            self.socket.object(),
            broadcast,
        )?)
    }

    /// Joins a multicast group (RFC 1112), so that the socket receives what is sent to it.
    /// `interface` is the address of the interface to use, or
    /// [`UNSPECIFIED`](Ipv4Addr::UNSPECIFIED) to let the system choose.
    ///
    /// # Errors
    /// Fails if `group` is not a multicast address, or there is no such interface.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_add_membership(
            self.socket.object(),
            &group,
            &interface,
        )?)
    }

    /// Leaves a group joined with [`join_multicast_v4`](DatagramSocket::join_multicast_v4).
    ///
    /// # Errors
    /// Fails if the socket is not in this group.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        Ok(sockopt::set_ip_drop_membership(
            self.socket.object(),
            &group,
            &interface,
        )?)
    }

    /// Joins a multicast group, so that the socket receives what is sent to it. `interface` is the
    /// number of the interface to use, or 0 to let the system choose.
    ///
    /// # Errors
    /// Fails if `group` is not a multicast address, or there is no such interface.
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_add_membership(
            self.socket.object(),
            &group,
            interface,
        )?)
    }

    /// Leaves a group joined with [`join_multicast_v6`](DatagramSocket::join_multicast_v6).
    ///
    /// # Errors
    /// Fails if the socket is not in this group.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        Ok(sockopt::set_ipv6_drop_membership(
            self.socket.object(),
            &group,
            interface,
        )?)
    }

    /// Sets whether datagrams sent to a group are also delivered to members of the group on this
    /// machine. On by default.
    ///
    /// # Errors
    /// Fails on Unix sockets.
    pub fn set_multicast_loop(&self, loops: bool) -> io::Result<()> {
        match self.family {
            AddressFamily::INET6 => sockopt::set_ipv6_multicast_loop(self.socket.object(), loops),
            _ => sockopt::set_ip_multicast_loop(self.socket.object(), loops),
        }
        .map_err(io::Error::from)
    }

    /// Sets how many routers a datagram sent to a group may pass. The default of 1 keeps it in the
    /// local network.
    ///
    /// # Errors
    /// Fails on Unix sockets.
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

/// The place of a task that waits to send.
struct Sender<'a> {
    senders: &'a WakeList,
    place: WakePlace,
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.place.leave(self.senders);
        self.senders.wake();
    }
}

/// How long to wait before sending again to a Unix socket whose queue is full.
pub(crate) const FULL_QUEUE: Duration = Duration::from_millis(5);

pub(super) fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}
