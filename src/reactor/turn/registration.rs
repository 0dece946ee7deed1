//! Sources of readiness, registered for as long as they live.

use std::{
    cell::{Cell, OnceCell},
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{Core, Handle};
use crate::{
    address::Address,
    reactor::{
        backend::{AsSource, Interest, Key, Readiness},
        observe::ConnectionInfo,
    },
    sys::borrow,
    wake::WakeSlot,
};

/// One of a source's two directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Reading, or accepting.
    Read,
    /// Writing, or finishing to connect.
    Write,
}

/// The state of a source, shared by its owner and the reactor. Each direction has its own waker, so
/// that neither loses a wake-up to the other.
#[derive(Default)]
pub(crate) struct Source {
    readiness: Cell<Readiness>,
    reader: WakeSlot,
    writer: WakeSlot,
    /// Set if the source is a connection.
    connected: OnceCell<Connected>,
}

struct Connected {
    peer: Address,
    since: Instant,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Source {
    pub(crate) fn connection(&self) -> Option<ConnectionInfo> {
        let Connected {
            peer,
            since,
            received,
            sent,
        } = self.connected.get()?;
        Some(ConnectionInfo {
            peer: peer.clone(),
            since: *since,
            received: received.get(),
            sent: sent.get(),
        })
    }

    pub(crate) fn became_ready(&self, readiness: Readiness) {
        self.readiness.set(self.readiness.get() | readiness);
        if readiness.is_readable() {
            self.reader.wake_and_keep();
        }
        if readiness.is_writable() {
            self.writer.wake_and_keep();
        }
    }

    fn is_ready(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readiness.get().is_readable(),
            Direction::Write => self.readiness.get().is_writable(),
        }
    }

    fn wait(&self, direction: Direction, waker: &Waker) {
        match direction {
            Direction::Read => self.reader.register(waker),
            Direction::Write => self.writer.register(waker),
        }
    }
}

/// An object with a file descriptor (on Windows, with a socket) that a reactor watches.
///
/// The fd must be in non-blocking mode. Dropping this stops watching the fd and then closes the
/// object, in this order. An event that was already fetched for it is dropped, and an event for a
/// later object with the same fd number never arrives here.
///
/// One task at a time may wait for each direction. A later task replaces an earlier one.
pub struct Registration<T: AsSource> {
    /// Present until it is handed back.
    object: Option<T>,
    source: Rc<Source>,
    core: Rc<Core>,
    key: Key,
    interest: Interest,
}

impl<T: AsSource> Registration<T> {
    /// Starts watching `object`.
    ///
    /// # Errors
    /// [`RegistrationError`], which contains the object: a bad fd, an fd that cannot be watched
    /// (such as a regular file's), or a system limit.
    pub fn new(
        handle: &Handle,
        object: T,
        interest: Interest,
    ) -> Result<Self, RegistrationError<T>> {
        let core = handle.core().clone();
        let source = Rc::new(Source::default());
        let slot = core.sources.borrow_mut().insert(source.clone());
        let key = core.keys.key(slot);
        match core.reactor.watch(borrow(&object), key, interest) {
            Ok(()) => Ok(Registration {
                object: Some(object),
                source,
                core,
                key,
                interest,
            }),
            Err(error) => {
                core.sources.borrow_mut().remove(slot);
                Err(RegistrationError { object, error })
            }
        }
    }

    /// Treats these directions as ready until an operation returns `WouldBlock`. This saves a new
    /// socket the first wait.
    pub(crate) fn assume_ready(self, readiness: Readiness) -> Self {
        self.source
            .readiness
            .set(self.source.readiness.get() | readiness);
        self
    }

    /// Marks it as a connection to this peer.
    pub(crate) fn connected(self, peer: Address) -> Self {
        let (received, sent) = Default::default();
        let connected = Connected {
            peer,
            since: self.core.time.get(),
            received,
            sent,
        };
        if self.source.connected.set(connected).is_ok() {
            self.core.connections.set(self.core.connections.get() + 1);
            self.core
                .meter
                .connected
                .set(self.core.meter.connected.get() + 1);
        }
        self
    }

    /// The peer's address, if it is a connection.
    pub(crate) fn peer(&self) -> &Address {
        self.source
            .connected
            .get()
            .map_or(&Address::Unknown, |connected| &connected.peer)
    }

    /// The watched object.
    pub fn object(&self) -> &T {
        self.object.as_ref().expect("it is there until into_inner")
    }

