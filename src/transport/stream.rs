//! Connected sockets of every family.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, sockopt};

use super::{Address, ByteStream, fds::FdQueue};
use crate::{
    reactor::{Direction, Handle, Interest, Registration},
    scratch::Scratch,
};

/// A connected TCP or Unix socket.
///
/// Read and write it through the traits of [`futures_io`].
/// Dropping it closes the connection. Writing to a broken pipe returns an error and never raises a
/// signal.
#[derive(Debug)]
pub struct Stream {
    socket: Registration<OwnedFd>,
    /// Present if fds are to be received (Unix sockets only).
    fds: Option<FdQueue>,
    /// Whether the write direction has been shut down.
    ended: Cell<bool>,
}

impl Stream {
    pub(super) fn new(socket: Registration<OwnedFd>, peer: Address) -> Self {
        Stream {
            socket: socket.connected(peer),
            fds: None,
            ended: Cell::new(false),
        }
    }

    /// Wraps a TCP or Unix socket that is already connected: inherited, or created elsewhere. The
    /// socket becomes non-blocking for every process that shares it, and loses Nagle's algorithm.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if this is not a connected stream socket.
    pub fn from_fd(handle: &Handle, socket: OwnedFd) -> io::Result<Self> {
        let peer = net::getpeername(&socket);
        if peer.is_err() || sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is not a connected stream socket",
            ));
        }
        let peer = match Address::from(peer?.expect("a connected socket has a peer")) {
            Address::Unknown => Address::Unix(super::UnixAddress::Unnamed),
            peer => peer,
        };
        rustix::io::ioctl_fionbio(&socket, true)?;
        // Unix sockets do not have this option.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        Ok(Stream::new(
            Registration::new(handle, socket, Interest::BOTH)?,
            peer,
        ))
    }

    /// The handle of the stream's reactor.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> &Address {
        self.socket.peer()
    }

    /// The address of this end.
    pub fn local_address(&self) -> Address {
        net::getsockname(self.socket.object()).map_or(Address::Unknown, Address::from)
    }

    /// The credentials of the process at the other end of a Unix socket (`SO_PEERCRED`, unix(7)):
    /// those that it had when it connected, or called listen(2).
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        self.only_unix("peer credentials")?;
        // rustix reads the process number into a type that cannot be 0.
        let credentials = getsockopt(self.socket.object(), PeerCredentials)?;
        Ok(Credentials {
            pid: u32::try_from(credentials.pid())
                .ok()
                .and_then(NonZeroU32::new),
            uid: credentials.uid(),
            gid: credentials.gid(),
        })
    }

    /// Sets `TCP_NODELAY`: `true` turns Nagle's algorithm off, as it is from the start.
    ///
    /// # Errors
    /// Fails on Unix sockets, which do not have this option.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(self.socket.object(), nodelay)?)
    }

    /// Keeps the file descriptors that arrive with the bytes of a Unix socket from now on, until
    /// [`take_fds`](Stream::take_fds) is called. At most 64 are kept; any more are closed. Without
    /// this call the kernel closes all of them.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    pub fn receive_fds(&mut self) -> io::Result<()> {
        self.only_unix("passing file descriptors")?;
        self.fds.get_or_insert_default();
        Ok(())
    }

    /// Takes the file descriptors that arrived with the bytes read so far.
    pub fn take_fds(&self) -> Vec<OwnedFd> {
        self.fds.as_ref().map(FdQueue::take).unwrap_or_default()
    }

    /// Sends `bytes`, which must not be empty, together with `fds` as one message. Returns the
    /// number of bytes sent. The fds travel with the first byte.
    ///
    /// # Errors
    /// - [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if `bytes` is empty or there are more than
    ///   64 fds.
    /// - Any error of the system call.
    pub async fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.only_unix("passing file descriptors")?;
        self.socket
            .io(Direction::Write, |socket| {
                super::fds::send(socket, bytes, fds)
            })
            .await
    }

    /// Makes the peer see a reset when the stream is dropped, and discards everything that has not
    /// been sent yet.
    pub fn abort(&mut self) {
        // If the socket is already broken, no reset is needed.
        let _ = sockopt::set_socket_linger(self.socket.object(), Some(Duration::ZERO));
    }

    fn only_unix(&self, what: &str) -> io::Result<()> {
        match self.socket.peer() {
            Address::Unix(_) => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{what} needs a Unix socket"),
            )),
        }
    }

    /// Receives into `buffer` as soon as there is data.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_io(
            cx,
            Direction::Read,
            |socket| match &self.fds {
                None => Ok(net::recv(socket, &mut *buffer, RecvFlags::empty())?.0),
                Some(fds) => fds.receive(socket, buffer),
            }
        ))?;
        // A short read does not mean that the socket is drained: TCP stops at a mark of urgent data
        // (tcp(7), SIOCATMARK), and a Unix socket where the sender or its fds change. Only
        // `WouldBlock` says so. The extra call costs 0.2 us for each burst that arrives.
        self.socket.moved(Direction::Read, received);
        Poll::Ready(Ok(received))
    }

    fn poll_send(&self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(
            self.socket
                .poll_io(cx, Direction::Write, |socket| Ok(net::send(
                    socket,
                    buffer,
                    SendFlags::NOSIGNAL
                )?))
        )?;
        self.socket.moved(Direction::Write, sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_send_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if total <= GATHER {
            let mut scratch = Scratch::take();
            let mut end = 0;
            for buffer in buffers {
                scratch[end..end + buffer.len()].copy_from_slice(buffer);
                end += buffer.len();
            }
            return self.poll_send(cx, &scratch[..total]);
        }
        let sent = ready!(self.socket.poll_io(cx, Direction::Write, |socket| {
            Ok(net::sendmsg(
                socket,
                buffers,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )?)
        }))?;
        self.socket.moved(Direction::Write, sent);
        Poll::Ready(Ok(sent))
    }

    /// Sends what the kernel takes now, outside of any task; returns how many bytes that was. It
    /// leaves readiness, and a task that waits for it, as they are.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when the kernel takes nothing, and what the system
    /// says.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = net::send(self.socket.object(), bytes, SendFlags::NOSIGNAL)?;
        self.socket.count(Direction::Write, sent);
        Ok(sent)
    }

    /// Shuts down the write direction; the peer sees the end of input.
    fn shut_down(&self) -> io::Result<()> {
        if self.ended.replace(true) {
            return Ok(());
        }
        match net::shutdown(self.socket.object(), net::Shutdown::Write) {
            // The peer closed first.
            Err(rustix::io::Errno::NOTCONN) => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Who is at the other end of a Unix socket. Returned by [`Stream::peer_credentials`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The process. `None` if it has no number in this process's pid namespace: it runs outside of
    /// a container that this process runs in (pid_namespaces(7)).
    pub pid: Option<NonZeroU32>,
    /// Its user. In another user namespace it may be the overflow user, 65534.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl AsFd for Stream {
    /// For socket options that have no method here. Do not close it or make it blocking.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.object().as_fd()
    }
}

impl ByteStream for Stream {
    fn local_address(&self) -> Address {
        Stream::local_address(self)
    }

    fn peer_address(&self) -> Address {
        self.socket.peer().clone()
    }

    fn abort(&mut self) {
        Stream::abort(self);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_receive(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_vectored(cx, buffers)
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Shuts down the write direction (a half-close). Reading still works.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down())
    }
}

/// If the pieces of a vectored write have at most this many bytes in total, they are copied
/// together. That is cheaper than having the kernel gather them (sendmsg).
const GATHER: usize = 4 * 1024;
