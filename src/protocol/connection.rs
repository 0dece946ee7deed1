//! The protocol's handle to a connection.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    rc::Rc,
    task::Context,
    time::{Duration, Instant},
};

use crate::{
    reactor::Handle,
    transport::{Address, ByteStream},
    wake::WakeSlot,
};

/// How many bytes may be queued for the peer, and how long the peer may take.
///
/// All fields are public, so that a value can be written as
/// `Config { max_queued: 4 << 20, ..Config::default() }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Above this many queued bytes the producer is told to pause. Default: 64 KiB.
    pub high_water: usize,
    /// At this many queued bytes or fewer the producer is told to resume. Default: 16 KiB.
    pub low_water: usize,
    /// Above this many queued bytes the connection ends with
    /// [`Lost::Overflow`](super::Lost::Overflow). Default: 1 MiB.
    pub max_queued: usize,
    /// How long the peer has after [`Connection::close`] to take what is queued; and how long one
    /// that takes no more is still heard, a second of it while reading is paused. Default: 30 s.
    pub close_timeout: Duration,
    /// How long the stream may take to be
    /// [established](crate::transport::ByteStream::poll_established), for example for a handshake.
    /// Default: 10 s.
    pub establish_timeout: Duration,
    /// How long no byte may move in either direction while this side waits for the peer: to send,
    /// or to take what is queued. After that the connection ends with
    /// [`Lost::Idle`](super::Lost::Idle). The time during which reading is
    /// [paused](Connection::pause_reading) and nothing is queued does not count. `None` is for
    /// ever: a peer that is silent keeps its place. Default: `None`.
    pub idle_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            high_water: 64 * 1024,
            low_water: 16 * 1024,
            max_queued: 1024 * 1024,
            close_timeout: Duration::from_secs(30),
            establish_timeout: Duration::from_secs(10),
            idle_timeout: None,
        }
    }
}

/// The outcome of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The bytes were queued; there is room for more.
    Open,
    /// The bytes were queued; pause until [`resume_writing`](super::Protocol::resume_writing).
    Full,
    /// The bytes were dropped: the connection is closed or closing, or this write exceeded
    /// [`Config::max_queued`] and ended it.
    Closed,
}

/// A protocol's handle to its connection. It is cheap to clone, and its methods do nothing after
/// the connection is lost.
///
/// The methods never block and never call back into the protocol: the reactor delivers what follows
/// later. Bytes written in a callback are sent together when it returns. Bytes written elsewhere
/// (such as in a GUI callback) are sent in the next turn.
#[derive(Clone)]
pub struct Connection {
    pub(super) shared: Rc<Shared>,
}

/// State shared by a connection and its connection.
pub(super) struct Shared {
    pub(super) handle: Handle,
    /// Present until the connection is over.
    pub(super) stream: RefCell<Option<Box<dyn ByteStream>>>,
    pub(super) outbound: RefCell<Outbound>,
    pub(super) config: Cell<Config>,
    pub(super) local: Address,
    pub(super) peer: Address,
    /// The peer's address as reported by a wrapper once it was established, if that differs.
    pub(super) true_peer: OnceCell<Address>,
    /// The wrapper that waits to be added.
    pub(super) upgrade: RefCell<Option<Upgrade>>,
    pub(super) ending: Cell<Ending>,
    pub(super) reading_paused: Cell<bool>,
    /// Whether the protocol still has to be told that reading resumed.
    pub(super) reading_resumed: Cell<bool>,
    /// What the producer was last told.
    pub(super) told: Cell<Told>,
    /// Wakes the connection's task.
    pub(super) waker: WakeSlot,
    /// Whether a callback of this connection is on the stack. If so, the task checks everything
    /// after it and need not be woken.
    pub(super) in_callback: Cell<bool>,
    /// Whether the task, or the end, has found the stream in use by a question.
    pub(super) missed: Cell<bool>,
    /// When bytes last moved, in either direction.
    pub(super) moved: Cell<Instant>,
    /// What is called when all that has arrived has been read.
    pub(super) quiet: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// A wrapper to be added once everything written before it has been sent.
pub(super) struct Upgrade {
    pub(super) wrap: Wrap,
    /// How many of the queued bytes are sent before the wrapper is added.
    pub(super) before: usize,
}

type Wrap = Box<dyn FnOnce(Box<dyn ByteStream>) -> Box<dyn ByteStream>>;

/// What the producer was last told about room in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// There is room.
    Open,
    /// A write returned [`Flow::Full`]. The producer must be told when there is room again.
    Full,
    /// `pause_writing` was called as well, because the peer did not take what was written.
    Pause,
}

