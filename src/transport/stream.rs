//! Connected sockets of every family.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::{
    fd::OwnedFd,
    net::{self, RecvFlags, SocketType, sockopt},
};

use super::{
    Address, ByteStream,
    sys::{self, FdQueue, SEND},
};
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
    pub(super) socket: Registration<OwnedFd>,
    /// Present if fds are to be received (Unix sockets only).
    pub(super) fds: Option<FdQueue>,
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
    /// socket becomes non-blocking for every process that shares it, and loses Nagle's algorithm
    /// and the time that closing it may take (`SO_LINGER`).
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
        sys::pass_fds(&socket, false);
        sys::close_at_once(&socket);
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

    /// Sets `TCP_NODELAY`: `true` turns Nagle's algorithm off, as it is from the start.
    ///
    /// # Errors
    /// Fails on Unix sockets, which do not have this option.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(self.socket.object(), nodelay)?)
    }

    /// Makes the peer see a reset when the stream is dropped, and discards everything that has not
    /// been sent yet.
    pub fn abort(&mut self) {
        // If the socket is already broken, no reset is needed.
        let _ = sockopt::set_socket_linger(self.socket.object(), Some(Duration::ZERO));
    }

    /// Receives into `buffer` as soon as there is data.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let room = buffer.len();
        let received = ready!(self.socket.poll_io(
            cx,
            Direction::Read,
            |socket| match &self.fds {
                None => Ok(net::recv(socket, &mut *buffer, RecvFlags::empty())?.0),
                Some(fds) => fds.receive(socket, buffer),
            }
        ))?;
        // A Unix socket also stops where the sender or its fds change, and an event does not say
        // so.
        if 0 < received && received < room && matches!(self.socket.peer(), Address::Tcp(_)) {
            self.socket.read_was_short();
        }
        self.socket.moved(Direction::Read, received);
        Poll::Ready(Ok(received))
    }

    fn poll_send(&self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(
            self.socket
                .poll_io(cx, Direction::Write, |socket| Ok(net::send(
                    socket, buffer, SEND
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
            sys::send_vectored(socket, buffers)
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
        let sent = net::send(self.socket.object(), bytes, SEND)?;
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
