//! The task that runs a protocol over a stream.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    io,
    panic::Location,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_io::{AsyncRead, AsyncWrite};

use super::{
    Config, Connection, End, Factory, Lost, Protocol,
    connection::{Ending, Outbound, Shared, Told, Upgrade},
};
use crate::{
    reactor::{Handle, Label, Moment, Origin},
    scratch::Scratch,
    server::Permit,
    task::Sleep,
    transport::ByteStream,
    wake::WakeSlot,
};

/// Runs `protocol` over a connected `stream`. `connection_made` is called in the next turn, or when
/// the stream is [established](ByteStream::poll_established). If that fails, only
/// [`connection_failed`](Protocol::connection_failed) is called.
#[track_caller]
pub fn start(
    handle: &Handle,
    stream: impl ByteStream,
    protocol: impl Protocol + 'static,
) -> Connection {
    start_boxed(
        handle,
        Box::new(stream),
        Box::new(protocol),
        None,
        Location::caller(),
    )
}

pub(crate) fn start_boxed(
    handle: &Handle,
    stream: Box<dyn ByteStream>,
    protocol: Box<dyn Protocol>,
    permit: Option<Permit>,
    location: &'static Location<'static>,
) -> Connection {
    spawn(
        handle,
        stream,
        Content::Protocol(protocol),
        Config::default(),
        permit,
        location,
    )
}

/// Starts the task of a connection.
pub(super) fn spawn(
    handle: &Handle,
    stream: Box<dyn ByteStream>,
    content: Content,
    config: Config,
    permit: Option<Permit>,
    location: &'static Location<'static>,
) -> Connection {
    let shared = Rc::new(Shared {
        handle: handle.clone(),
        local: stream.local_address(),
        peer: stream.peer_address(),
        true_peer: OnceCell::new(),
        upgrade: RefCell::default(),
        stream: RefCell::new(Some(stream)),
        outbound: RefCell::new(Outbound::default()),
        config: Cell::new(config),
        ending: Cell::new(Ending::Not),
        reading_paused: Cell::new(false),
        reading_resumed: Cell::new(false),
        told: Cell::new(Told::Open),
        waker: WakeSlot::default(),
        in_callback: Cell::new(false),
        moved: Cell::new(handle.turn_time()),
    });
    let connection = Connection { shared };
    let origin = Origin {
        label: Label::CONNECTION,
        location,
    };
    let driver = Driver {
        connection: connection.clone(),
        content,
        state: State::Fresh,
        input: Input::Open,
        half_closed: false,
        failed: None,
        patience: None,
        idle: None,
        origin,
        _permit: permit,
    };
    handle.spawn_detached(origin, driver);
    connection
}

/// The protocol of a connection, or where it will come from.
pub(super) enum Content {
    /// A factory, asked for a protocol once the stream is established.
    Factory(Rc<Factory>),
    Protocol(Box<dyn Protocol>),
    /// The factory refused the peer.
    Nothing,
}

/// Which callbacks the protocol has had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// None yet: the stream is not established.
    Fresh,
    /// `connection_made`.
    Made,
    /// `connection_made`; a wrapper added since is not yet established.
    Upgrading,
    /// `connection_lost`.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// The peer has ended its direction.
    Ended,
}

struct Driver {
    connection: Connection,
    content: Content,
    state: State,
    input: Input,
    /// Whether the stream's write direction has been closed.
    half_closed: bool,
    /// Why the peer takes no more.
    failed: Option<io::Error>,
    /// Timeout that runs while the stream is not established, and again after a close.
    patience: Option<Sleep>,
    /// Runs while it waits for a peer that may not be idle.
    idle: Option<Sleep>,
    origin: Origin,
    _permit: Option<Permit>,
}