/// The ending that this side has requested. A state can only be followed by a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ending {
    /// None.
    Not,
    /// End the write direction after sending what is queued.
    HalfClose,
    /// Close after sending what is queued.
    Close,
    /// End because too much was written.
    Overflow,
    /// End at once.
    Abort,
    /// The connection is over.
    Lost,
}

impl Connection {
    /// Queues `data` to be sent. Never blocks. After [`end`](Connection::end) or
    /// [`close`](Connection::close), or when the connection is over, it drops the data and returns
    /// [`Flow::Closed`].
    pub fn write(&self, data: &[u8]) -> Flow {
        let shared = &self.shared;
        if shared.ending.get() != Ending::Not {
            return Flow::Closed;
        }
        let mut outbound = shared.outbound.borrow_mut();
        let config = shared.config.get();
        if outbound.len() + data.len() > config.max_queued {
            drop(outbound);
            shared.end(Ending::Overflow);
            return Flow::Closed;
        }
        outbound.push(data);
        let waiting = outbound.len();
        drop(outbound);
        shared.wake();
        if waiting <= config.high_water {
            return Flow::Open;
        }
        if shared.told.get() == Told::Open {
            shared.told.set(Told::Full);
        }
        Flow::Full
    }

    /// Writes several pieces, as if by calling [`write`](Connection::write) for each.
    pub fn write_all(&self, pieces: &[&[u8]]) -> Flow {
        pieces.iter().fold(Flow::Open, |_, piece| self.write(piece))
    }

    /// Number of bytes written but not yet sent.
    pub fn unsent(&self) -> usize {
        self.shared.outbound.borrow().len()
    }

    /// Closes the connection after sending what is queued. Nothing more is received. Does nothing
    /// if the connection is already closing.
    pub fn close(&self) {
        self.shared.end(Ending::Close);
    }

    /// Ends the write direction after sending what is queued. The peer sees the end of input and
    /// can still send.
    pub fn end(&self) {
        self.shared.end(Ending::HalfClose);
    }

    /// Ends the connection at once: unsent bytes are dropped and the peer sees a reset. Does
    /// nothing if the connection is already over.
    pub fn abort(&self) {
        self.shared.end(Ending::Abort);
    }

    /// Receives nothing until [`resume_reading`](Connection::resume_reading). Once the system's
    /// buffers are full, this exerts backpressure on the peer. While paused, the end of the peer's
    /// input is not noticed either.
    pub fn pause_reading(&self) {
        self.shared.reading_paused.set(true);
    }

    /// Receives again. The protocol's [`reading_resumed`](super::Protocol::reading_resumed) is
    /// called first.
    pub fn resume_reading(&self) {
        if self.shared.reading_paused.replace(false) {
            self.shared.reading_resumed.set(true);
            self.shared.wake();
        }
    }

    /// Calls the protocol's [`reading_resumed`](super::Protocol::reading_resumed) when others have
    /// had a turn, and receives nothing before that.
    pub(crate) fn continue_later(&self) {
        self.shared.reading_resumed.set(true);
        self.shared.wake();
    }

    /// Calls `check` once, when all that has arrived by now has been read and handled. A protocol
    /// that ends idle connections by a timer asks it then: if the host held the thread for longer
    /// than the timer, what the peer has sent meanwhile is read first, and the peer is not late.
    ///
    /// `check` is a callback of the connection: it is called after this returns, never while
    /// another callback of the connection is on the stack, and a panic in it ends the connection.
    /// It is not called if the connection ends before. While reading is paused it does not wait for
    /// what has arrived.
    pub fn when_quiet(&self, check: impl FnOnce() + 'static) {
        if self.shared.ending.get() != Ending::Lost {
            self.shared.quiet.borrow_mut().push(Box::new(check));
            self.shared.wake();
        }
    }

    /// Whether reading is paused by [`pause_reading`](Connection::pause_reading).
    pub fn is_reading_paused(&self) -> bool {
        self.shared.reading_paused.get()
    }

