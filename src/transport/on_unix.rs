//! What sockets can do on Unix besides.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    Address, ByteStream, Credentials, DatagramSocket, Listener, Stream,
    fds::{self, FdQueue},
    sys,
};
use crate::reactor::Direction;

impl Stream {
    /// The credentials of the process at the other end of a Unix socket (`SO_PEERCRED`, unix(7);
    /// getpeereid(3) on macOS and FreeBSD): those that it had when it connected, or called
    /// listen(2).
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        self.only_unix("peer credentials")?;
        sys::credentials(self.socket.object())
    }

    /// Keeps the file descriptors that arrive with the bytes of a Unix socket from now on, until
    /// [`take_fds`](Stream::take_fds) is called. At most 64 are kept; any more are closed.
    ///
    /// Before this call the peer cannot send any: that fails with EPERM. (The kernel would close
    /// them on this thread, and a peer can make a close take minutes. Linux before 6.16, and other
    /// systems, do so.) A server whose peers send them at once calls
    /// [`Listener::allow_fds`](super::Listener::allow_fds) too.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    pub fn receive_fds(&mut self) -> io::Result<()> {
        self.only_unix("passing file descriptors")?;
        sys::pass_fds(self.socket.object(), true);
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
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the peer takes no fds, see
    ///   [`receive_fds`](Stream::receive_fds). Nothing is sent then.
    /// - Any error of the system call.
    pub async fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.only_unix("passing file descriptors")?;
        self.socket
            .io(Direction::Write, |socket| fds::send(socket, bytes, fds))
            .await
    }

    fn only_unix(&self, what: &str) -> io::Result<()> {
        match self.socket.peer() {
            Address::Unix(_) => Ok(()),
            _ => Err(needs_unix(what)),
        }
    }
}

impl Listener {
    /// Lets peers that connect from now on send file descriptors before
    /// [`Stream::receive_fds`](Stream::receive_fds) is called for their streams.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) on TCP.
    pub fn allow_fds(&self) -> io::Result<()> {
        if !matches!(self.local_address(), Address::Unix(_)) {
            return Err(needs_unix("passing file descriptors"));
        }
        sys::pass_fds(self.socket.object(), true);
        Ok(())
    }
}

fn needs_unix(what: &str) -> io::Error {
    let message = format!("{what} needs a Unix socket");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// The user at the other end of a Unix socket below this stream.
pub(crate) fn peer_user(stream: &dyn ByteStream) -> Option<u32> {
    Some(stream.find::<Stream>()?.peer_credentials().ok()?.uid)
}

impl AsFd for Stream {
    /// For socket options that have no method here. Do not close it or make it blocking.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.object().as_fd()
    }
}

impl AsFd for DatagramSocket {
    /// For socket options that have no method here. Do not close it or make it blocking.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.object().as_fd()
    }
}
