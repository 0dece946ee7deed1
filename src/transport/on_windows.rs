//! What sockets can do on Windows besides.

use std::os::windows::io::{AsSocket, BorrowedSocket};

use super::{ByteStream, DatagramSocket, Stream};

/// There are no Unix sockets here, so there is no user either.
pub(crate) fn peer_user(_: &dyn ByteStream) -> Option<u32> {
    None
}

impl AsSocket for Stream {
    /// For socket options that have no method here. Do not close it or make it blocking.
    fn as_socket(&self) -> BorrowedSocket<'_> {
        self.socket.object().as_socket()
    }
}

impl AsSocket for DatagramSocket {
    /// For socket options that have no method here. Do not close it or make it blocking.
    fn as_socket(&self) -> BorrowedSocket<'_> {
        self.socket.object().as_socket()
    }
}