    /// A handle to the reactor that watches it.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.clone())
    }

    /// Stops watching the object and returns it.
    pub fn into_inner(mut self) -> T {
        self.unwatch();
        self.object.take().expect("it is there until into_inner")
    }

    /// Ready if an operation in this direction should not block. Pending if it would, and also if
    /// the task has used up its budget; then the task is woken again at once. If an operation
    /// blocks nevertheless, call [`clear`](Registration::clear).
    pub fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<()> {
        if !self.source.is_ready(direction) {
            self.source.wait(direction, cx.waker());
            return Poll::Pending;
        }
        if crate::share::spend(1) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Records that the direction would block, so that the next wait is for a new event. If the
    /// reactor cannot do that, the direction stays ready.
    pub fn clear(&self, direction: Direction) {
        if let Err(error) = self.arm_again(direction) {
            tracing::debug!(%error, "a source cannot be armed again");
        }
    }

    fn arm_again(&self, direction: Direction) -> io::Result<()> {
        let (bits, interest) = match direction {
            Direction::Read => (
                Readiness::READABLE
                    | Readiness::READ_CLOSED
                    | Readiness::ERROR
                    | Readiness::PRIORITY,
                Interest::READABLE,
            ),
            Direction::Write => (
                Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::ERROR,
                Interest::WRITABLE,
            ),
        };
        self.source
            .readiness
            .set(self.source.readiness.get().without(bits));
        let object = borrow(self.object());
        let armed = self.core.reactor.rearm(object, self.key, interest);
        if armed.is_err() {
            // No event would tell of anything any more.
            self.source.became_ready(Readiness::ERROR);
        }
        armed
    }

    /// A read from a TCP socket was shorter than its buffer. If nothing tells of more, the next
    /// wait is for a new event: what arrives later is an event of its own, with its urgent data,
    /// end or error.
    pub(crate) fn read_was_short(&self) {
        let more = Readiness::READ_CLOSED | Readiness::ERROR | Readiness::PRIORITY;
        if self.core.reactor.reports_priority() && !self.source.readiness.get().intersects(more) {
            self.clear(Direction::Read);
        }
    }

    /// Runs `operation` as soon as it does not block. Handles
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) and [`Interrupted`](io::ErrorKind::Interrupted).
    pub fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            std::task::ready!(self.poll_ready(cx, direction));
            match operation(self.object()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.arm_again(direction) {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Runs `operation` as soon as it does not block; see [`poll_io`](Registration::poll_io).
    pub async fn io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| self.poll_io(cx, direction, &mut operation)).await
    }

    /// Waits until the direction is ready.
    pub async fn ready(&self, direction: Direction) {
        poll_fn(|cx| self.poll_ready(cx, direction)).await;
    }

    /// Records the bytes and charges them to the task's budget.
    pub(crate) fn moved(&self, direction: Direction, bytes: usize) {
        self.spent(direction, 0, bytes);
    }

    /// Records the bytes and charges bytes and extra operations to the task's budget.
    pub(crate) fn spent(&self, direction: Direction, operations: usize, bytes: usize) {
        self.count(direction, bytes);
        let _ = crate::share::spend((operations + bytes / BYTES_A_UNIT) as u32);
    }

    /// Records the bytes.
    pub(crate) fn count(&self, direction: Direction, bytes: usize) {
        let (meter, connected) = (&self.core.meter, self.source.connected.get());
        let (all, own) = match direction {
            Direction::Read => (
                &meter.received,
                connected.map(|connected| &connected.received),
            ),
            Direction::Write => (&meter.sent, connected.map(|connected| &connected.sent)),
        };
        all.set(all.get() + bytes as u64);
        if let Some(own) = own {
            own.set(own.get() + bytes as u64);
        }
    }

    fn unwatch(&mut self) {
        let Some(object) = &self.object else { return };
        let slot = self.core.keys.slot(self.key);
        self.core.sources.borrow_mut().remove(slot);
        if self.source.connected.get().is_some() {
            self.core.connections.set(self.core.connections.get() - 1);
        }
        if let Err(error) = self.core.reactor.unwatch(borrow(object), self.key) {
            // Someone closed the fd without our knowledge; the kernel has already removed it.
            tracing::debug!(%error, "a source was gone before it was unwatched");
        }
    }
}

/// Bytes that cost a task as much of its budget as one operation.
const BYTES_A_UNIT: usize = 16 * 1024;

impl<T: AsSource> Drop for Registration<T> {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl<T: AsSource + fmt::Debug> fmt::Debug for Registration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registration {
            object,
            source,
            interest,
            ..
        } = self;
        f.debug_struct("Registration")
            .field("object", object)
            .field("interest", interest)
            .field("readiness", &source.readiness.get())
            .finish()
    }
}

/// An object that could not be watched, and the reason.
#[derive(Debug)]
pub struct RegistrationError<T> {
    /// The object.
    pub object: T,
    /// The reason.
    pub error: io::Error,
}

impl<T> fmt::Display for RegistrationError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this file descriptor cannot be watched for readiness")
    }
}

impl<T: fmt::Debug> std::error::Error for RegistrationError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<RegistrationError<T>> for io::Error {
    fn from(error: RegistrationError<T>) -> Self {
        error.error
    }
}