    /// Wraps the stream of this connection, as STARTTLS does. Bytes already written are sent
    /// without the wrapper; bytes written from now on are sent through it. Nothing is received
    /// until the wrapper is in place. [`upgraded`](super::Protocol::upgraded) is called once it is
    /// [established](ByteStream::poll_established). If that fails, or takes longer than
    /// [`Config::establish_timeout`], together with sending what was written before, the connection
    /// is lost.
    ///
    /// Call this in the callback that received the request to upgrade, and ignore the rest of the
    /// bytes passed to that callback. Bytes that follow the request without waiting arrived
    /// unencrypted, so anybody may have sent them (RFC 3207, section 6).
    ///
    /// Does nothing if the connection is ending, or if another upgrade is pending.
    pub fn upgrade<S: ByteStream>(&self, wrap: impl FnOnce(Box<dyn ByteStream>) -> S + 'static) {
        let mut upgrade = self.shared.upgrade.borrow_mut();
        if self.shared.ending.get() != Ending::Not || upgrade.is_some() {
            return;
        }
        let wrap = Box::new(|stream| -> Box<dyn ByteStream> { Box::new(wrap(stream)) });
        *upgrade = Some(Upgrade {
            wrap,
            before: self.unsent(),
        });
        drop(upgrade);
        self.shared.wake();
    }

    /// Whether [`upgrade`](Connection::upgrade) was called and its wrapper is not in place yet.
    pub fn is_upgrading(&self) -> bool {
        self.shared.upgrade.borrow().is_some()
    }

    /// Whether the connection is over or about to end.
    pub fn is_closing(&self) -> bool {
        self.shared.ending.get() >= Ending::Close
    }

    /// Changes the config. A new [`idle_timeout`](Config::idle_timeout) counts from now.
    pub fn set_config(&self, config: Config) {
        self.shared.config.set(config);
        self.shared.moved.set(self.shared.handle.now());
        self.shared.wake();
    }

    /// The current config.
    pub fn config(&self) -> Config {
        self.shared.config.get()
    }

    /// The address of this end.
    pub fn local_address(&self) -> &Address {
        &self.shared.local
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> &Address {
        self.shared.true_peer.get().unwrap_or(&self.shared.peer)
    }

    /// The handle of the reactor that the connection runs on.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Calls `question` with the stream of type `S` below this connection, for example to query its
    /// options, the peer's credentials or received file descriptors. Returns `None` if there is no
    /// such stream or the connection is over.
    ///
    /// `question` must not use this connection. If it runs the loop, nothing is read from the
    /// connection, or sent, meanwhile.
    ///
    /// ```
    /// # use entwined::{protocol::Connection, transport::Stream};
    /// fn user(connection: &Connection) -> Option<u32> {
    ///     let credentials = connection.ask(|stream: &Stream| stream.peer_credentials())?.ok()?;
    ///     Some(credentials.uid)
    /// }
    /// ```
    pub fn ask<S: ByteStream, R>(&self, question: impl FnOnce(&S) -> R) -> Option<R> {
        // Dropped after the borrow.
        let _asked = Asked(&self.shared);
        let stream = self.shared.stream.borrow();
        stream.as_ref()?.find::<S>().map(question)
    }
}

/// The stream is in use until it is dropped. What the connection's task could not do meanwhile is
/// done then.
struct Asked<'a>(&'a Shared);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Ok(mut stream) = self.0.stream.try_borrow_mut() else {
            // Another question is about to do it.
            return;
        };
        if !self.0.missed.take() {
            return;
        }
        if self.0.ending.get() != Ending::Lost {
            drop(stream);
            return self.0.wake();
        }
        if let Some(mut stream) = stream.take() {
            stream.abort();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.shared.local)
            .field("peer", self.peer_address())
            .field("ending", &self.shared.ending.get())
            .field("unsent", &self.unsent())
            .finish()
    }
}

impl Shared {
    /// Advances to a later state. A request that is weaker than an earlier one changes nothing.
    fn end(&self, ending: Ending) {
        if ending > self.ending.get() {
            self.ending.set(ending);
            self.wake();
        }
    }

    /// Whether a question uses the stream. It makes up for what has to wait for that.
    pub(super) fn is_asked(&self) -> bool {
        let asked = self.stream.try_borrow_mut().is_err();
        self.missed.set(self.missed.get() || asked);
        asked
    }

    /// Stores the waker of the connection's task.
    pub(super) fn keep_waker(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Wakes the connection's task so that it checks everything.
    fn wake(&self) {
        if self.in_callback.get() {
            return;
        }
        // Waking only queues the task; it runs nothing.
        self.waker.wake_and_keep();
    }
}

/// Bytes that wait to be sent. The memory is freed once they are.
#[derive(Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// How many of `bytes` have been sent.
    sent: usize,
}

/// A buffer with more capacity than this is freed when it becomes empty.
const KEEP: usize = 16 * 1024;

impl Outbound {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        // Moves the rest to the front if that copies fewer bytes than it frees.
        if self.sent > self.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Outbound::default();
    }
}
