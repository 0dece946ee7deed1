//! Sending and receiving many datagrams with one system call: recvmmsg(2) and sendmmsg(2).

use std::{
    fmt,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
use rustix::net::{
    MMsgHdr, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrAny, addr::SocketAddrArg, recvmsg, sendmmsg,
};

use super::Address;

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram {
    /// Number of bytes in the buffer.
    pub count: usize,
    /// The sender.
    pub from: Address,
    /// Whether the datagram was longer than the buffer, so that its end is lost.
    pub truncated: bool,
}

/// Reusable buffers for datagrams that are received with one system call.
///
/// ```
/// use entwined::{Standalone, transport::{Batch, udp}};
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let server = udp::bind(&handle, "127.0.0.1:0")?;
/// let client = udp::connect(&handle, server.local_address().udp().expect("UDP"))?;
///
/// handle.clone().spawn(async move {
///     let mut sent = 0;
///     while sent < 3 {
///         let datagrams = [(&b"one"[..], None), (b"two", None), (b"three", None)];
///         sent += client.send_batch(&datagrams[sent..]).await.expect("sent");
///     }
///     let mut batch = Batch::new(32, 1_500);
///     let mut seen = 0;
///     while seen < 3 {
///         server.receive_batch(&mut batch).await.expect("datagrams");
///         for (bytes, received) in &batch {
///             println!("{} bytes from {}", bytes.len(), received.from);
///             seen += 1;
///         }
///     }
///     handle.stop();
/// });
/// reactor.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch {
    most: usize,
    size: usize,
    buffer: Vec<u8>,
    received: Vec<ReceivedDatagram>,
    v4: Option<MultiHeaders<SockaddrIn>>,
    v6: Option<MultiHeaders<SockaddrIn6>>,
}

/// Maximum size of a batch. More gains little, and one batch is one step of a task.
pub(super) const MOST: usize = 64;

impl Batch {
    /// Creates a batch for up to `most` datagrams (1 to 64) of up to `size` bytes each. Longer
    /// datagrams are [truncated](ReceivedDatagram::truncated).
    ///
    /// It reserves `most` times `size` bytes of address space, but only uses as much memory as
    /// datagrams have filled.
    pub fn new(most: usize, size: usize) -> Self {
        let most = most.clamp(1, MOST);
        let buffer = vec![0; most * size];
        Batch {
            most,
            size,
            buffer,
            received: Vec::with_capacity(most),
            v4: None,
            v6: None,
        }
    }

    /// How many datagrams the last call received.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last call received no datagrams.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How many datagrams fit into the batch.
    pub fn capacity(&self) -> usize {
        self.most
    }

    /// The bytes and the metadata of a datagram from the last call, by its index in the batch.
    pub fn get(&self, index: usize) -> Option<(&[u8], &ReceivedDatagram)> {
        let received = self.received.get(index)?;
        Some((
            &self.buffer[index * self.size..][..received.count],
            received,
        ))
    }

    /// The datagrams of the last call, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &ReceivedDatagram)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Receives from a UDP socket over IPv4 or IPv6.
    pub(super) fn receive_udp(&mut self, socket: &OwnedFd, v6: bool) -> io::Result<usize> {
        let Batch {
            most,
            size,
            buffer,
            received,
            ..
        } = self;
        received.clear();
        if v6 {
            let headers = self
                .v6
                .get_or_insert_with(|| MultiHeaders::preallocate(*most, None));
            receive(socket, headers, buffer, *size, received, |from| {
                Address::Udp((*from).into())
            })
        } else {
            let headers = self
                .v4
                .get_or_insert_with(|| MultiHeaders::preallocate(*most, None));
            receive(socket, headers, buffer, *size, received, |from| {
                Address::Udp((*from).into())
            })
        }
    }

    /// Receives one by one, from sockets whose addresses have no fixed length.
    pub(super) fn receive_each(
        &mut self,
        socket: &OwnedFd,
        told: impl Fn(Option<SocketAddrAny>) -> Address,
    ) -> io::Result<usize> {
        self.received.clear();
        while self.received.len() < self.most {
            let buffer = &mut self.buffer[self.received.len() * self.size..][..self.size];
            let mut control = RecvAncillaryBuffer::default();
            match recvmsg(
                socket,
                &mut [IoSliceMut::new(buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(message) => self.received.push(ReceivedDatagram {
                    count: message.bytes,
                    from: told(message.address),
                    truncated: message.flags.contains(ReturnFlags::TRUNC),
                }),
                // The next call returns the error again.
                Err(_) if !self.received.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.received.len())
    }
}

fn receive<S: SockaddrLike + Copy>(
    socket: &OwnedFd,
    headers: &mut MultiHeaders<S>,
    buffer: &mut [u8],
    size: usize,
    received: &mut Vec<ReceivedDatagram>,
    told: impl Fn(&S) -> Address,
) -> io::Result<usize> {
    let mut slices: Vec<_> = buffer
        .chunks_exact_mut(size.max(1))
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
    Ok(received.len())
}

impl<'a> IntoIterator for &'a Batch {
    type Item = (&'a [u8], &'a ReceivedDatagram);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// Sends datagrams until the system accepts no more. An unusable address is an error only if it is
/// the first; otherwise the batch ends before it.
pub(super) fn send<'a>(
    socket: &OwnedFd,
    datagrams: impl Iterator<Item = (&'a [u8], Option<&'a Address>)>,
) -> io::Result<usize> {
    let mut slices = Vec::with_capacity(MOST);
    let mut addresses = Vec::with_capacity(MOST);
    for (bytes, to) in datagrams.take(MOST) {
        match to.map(socket_address).transpose() {
            Ok(to) => addresses.push(to),
            Err(error) if addresses.is_empty() => return Err(error),
            Err(_) => break,
        }
        slices.push([IoSlice::new(bytes)]);
    }
    let mut controls: Vec<_> = slices
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<_> = slices
        .iter()
        .zip(&addresses)
        .zip(&mut controls)
        .map(|((slice, to), control)| match to {
            Some(to) => MMsgHdr::new_with_addr(to, slice, control),
            None => MMsgHdr::new(slice, control),
        })
        .collect();
    if messages.is_empty() {
        return Ok(0);
    }
    Ok(sendmmsg(socket, &mut messages, SendFlags::NOSIGNAL)?)
}

/// Converts the address to the system's form.
pub(super) fn socket_address(to: &Address) -> io::Result<SocketAddrAny> {
    let wrong = || {
        let message = format!("this socket cannot send datagrams to {to}");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    match to {
        Address::Udp(to) => Ok(to.as_any()),
        Address::Unix(to) => Ok(to.to_socket_address().ok_or_else(wrong)?.as_any()),
        _ => Err(wrong()),
    }
}
