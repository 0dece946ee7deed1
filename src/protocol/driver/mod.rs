//! The task that runs a protocol over a stream.

mod establish;
mod input;
mod output;
mod wait;

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    io,
    panic::Location,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{
    Config, Connection, Factory, Lost, Protocol,
    connection::{Ending, Outbound, Shared, Told},
};
use crate::{
    reactor::{Handle, Label, Origin},
    server::Permit,
    share::{Clock, SLICE},
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
        missed: Cell::new(false),
        // Not the turn's: this may be a callback of the host, long after the last one.
        moved: Cell::new(handle.now()),
        quiet: RefCell::default(),
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
        polled: false,
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
    /// Set while it is polled. If it is dropped then, the stream has panicked.
    polled: bool,
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
        if this.connection.shared.is_asked() {
            return Poll::Pending;
        }
        this.polled = true;
        let polled = this.steps(cx);
        this.polled = false;
        polled
    }
}

impl Driver {
    fn steps(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut clock = Clock::NEW;
        loop {
            match self.step(cx) {
                Ok(Step::Again) => {
                    // A peer that sends faster than the protocol works does not hold the thread.
                    if clock.has_passed(SLICE) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Ok(Step::Wait) => match self.check(cx) {
                    Ok(()) => return Poll::Pending,
                    Err(why) => {
                        self.lose(why);
                        return Poll::Ready(());
                    }
                },
                Err(why) => {
                    self.lose(why);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Calls what is to be called now that all has been read.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.connection.shared.quiet.borrow().is_empty() {
            return Ok(());
        }
        // Afterwards there is another step, and what asks again is called in another turn.
        cx.waker().wake_by_ref();
        // There may be more, for which this task has no share left.
        if !self.connection.shared.handle.spend(0) {
            return Ok(());
        }
        for check in self.connection.shared.quiet.take() {
            self.call(|_, _| check())?;
        }
        Ok(())
    }

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
            if sent {
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
        // If it is in use, it is dropped when it is not.
        let stream = match shared.is_asked() {
            true => None,
            false => shared.stream.take(),
        };
        let rest = (shared.upgrade.take(), shared.quiet.take());
        // A panic here has been reported. The protocol hears of the end all the same.
        let _ = shared.handle.contain(self.origin, || {
            if let Some(mut stream) = stream {
                if !matches!(why, Lost::Closed) {
                    stream.abort();
                }
                drop(stream);
            }
            drop(rest);
        });
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
    /// The task was dropped from outside: the reactor's run is over, or the stream has panicked.
    fn drop(&mut self) {
        if self.state != State::Lost {
            self.lose(match self.polled {
                true => Lost::Panicked,
                false => Lost::Stopped,
            });
        }
    }
}
