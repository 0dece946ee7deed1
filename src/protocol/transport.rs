//! The protocol's side of a connection.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use crate::{
    reactor::Handle,
    transport::{Address, ByteStream},
};

/// How much of what is written may wait for the peer, and how long a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Above so many bytes the producer is told to pause. 64 KiB.
    pub high: usize,
    /// At so many bytes it is told to resume. 16 KiB.
    pub low: usize,
    /// Above so many bytes the connection is ended with [`Lost::Overflow`](super::Lost::Overflow).
    /// 1 MiB.
    pub most: usize,
    /// How long after [`Transport::close`] the peer has to take what was written. 30 s.
    pub linger: Duration,
    /// How long the stream may take to be
    /// [established](crate::transport::ByteStream::poll_established), such as a handshake. 10 s.
    pub establish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            high: 64 * 1024,
            low: 16 * 1024,
            most: 1024 * 1024,
            linger: Duration::from_secs(30),
            establish: Duration::from_secs(10),
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Taken; there is room for more.
    Open,
    /// Taken; pause until [`resume_writing`](super::Protocol::resume_writing).
    Full,
    /// Dropped: the connection is closed, closing, or has just been ended for [too
    /// much](Limits::most).
    Closed,
}

/// The protocol's handle on its connection: cheap to clone, and harmless after the connection is
/// lost.
///
/// Nothing here blocks, and nothing calls back into the protocol: what follows comes from the
/// reactor later. What is written is sent once, at the end of the callback; what is written
/// elsewhere (from a GUI callback) is sent in the next turn.
#[derive(Clone)]
pub struct Transport {
    pub(super) shared: Rc<Shared>,
}

/// What a transport and its connection have in common.
pub(super) struct Shared {
    pub(super) handle: Handle,
    /// There until the connection is over.
    pub(super) stream: RefCell<Option<Box<dyn ByteStream>>>,
    pub(super) outbound: RefCell<Outbound>,
    pub(super) limits: Cell<Limits>,
    pub(super) local: Address,
    pub(super) peer: Address,
    /// The peer that a layer has told of when it was established, where that is another.
    pub(super) true_peer: OnceCell<Address>,
    /// The layer that is to be put in.
    pub(super) upgrade: RefCell<Option<Upgrade>>,
    pub(super) ending: Cell<Ending>,
    pub(super) reading_paused: Cell<bool>,
    /// Whether the protocol has still to hear that reading goes on.
    pub(super) reading_resumed: Cell<bool>,
    /// What the producer was told.
    pub(super) told: Cell<Told>,
    /// Wakes the connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
    /// Whether a callback of this connection is on the stack: then the task looks at everything
    /// afterwards, and need not be woken.
    pub(super) in_callback: Cell<bool>,
}

/// A layer that is to be put in once what was written before is sent.
pub(super) struct Upgrade {
    pub(super) layer: Layer,
    /// So many bytes of what waits are to be sent below it.
    pub(super) before: usize,
}

type Layer = Box<dyn FnOnce(Box<dyn ByteStream>) -> Box<dyn ByteStream>>;

/// What the producer was told of the room for what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// That there is room.
    Open,
    /// [`Flow::Full`], by the write itself: it has to hear of room again.
    Full,
    /// To pause, by the callback too, since the peer did not take what was written.
    Pause,
}

/// What this side has asked for. Each state may only be followed by a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ending {
    /// Nothing.
    Not,
    /// An end of input for the peer, after what was written.
    HalfClose,
    /// The end, after what was written.
    Close,
    /// The end, because too much was written.
    Overflow,
    /// The end at once.
    Abort,
    /// It is over.
    Lost,
}

impl Transport {
    /// Sends `data` after what was written before. Never blocks. After the end it does nothing.
    pub fn write(&self, data: &[u8]) -> Flow {
        let shared = &self.shared;
        if shared.ending.get() != Ending::Not {
            return Flow::Closed;
        }
        let mut outbound = shared.outbound.borrow_mut();
        let limits = shared.limits.get();
        if outbound.len() + data.len() > limits.most {
            drop(outbound);
            shared.end(Ending::Overflow);
            return Flow::Closed;
        }
        outbound.push(data);
        let waiting = outbound.len();
        drop(outbound);
        shared.wake();
        if waiting <= limits.high {
            return Flow::Open;
        }
        if shared.told.get() == Told::Open {
            shared.told.set(Told::Full);
        }
        Flow::Full
    }

    /// Sends several pieces, as [`write`](Transport::write) would one after the other.
    pub fn write_all(&self, pieces: &[&[u8]]) -> Flow {
        pieces.iter().fold(Flow::Open, |_, piece| self.write(piece))
    }

    /// Bytes that were written and not yet sent.
    pub fn unsent(&self) -> usize {
        self.shared.outbound.borrow().len()
    }

    /// Closes the connection after what was written is sent. Nothing more is received. Harmless
    /// after an earlier end.
    pub fn close(&self) {
        self.shared.end(Ending::Close);
    }