/// The result of one step.
enum Step {
    /// Something happened; run another step.
    Again,
    /// Nothing to do until the task is woken.
    Wait,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.connection.shared.keep_waker(cx);
        let mut start = None;
        loop {
            match this.step(cx) {
                Ok(Step::Again) => {
                    // A peer that sends faster than the protocol works does not hold the thread.
                    let now = Moment::now();
                    if now.since(*start.get_or_insert(now)) >= SLICE {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Ok(Step::Wait) => return Poll::Pending,
                Err(why) => {
                    this.lose(why);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Driver {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        match self.connection.shared.ending.get() {
            Ending::Abort => return Err(Lost::Aborted),
            Ending::Overflow => return Err(Lost::Overflow),
            _ => {}
        }
        if self.state != State::Made {
            return self.establish(cx);
        }
        if self.failed.is_some() {
            return self.last_words(cx);
        }
        let sent = match self.send(cx) {
            Ok(sent) => sent,
            Err(error) => {
                self.failed = Some(error);
                let shared = &self.connection.shared;
                shared
                    .ending
                    .set(shared.ending.get().max(Ending::HalfClose));
                shared.outbound.borrow_mut().clear();
                return Ok(Step::Again);
            }
        };
        if let Step::Again = self.tell_producer()? {
            return Ok(Step::Again);
        }
        if self.connection.shared.upgrade.borrow().is_some() {
            return self.upgrade(cx);
        }
        let ending = self.connection.shared.ending.get();
        if sent && ending >= Ending::HalfClose {
            self.half_close(cx)?;
            if self.half_closed && (ending == Ending::Close || self.input == Input::Ended) {
                self.discard(cx);
                return Err(Lost::Closed);
            }
        }
        if ending == Ending::Close {
            return self.linger(cx);
        }
        if self.connection.shared.reading_resumed.get() {
            return self.resume(cx);
        }
        if self.connection.shared.reading_paused.get() || self.input == Input::Ended {
            if sent && self.input == Input::Open {
                // The peer is not asked for anything.
                self.moved();
            }
            return self.wait_for_peer(cx);
        }
        match self.receive(cx)? {
            Step::Again => Ok(Step::Again),
            Step::Wait => self.wait_for_peer(cx),
        }
    }

    /// Tells the protocol that it may go on with what it has received.
    fn resume(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        if !shared.handle.spend(1) {
            cx.waker().wake_by_ref();
            return Ok(Step::Wait);
        }
        shared.reading_resumed.set(false);
        self.moved();
        self.call(|protocol, connection| protocol.reading_resumed(connection))?;
        Ok(Step::Again)
    }

    /// Hears a peer that takes no more, until it has ended too: it may have said why, and the rest
    /// of the output of a program that has read enough is still to come.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let over = shared.ending.get() == Ending::Close
            || self.input == Input::Ended
            || shared.upgrade.borrow().is_some();
        if over {
            return Err(self.failure());
        }
        if shared.reading_resumed.get() {
            self.patience = None;
            return self.resume(cx);
        }
        let mut limit = shared.config.get().close_timeout;
        let heard = match shared.reading_paused.get() {
            true => {
                limit = limit.min(PAUSED_TIME);
                Ok(Step::Wait)
            }
            false => self.receive(cx),
        };
        match heard {
            Ok(Step::Again) => Ok(Step::Again),
            Ok(Step::Wait) => self
                .wait(cx, limit, || Lost::Stuck)
                .map_err(|_| self.failure()),
            Err(Lost::Failed(_)) => Err(self.failure()),
            Err(why) => Err(why),
        }
    }

    fn failure(&mut self) -> Lost {
        let broken = || io::ErrorKind::BrokenPipe.into();
        Lost::Failed(self.failed.take().unwrap_or_else(broken))
    }

    /// Notes that the peer has done something, or need not.
    fn moved(&self) {
        let shared = &self.connection.shared;
        shared.moved.set(shared.handle.turn_time());
    }

    /// Waits until something moves, or the connection has been idle for too long.
    fn wait_for_peer(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let limit = shared.config.get().idle_timeout;
        let Some(due) = limit.and_then(|limit| shared.moved.get().checked_add(limit)) else {
            self.idle = None;
            return Ok(Step::Wait);
        };
        let handle = &shared.handle;
        let sleep = self.idle.get_or_insert_with(|| handle.sleep_until(due));
        // It is moved when it fires, not for each byte.
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if due <= handle.now() {
                return Err(Lost::Idle);
            }
            sleep.reset(due);
        }
        if due < sleep.deadline() {
            sleep.reset(due);
            cx.waker().wake_by_ref();
        }
        Ok(Step::Wait)
    }

    /// Waits until the stream is established. Then builds the protocol if necessary, and calls it.
    fn establish(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = self.connection.shared.clone();
        let established = match shared.stream.borrow_mut().as_mut() {
            Some(stream) => stream
                .poll_established(cx)
                .map_ok(|()| stream.peer_address()),
            None => return Ok(Step::Wait),
        };
        let peer = match established {
            Poll::Ready(result) => result.map_err(Lost::Failed)?,
            Poll::Pending => {
                let limit = shared.config.get().establish_timeout;
                return self.wait(cx, limit, not_established);
            }
        };
        self.patience = None;
        if peer != *self.connection.peer_address() {
            let _ = shared.true_peer.set(peer);
        }
        if std::mem::replace(&mut self.state, State::Made) == State::Upgrading {
            self.call(|protocol, connection| protocol.upgraded(connection))?;
        } else if self.build() {
            self.call(|protocol, connection| protocol.connection_made(connection))?;
        } else {
            self.connection.close();
        }
        Ok(Step::Again)
    }

    /// Asks the factory, if there is one, for a protocol. Returns false if it refuses or panics.
    fn build(&mut self) -> bool {
        if let Content::Factory(factory) = &self.content {
            let handle = &self.connection.shared.handle;
            let built = handle.contain(self.origin, || factory(self.connection.peer_address()));
            self.content = built.flatten().map_or(Content::Nothing, Content::Protocol);
        }
        matches!(self.content, Content::Protocol(_))
    }

    /// Wraps the stream once everything written before it has been sent. The peer has as long as
    /// for a handshake to take that, and no longer for both together.
    fn upgrade(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let shared = self.connection.shared.clone();
        let due = shared
            .upgrade
            .borrow()
            .as_ref()
            .is_some_and(|upgrade| upgrade.before == 0);
        if !due {
            if shared.ending.get() == Ending::Close {
                return self.linger(cx);
            }
            let limit = shared.config.get().establish_timeout;
            return self.wait(cx, limit, not_established);
        }
        let (upgrade, stream) = (shared.upgrade.take(), shared.stream.take());
        if let (Some(Upgrade { wrap, .. }), Some(stream)) = (upgrade, stream) {
            let handle = &shared.handle;
            if let Some(stream) = handle.contain(self.origin, || wrap(stream)) {
                *shared.stream.borrow_mut() = Some(stream);
            } else {
                self.connection.abort();
            }
        }
        self.state = State::Upgrading;
        Ok(Step::Again)
    }

    /// Sends the queued bytes as far as the peer takes them. Returns true when all are sent.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let shared = &self.connection.shared;
        let mut stream = shared.stream.borrow_mut();
        let mut outbound = shared.outbound.borrow_mut();
        let mut upgrade = shared.upgrade.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Ok(true);
        };
        loop {
            // Bytes written after a call of `upgrade` wait for the wrapper.
            let before = upgrade
                .as_ref()
                .map_or(outbound.len(), |upgrade| upgrade.before);
            if before == 0 {
                break;
            }
            match Pin::new(&mut *stream).poll_write(cx, &outbound.bytes()[..before]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    outbound.consume(count);
                    shared.moved.set(shared.handle.turn_time());
                    if let Some(upgrade) = upgrade.as_mut() {
                        upgrade.before -= count;
                    }
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Ready(result) => result.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Tells the protocol when the queue passes a watermark. If it was told that the queue is full,
    /// it is also told when there is room again.
    fn tell_producer(&mut self) -> Result<Step, Lost> {
        let shared = &self.connection.shared;
        let waiting = shared.outbound.borrow().len();
        let config = shared.config.get();
        let told = shared.told.get();
        if shared.ending.get() != Ending::Not || told == Told::Open {
            return Ok(Step::Wait);
        }
        if waiting <= config.low_water {
            shared.told.set(Told::Open);
            self.call(|protocol, connection| protocol.resume_writing(connection))?;
        } else if told == Told::Full {
            shared.told.set(Told::Pause);
            self.call(|protocol, connection| protocol.pause_writing(connection))?;
        } else {
            return Ok(Step::Wait);
        }
        Ok(Step::Again)
    }

    fn half_close(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.half_closed {
            return Ok(());
        }
        let mut stream = self.connection.shared.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Ok(());
        };
        match Pin::new(stream).poll_close(cx) {
            Poll::Ready(result) => {
                self.half_closed = true;
                result.map_err(Lost::Failed)
            }
            Poll::Pending => Ok(()),
        }
    }

    /// Reads and discards bytes that have already arrived, before the stream is closed. If a socket
    /// is closed with unread bytes, the kernel sends a reset, which may overtake the last bytes
    /// sent (RFC 1122, 4.2.2.13).
    fn discard(&mut self, cx: &mut Context<'_>) {
        let mut buffer = Scratch::take();
        for _ in 0..DISCARDS {
            match self.read(cx, &mut buffer) {
                Poll::Ready(Ok(1..)) => {}
                _ => break,
            }
        }
    }

    /// This side has closed, and the peer has not taken everything yet.
    fn linger(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        let limit = self.connection.shared.config.get().close_timeout;
        self.wait(cx, limit, || Lost::Stuck)
    }

    /// Waits for the peer, within a time limit.
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        limit: Duration,
        too_long: fn() -> Lost,
    ) -> Result<Step, Lost> {
        let handle = &self.connection.shared.handle;
        let patience = self.patience.get_or_insert_with(|| handle.sleep(limit));
        match Pin::new(patience).poll(cx) {
            Poll::Ready(()) => Err(too_long()),
            Poll::Pending => Ok(Step::Wait),
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Step, Lost> {
        // The buffer is shared by all connections of the thread. If a callback spins the loop,
        // other connections use another one meanwhile.
        let mut buffer = Scratch::take();
        match self.read(cx, &mut buffer) {
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Err(error)) => Err(Lost::Failed(error)),
            Poll::Ready(Ok(0)) => self.end_of_input(),
            Poll::Ready(Ok(count)) => {
                self.moved();
                self.call(|protocol, connection| {
                    protocol.data_received(connection, &buffer[..count])
                })
                .map(|()| Step::Again)
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.connection.shared.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Poll::Pending;
        };
        Poll::Ready(ready!(Pin::new(stream).poll_read(cx, buffer)))
    }

    fn end_of_input(&mut self) -> Result<Step, Lost> {
        self.input = Input::Ended;
        let mut answer = End::Close;
        self.call(|protocol, connection| answer = protocol.end_received(connection))?;
        if answer == End::Close {
            self.connection.close();
        }
        Ok(Step::Again)
    }

    /// Calls the protocol, contained.
    fn call(&mut self, callback: impl FnOnce(&mut dyn Protocol, &Connection)) -> Result<(), Lost> {
        let Content::Protocol(protocol) = &mut self.content else {
            return Ok(());
        };
        let shared = &self.connection.shared;
        shared.in_callback.set(true);
        let handle = &shared.handle;
        let result = handle.contain(self.origin, || callback(&mut **protocol, &self.connection));
        shared.in_callback.set(false);
        result.ok_or(Lost::Panicked)
    }

    /// Ends the connection: closes the stream, then calls `connection_lost`.
    fn lose(&mut self, why: Lost) {
        let shared = &self.connection.shared;
        shared.ending.set(Ending::Lost);
        shared.outbound.borrow_mut().clear();
        // A handle that outlives its connection must not keep the task's memory alive.
        shared.waker.clear();
        let stream = shared.stream.borrow_mut().take();
        if let Some(mut stream) = stream {
            if !matches!(why, Lost::Closed) {
                stream.abort();
            }
            drop(stream);
        }
        let upgrade = shared.upgrade.take();
        drop(upgrade);
        if std::mem::replace(&mut self.state, State::Lost) == State::Fresh {
            let peer = self.connection.peer_address();
            tracing::debug!(%why, %peer, "a connection was not established");
            let _ = self.call(|protocol, _| protocol.connection_failed(&why));
        } else {
            // A panic in the callback has been reported; there is nothing left to end.
            let _ = self.call(|protocol, _| protocol.connection_lost(&why));
        }
    }
}

impl Drop for Driver {
    /// The task was dropped from outside: the reactor's run is over.
    fn drop(&mut self) {
        if self.state != State::Lost {
            self.lose(Lost::Stopped);
        }
    }
}

/// How long a protocol that has paused reading may take to hear the last words of a peer that takes
/// no more.
const PAUSED_TIME: Duration = Duration::from_secs(1);

/// How long a connection works before others get a turn, counted from its first step.
const SLICE: Duration = Duration::from_micros(500);

fn not_established() -> Lost {
    let message = "the connection was not established in time";
    Lost::Failed(io::Error::new(io::ErrorKind::TimedOut, message))
}

/// How many buffers of unread bytes are discarded at most when the stream is closed.
const DISCARDS: usize = 4;
