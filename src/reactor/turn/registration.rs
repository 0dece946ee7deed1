//! Sources of readiness, registered as long as they live.

use std::{
    cell::{Cell, OnceCell},
    fmt,
    future::poll_fn,
    io,
    os::fd::AsFd,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use slotmap::{DefaultKey, Key as _, KeyData};

use super::{Core, Handle};
use crate::{
    address::Address,
    reactor::{
        backend::{Interest, Key, Readiness},
        observe::ConnectionInfo,
    },
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

/// What is known of a source, shared by its owner and the reactor. Each direction has a waker of
/// its own, so that neither loses a wake-up to the other.
#[derive(Default)]
pub(crate) struct Source {
    readiness: Cell<Readiness>,
    reader: WakeSlot,
    writer: WakeSlot,
    /// There when it is a connection.
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

/// An object with a file descriptor, watched by a reactor.
///
/// The fd must be in non-blocking mode. Dropping this stops the watch and then closes the object,
/// in this order; an event for it that was already taken is lost, and one for a later object with
/// the same number never comes here.
///
/// One task at a time may wait for each direction; a later one takes the place of an earlier.
pub struct Registration<T: AsFd> {
    /// There until it is given back.
    object: Option<T>,
    source: Rc<Source>,
    core: Rc<Core>,
    key: Key,
    interest: Interest,
}

impl<T: AsFd> Registration<T> {
    /// Begins to watch `object`.
    ///
    /// # Errors
    /// [`RegistrationError`] gives the object back: a bad fd, one that cannot be watched (a regular
    /// file), or a limit of the system.
    pub fn new(
        handle: &Handle,
        object: T,
        interest: Interest,
    ) -> Result<Self, RegistrationError<T>> {
        let core = handle.core().clone();
        let source = Rc::new(Source::default());
        let slot = core.sources.borrow_mut().insert(source.clone());
        let key = Key::from_u64(slot.data().as_ffi());
        match core.reactor.watch(object.as_fd(), key, interest) {
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

    /// Takes both directions for ready until they say otherwise: spares a new socket the first
    /// wait.
    pub(crate) fn assume_ready(self, readiness: Readiness) -> Self {
        self.source
            .readiness
            .set(self.source.readiness.get() | readiness);
        self
    }

    /// It is a connection with this peer.
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

    /// Who is at the other end, if it is a connection.
    pub(crate) fn peer(&self) -> &Address {
        self.source
            .connected
            .get()
            .map_or(&Address::Unknown, |connected| &connected.peer)
    }

    /// The object.
    pub fn object(&self) -> &T {
        self.object.as_ref().expect("it is there until into_inner")
    }

    /// The handle of the reactor that watches it.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.clone())
    }

    /// Stops the watch and gives the object back.
    pub fn into_inner(mut self) -> T {
        self.unwatch();
        self.object.take().expect("it is there until into_inner")
    }

    /// Ready when an operation in this direction should not block, or the task has had its share of
    /// the turn (then the task is woken again at once). An operation that blocks all the same is
    /// answered by [`clear`](Registration::clear).
    pub fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<()> {
        if !self.source.is_ready(direction) {
            self.source.wait(direction, cx.waker());
            return Poll::Pending;
        }
        if self.core.tasks.spend(1) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The direction would block: wait for the next report.
    pub fn clear(&self, direction: Direction) {
        let (bits, interest) = match direction {
            Direction::Read => (
                Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR,
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
        if let Err(error) = self
            .core
            .reactor
            .rearm(self.object().as_fd(), self.key, interest)
        {
            // The next operation meets the error, so let there be one.
            tracing::debug!(%error, "a source cannot be armed again");
            self.source.became_ready(Readiness::ERROR);
        }
    }

    /// A read gave less than it was offered room for: on a TCP socket nothing is left (epoll(7),
    /// question 9), unless the peer has ended its direction.
    pub(crate) fn drained(&self) {
        if !self
            .source
            .readiness
            .get()
            .intersects(Readiness::READ_CLOSED | Readiness::ERROR)
        {
            self.clear(Direction::Read);
        }
    }

    /// Does `operation` as soon as it does not block. [`WouldBlock`](io::ErrorKind::WouldBlock) and
    /// [`Interrupted`](io::ErrorKind::Interrupted) are taken care of.
    pub fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            std::task::ready!(self.poll_ready(cx, direction));
            match operation(self.object()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(direction),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Does `operation` as soon as it does not block; see [`poll_io`](Registration::poll_io).
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

    /// Counts bytes, and takes them from the task's share of the turn.
    pub(crate) fn moved(&self, direction: Direction, bytes: usize) {
        self.spent(direction, 0, bytes);
    }

    /// Counts bytes, and takes them and operations beyond the first from the task's share of the
    /// turn.
    pub(crate) fn spent(&self, direction: Direction, operations: usize, bytes: usize) {
        self.count(direction, bytes);
        self.core
            .tasks
            .spend((operations + bytes / BYTES_A_UNIT) as u32);
    }

    /// Counts bytes.
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
        self.core.sources.borrow_mut().remove(slot(self.key));
        if self.source.connected.get().is_some() {
            self.core.connections.set(self.core.connections.get() - 1);
        }
        if let Err(error) = self.core.reactor.unwatch(object.as_fd(), self.key) {
            // Somebody closed the fd behind our back; the kernel then forgot it by itself.
            tracing::debug!(%error, "a source was gone before it was unwatched");
        }
    }
}

/// So many bytes cost a task as much of its share as one operation.
const BYTES_A_UNIT: usize = 16 * 1024;

impl<T: AsFd> Drop for Registration<T> {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Registration<T> {
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

pub(crate) fn slot(key: Key) -> DefaultKey {
    KeyData::from_ffi(key.to_u64()).into()
}

/// An object that could not be watched, and why.
#[derive(Debug)]
pub struct RegistrationError<T> {
    /// The object.
    pub object: T,
    /// Why.
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