    /// Ends the write direction after what was written is sent: the peer hears the end of input and
    /// can still send.
    pub fn end(&self) {
        self.shared.end(Ending::HalfClose);
    }

    /// Ends the connection at once: what was not sent is dropped and the peer sees a reset.
    /// Harmless after an earlier end.
    pub fn abort(&self) {
        self.shared.end(Ending::Abort);
    }

    /// Receives nothing until [`resume_reading`](Transport::resume_reading). The peer is held back
    /// as soon as the system's buffers are full. While paused, the end of the peer is not noticed
    /// either.
    pub fn pause_reading(&self) {
        self.shared.reading_paused.set(true);
    }

    /// Receives again; the protocol hears [`reading_resumed`](super::Protocol::reading_resumed)
    /// first.
    pub fn resume_reading(&self) {
        if self.shared.reading_paused.replace(false) {
            self.shared.reading_resumed.set(true);
            self.shared.wake();
        }
    }

    /// Whether [`pause_reading`](Transport::pause_reading) is in force.
    pub fn is_reading_paused(&self) -> bool {
        self.shared.reading_paused.get()
    }

    /// Puts a layer above the stream of this connection, as STARTTLS does: what was written so far
    /// is sent below it, what is written from now on is sent on top of it, and nothing is received
    /// until it is there. The protocol hears [`upgraded`](super::Protocol::upgraded) once the layer
    /// is [established](ByteStream::poll_established); when that fails, or takes longer than
    /// [`Limits::establish`], the connection is lost.
    ///
    /// Call it in the callback that received the request for it, and take nothing more of the bytes
    /// given to that: those that a peer sent after its request without waiting came in plain,
    /// whoever sent them (RFC 3207, 6). After the end it does nothing; so it does while another
    /// upgrade waits.
    pub fn upgrade<S: ByteStream>(&self, layer: impl FnOnce(Box<dyn ByteStream>) -> S + 'static) {
        let mut upgrade = self.shared.upgrade.borrow_mut();
        if self.shared.ending.get() != Ending::Not || upgrade.is_some() {
            return;
        }
        let layer = Box::new(|stream| -> Box<dyn ByteStream> { Box::new(layer(stream)) });
        *upgrade = Some(Upgrade {
            layer,
            before: self.unsent(),
        });
        drop(upgrade);
        self.shared.wake();
    }

    /// Whether a layer was asked for by [`upgrade`](Transport::upgrade) and is not there yet.
    pub fn is_upgrading(&self) -> bool {
        self.shared.upgrade.borrow().is_some()
    }

    /// Whether the connection is over or about to end.
    pub fn is_closing(&self) -> bool {
        self.shared.ending.get() >= Ending::Close
    }

    /// Changes the bounds.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.limits.set(limits);
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.shared.limits.get()
    }

    /// The address of this end.
    pub fn local_address(&self) -> &Address {
        &self.shared.local
    }

    /// The address of the other end.
    pub fn peer_address(&self) -> &Address {
        self.shared.true_peer.get().unwrap_or(&self.shared.peer)
    }

    /// The reactor that it runs on.
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// Asks the stream of type `S` below this transport something that only it knows: its options,
    /// the peer's credentials, file descriptors that arrived. `None` when there is no such stream
    /// below, or the connection is over.
    ///
    /// `question` must not use this transport.
    ///
    /// ```
    /// # use entwined::{protocol::Transport, transport::Stream};
    /// fn user(transport: &Transport) -> Option<u32> {
    ///     let credentials = transport.ask(|stream: &Stream| stream.peer_credentials())?.ok()?;
    ///     Some(credentials.uid.as_raw())
    /// }
    /// ```
    pub fn ask<S: ByteStream, R>(&self, question: impl FnOnce(&S) -> R) -> Option<R> {
        let stream = self.shared.stream.borrow();
        stream.as_ref()?.find::<S>().map(question)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("local", &self.shared.local)
            .field("peer", self.peer_address())
            .field("ending", &self.shared.ending.get())
            .field("unsent", &self.unsent())
            .finish()
    }
}

impl Shared {
    /// Moves on to a later state; a request that comes after a stronger one changes nothing.
    fn end(&self, ending: Ending) {
        if ending > self.ending.get() {
            self.ending.set(ending);
            self.wake();
        }
    }

    /// Keeps the waker of the connection's task.
    pub(super) fn keep_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|present| present.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Has the connection's task look at everything.
    fn wake(&self) {
        if self.in_callback.get() {
            return;
        }
        // Waking queues the task and runs nothing.
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Bytes that wait to be sent. The memory goes back when they are.
#[derive(Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// Of these so many were sent.
    sent: usize,
}

/// A buffer that grew beyond this is given back when it is empty.
const KEEP: usize = 16 * 1024;

impl Outbound {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        // Moves what is left to the front when that costs less than what it frees.
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
