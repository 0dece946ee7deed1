//! Sending and receiving many datagrams at a time.

use std::{
    fmt,
    io::{self, IoSlice},
};

use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketAddrAny, addr::SocketAddrArg},
};

use super::{
    Address, ReceivedDatagram,
    sys::{self, Headers},
};

/// Reusable buffers for datagrams that are received together: with one system call on Linux.
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
    /// How many are received at a time.
    limit: usize,
    size: usize,
    buffer: Vec<u8>,
    received: Vec<ReceivedDatagram>,
    headers: Headers,
}

/// Longer datagrams than any system has: Linux allows Unix sockets some hundred KiB.
const LONGEST: usize = 4 * 1024 * 1024;

/// Maximum size of a batch. More gains little, and one batch is one step of a task.
pub(super) const MOST: usize = 64;

impl Batch {
    /// Creates a batch for up to `most` datagrams (1 to 64) of up to `size` bytes each (1 to
    /// 4 Mi). Longer datagrams are [truncated](ReceivedDatagram::truncated).
    ///
    /// It reserves `most` times `size` bytes of address space, but only uses as much memory as
    /// datagrams have filled.
    pub fn new(most: usize, size: usize) -> Self {
        let (most, size) = (most.clamp(1, MOST), size.clamp(1, LONGEST));
        let buffer = vec![0; most * size];
        Batch {
            most,
            limit: most,
            size,
            buffer,
            received: Vec::with_capacity(most),
            headers: Headers::default(),
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

    /// Limits how many datagrams are received at a time.
    pub(crate) fn limit(&mut self, most: usize) {
        self.limit = most.clamp(1, self.most);
    }

    /// Receives at least one datagram, and as many as are queued and fit.
    pub(super) fn receive(
        &mut self,
        socket: &OwnedFd,
        family: AddressFamily,
        told: impl Fn(Option<SocketAddrAny>) -> Address,
    ) -> io::Result<usize> {
        self.received.clear();
        let buffer = &mut self.buffer[..self.limit * self.size];
        let room = (buffer, self.size, self.most);
        match self
            .headers
            .receive_all(socket, family, room, &mut self.received)
        {
            Some(result) => result.map(|()| self.received.len()),
            None => self.receive_each(socket, told),
        }
    }

    /// Receives one by one.
    fn receive_each(
        &mut self,
        socket: &OwnedFd,
        told: impl Fn(Option<SocketAddrAny>) -> Address,
    ) -> io::Result<usize> {
        while self.received.len() < self.limit {
            let buffer = &mut self.buffer[self.received.len() * self.size..][..self.size];
            match sys::receive(socket, buffer) {
                Ok(message) => self.received.push(ReceivedDatagram {
                    count: message.count,
                    from: told(message.from),
                    truncated: message.truncated,
                }),
                // The next call returns the error again.
                Err(_) if !self.received.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.received.len())
    }
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
    if slices.is_empty() {
        return Ok(0);
    }
    sys::send_all(socket, &slices, &addresses)
}

/// Converts the address to the system's form.
pub(super) fn socket_address(to: &Address) -> io::Result<SocketAddrAny> {
    let wrong = || {
        let message = format!("this socket cannot send datagrams to {to}");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    match to {
        Address::Udp(to) => Ok(to.as_any()),
        Address::Unix(to) => sys::unix_address(to).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}
