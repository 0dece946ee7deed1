//! Connected pairs of in-memory streams, for tests and for parts of one program that talk to each
//! other.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures_io::{AsyncRead, AsyncWrite};

use super::{Address, ByteStream};
use crate::{reactor::Handle, task::Sleep, wake::WakeSlot};

/// How the connection between a pair of streams behaves. The default is a perfect connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// How long bytes are in flight. Default: zero.
    pub latency: Duration,
    /// Maximum number of bytes that one read returns; zero counts as one. Default: no limit.
    pub fragment: usize,
    /// Maximum number of bytes that are in flight or unread, in each direction; zero counts as one.
    /// Default: 64 KiB.
    pub capacity: usize,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            latency: Duration::ZERO,
            fragment: usize::MAX,
            capacity: 64 * 1024,
        }
    }
}

/// Creates two connected streams.
pub fn pair(handle: &Handle) -> (MemoryStream, MemoryStream) {
    pair_over(handle, Link::default())
}

/// Creates two streams that are connected by the given link.
pub fn pair_over(handle: &Handle, mut link: Link) -> (MemoryStream, MemoryStream) {
    // No byte would ever arrive.
    (link.fragment, link.capacity) = (link.fragment.max(1), link.capacity.max(1));
    let (there, back) = (Rc::new(Pipe::default()), Rc::new(Pipe::default()));
    let end = |inbound: &Rc<Pipe>, outbound: &Rc<Pipe>| MemoryStream {
        handle: handle.clone(),
        link,
        inbound: inbound.clone(),
        outbound: outbound.clone(),
        arrival: None,
        aborting: false,
    };
    (end(&back, &there), end(&there, &back))
}

/// One end of an in-memory connection. Dropping it closes the connection: the peer reads what is in
/// flight, then the end of input.
pub struct MemoryStream {
    handle: Handle,
    link: Link,
    inbound: Rc<Pipe>,
    outbound: Rc<Pipe>,
    /// Runs while a reader waits for bytes in flight.
    arrival: Option<Sleep>,
    aborting: bool,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Bytes and the time of their arrival. An empty segment is the end of input.
    segments: RefCell<VecDeque<(Instant, VecDeque<u8>)>>,
    waiting: Cell<usize>,
    ended: Cell<bool>,
    /// The reader is gone.
    deaf: Cell<bool>,
    /// The connection was cut: reads and writes return this error.
    cut: Cell<Option<io::ErrorKind>>,
    reader: WakeSlot,
    writer: WakeSlot,
}

impl MemoryStream {
    /// Breaks the connection as a network would: both ends fail with an error of this kind, and
    /// bytes in flight are lost.
    pub fn cut(&self, why: io::ErrorKind) {
        self.inbound.cut(why);
        self.outbound.cut(why);
    }
}

impl Pipe {
    fn cut(&self, why: io::ErrorKind) {
        self.cut.set(Some(why));
        self.segments.take();
        self.reader.wake();
        self.writer.wake();
    }

    fn check(&self) -> io::Result<()> {
        self.cut.get().map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Sends bytes. Bytes that arrive at the same time share a segment.
    fn push(&self, bytes: &[u8], arrives: Instant) {
        self.waiting.set(self.waiting.get() + bytes.len());
        let mut segments = self.segments.borrow_mut();
        match segments.back_mut().filter(|last| last.0 == arrives) {
            Some(last) => last.1.extend(bytes),
            None => segments.push_back((arrives, bytes.iter().copied().collect())),
        }
        drop(segments);
        self.reader.wake();
    }

    fn end(&self, arrives: Instant) {
        if !self.ended.replace(true) {
            self.segments
                .borrow_mut()
                .push_back((arrives, VecDeque::new()));
            self.reader.wake();
        }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let pipe = &this.inbound;
        pipe.check()?;
        let arrives = pipe.segments.borrow().front().map(|segment| segment.0);
        let Some(arrives) = arrives else {
            pipe.reader.register(cx.waker());
            return Poll::Pending;
        };
        if arrives > this.handle.now() {
            pipe.reader.register(cx.waker());
            let arrival = this
                .arrival
                .get_or_insert_with(|| this.handle.sleep_until(arrives));
            if arrival.deadline() != arrives {
                arrival.reset(arrives);
            }
            ready!(Pin::new(arrival).poll(cx));
        }
        this.arrival = None;
        if !this.handle.spend(1) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut segments = pipe.segments.borrow_mut();
        let Some((_, bytes)) = segments.front_mut() else {
            return Poll::Pending;
        };
        let count = bytes.len().min(buffer.len()).min(this.link.fragment);
        for (place, byte) in buffer.iter_mut().zip(bytes.drain(..count)) {
            *place = byte;
        }
        // The end of input stays in the queue, to be read again.
        if count > 0 && bytes.is_empty() {
            segments.pop_front();
        }
        drop(segments);
        pipe.waiting.set(pipe.waiting.get() - count);
        pipe.writer.wake();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = &self.outbound;
        pipe.check()?;
        if pipe.ended.get() || pipe.deaf.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.link.capacity.saturating_sub(pipe.waiting.get());
        if room == 0 {
            pipe.writer.register(cx.waker());
            return Poll::Pending;
        }
        let bytes = &buffer[..buffer.len().min(room)];
        if !bytes.is_empty() {
            pipe.push(bytes, self.handle.after(self.link.latency));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbound.end(self.handle.after(self.link.latency));
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for MemoryStream {
    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn peer_address(&self) -> Address {
        Address::Unknown
    }

    fn abort(&mut self) {
        self.aborting = true;
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.inbound.deaf.set(true);
        self.inbound.writer.wake();
        if self.aborting {
            self.outbound.cut(io::ErrorKind::ConnectionReset);
        } else {
            self.outbound.end(self.handle.after(self.link.latency));
        }
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream")
            .field("unread", &self.inbound.waiting.get())
            .field("untaken", &self.outbound.waiting.get())
            .finish()
    }
}
