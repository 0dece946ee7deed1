//! Limits how many connections a peer may have.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};

use crate::{
    forward_stream,
    transport::{Address, ByteStream, peer_user},
};

/// Limits the connections of each peer. Clones share their counts.
///
/// A peer is an IPv4 address, the first 64 bits of an IPv6 address, or a user on Unix sockets.
/// (Whoever has one IPv6 address usually has all with the same 64 bits: RFC 6177, RFC 4291.) Other
/// connections are not limited. A connection over the limit is closed when it is
/// [established](ByteStream::poll_established), before a protocol is built. The table only holds
/// peers that have connections.
#[derive(Clone, Debug)]
pub struct PerPeer {
    table: Rc<Table>,
}

#[derive(Debug)]
struct Table {
    most: usize,
    counts: RefCell<HashMap<Peer, usize>>,
    refused: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Peer {
    V4([u8; 4]),
    V6([u16; 4]),
    User(u32),
}

impl PerPeer {
    /// Allows at most `most` connections for each peer.
    pub fn new(most: usize) -> Self {
        PerPeer {
            table: Rc::new(Table {
                most,
                counts: RefCell::default(),
                refused: Cell::new(0),
            }),
        }
    }

    /// Counts a connection as long as it lasts. Put this above a wrapper that learns the peer's
    /// address, such as a PROXY header, and below TLS, so that handshakes count.
    pub fn wrap<S: ByteStream>(&self, stream: S) -> Counted<S> {
        Counted {
            below: stream,
            table: self.table.clone(),
            state: State::Unknown,
        }
    }

    /// How many peers have connections.
    pub fn peers(&self) -> usize {
        self.table.counts.borrow().len()
    }

    /// How many connections have been refused.
    pub fn refused(&self) -> u64 {
        self.table.refused.get()
    }
}

/// A counted connection. Created by [`PerPeer::wrap`].
#[derive(Debug)]
pub struct Counted<S> {
    below: S,
    table: Rc<Table>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The stream is not established.
    Unknown,
    Counted(Peer),
    /// The peer cannot be identified, so the connection is not counted.
    Free,
    Refused,
}

impl<S: ByteStream> Counted<S> {
    fn admit(&self) -> State {
        let Some(peer) = self.peer() else {
            return State::Free;
        };
        let mut counts = self.table.counts.borrow_mut();
        let count = counts.get(&peer).copied().unwrap_or(0);
        if count >= self.table.most {
            self.table.refused.set(self.table.refused.get() + 1);
            return State::Refused;
        }
        counts.insert(peer, count + 1);
        State::Counted(peer)
    }

    fn peer(&self) -> Option<Peer> {
        match self.below.peer_address() {
            Address::Tcp(address) => Some(match address.ip().to_canonical() {
                IpAddr::V4(address) => Peer::V4(address.octets()),
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    Peer::V6([a, b, c, d])
                }
            }),
            Address::Unix(_) => {
                let below: &dyn ByteStream = &self.below;
                peer_user(below).map(Peer::User)
            }
            _ => None,
        }
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        if let State::Counted(peer) = self.state {
            let mut counts = self.table.counts.borrow_mut();
            match counts.get_mut(&peer) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(counts.remove(&peer)),
            }
            if counts.len() * 4 < counts.capacity() {
                counts.shrink_to_fit();
            }
        }
    }
}

impl<S: ByteStream> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        Pin::new(&mut self.below).poll_read(cx, buffer)
    }
}

impl<S: ByteStream> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        Pin::new(&mut self.below).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_established(cx))?;
        Pin::new(&mut self.below).poll_write_vectored(cx, buffers)
    }

    forward_stream!(below: poll_flush, poll_close);
}

impl<S: ByteStream> ByteStream for Counted<S> {
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.below.poll_established(cx))?;
        if let State::Unknown = self.state {
            self.state = self.admit();
        }
        Poll::Ready(match self.state {
            State::Refused => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "this peer already has the maximum number of connections",
            )),
            _ => Ok(()),
        })
    }

    forward_stream!(below: local_address, peer_address, abort, below);
}
