//! The connection, and the calls that are open on it. Both sides use the same code.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    fmt,
    rc::{Rc, Weak},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    CallError, Config,
    call::{Arrived, ItemStream},
    message::{self, HELLO, Message, Wrong},
    methods::{Answer, Call, Credit, Methods, Refusal, too_long},
};
use crate::{
    deferred::{Canceller, Deferred, Resolver},
    framing::{FrameError, Frames, Prefixed, Width},
    protocol::{self, Connection, End, Flow, Lost, Protocol},
    reactor::{Handle, Label, Origin, Timer},
    transport::{Address, ByteStream},
};

/// Starts to answer a peer's calls with these methods. Returns a handle to call the peer.
///
/// The peer has 10 s to send its first bytes.
#[track_caller]
pub fn start(handle: &Handle, stream: impl ByteStream, methods: Methods) -> Peer {
    start_with(handle, stream, methods, Config::default())
}

/// Like [`start`], with custom configuration.
#[track_caller]
pub fn start_with(
    handle: &Handle,
    stream: impl ByteStream,
    methods: Methods,
    config: Config,
) -> Peer {
    let origin = Origin::here(Label::CONNECTION);
    let inner = Rc::new(Inner {
        handle: handle.clone(),
        connection: OnceCell::new(),
        config,
        methods,
        origin,
        next: Cell::new(0),
        calls: RefCell::default(),
        answering: RefCell::default(),
        full: Cell::new(false),
        finishing: Cell::default(),
        finished: RefCell::default(),
        ended: Cell::default(),
        deadline: RefCell::default(),
        lost: RefCell::default(),
    });
    let protocol = Speaker {
        inner: inner.clone(),
        hello: Vec::new(),
        frames: frames(config),
    };
    let connection = protocol::start_boxed(
        handle,
        Box::new(stream),
        Box::new(protocol),
        origin.location,
    );
    let bounds = protocol::Config {
        max_queued: 2 * config.max_frame_size + 1024 * 1024,
        ..protocol::Config::default()
    };
    connection.set_config(bounds);
    connection.write(HELLO);
    let weak = Rc::downgrade(&inner);
    let deadline = handle.call_later(bounds.establish_timeout, move || {
        if let Some(inner) = weak.upgrade() {
            inner.end("the peer sent no greeting in time");
        }
    });
    inner.deadline(Some(deadline));
    let _ = inner.connection.set(connection);
    Peer { inner }
}

fn frames(config: Config) -> Frames<Prefixed> {
    Frames::new(Prefixed::new(Width::U32, config.max_frame_size))
}

/// A handle to call the peer. Cheap to clone. Dropping it does not end the connection.
#[derive(Clone)]
pub struct Peer {
    inner: Rc<Inner>,
}

impl Peer {
    pub(super) fn from_inner(inner: Rc<Inner>) -> Self {
        Peer { inner }
    }

    /// Calls a method of the peer. Cancelling the `Deferred`, or dropping a task that awaits it,
    /// cancels the call at the peer.
    ///
    /// For a timeout see [`Handle::limit`].
    ///
    /// # Errors
    /// The `Deferred` fails with a [`CallError`].
    pub fn call<R: DeserializeOwned + 'static>(
        &self,
        method: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> Deferred<R, CallError> {
        let (inner, id) = (&self.inner, self.inner.new_id());
        let frame = message::frame(inner.config.max_frame_size, 0, id, |bytes| {
            message::put(bytes, method)?;
            message::put(bytes, arguments)
        });
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                return Deferred::ready(Err(CallError::TooLong(too_long(
                    &error,
                    inner.config.max_frame_size,
                ))));
            }
        };
        if let Some(why) = inner.takes_no_calls() {
            return Deferred::ready(Err(why));
        }
        let weak = Rc::downgrade(inner);
        let (resolver, deferred) = Deferred::with_canceller(move || {
            if let Some(inner) = weak.upgrade() {
                inner.cancel(id);
            }
        });
        let resolve = move |result: Result<&[u8], CallError>| {
            resolver.settle(
                result.and_then(|value| message::read(value).map_err(CallError::WrongResult)),
            );
        };
        inner
            .calls
            .borrow_mut()
            .insert(id, Waiting::One(Box::new(resolve)));
        inner.write(&frame);
        deferred
    }

    /// Calls a method of the peer that returns many results.
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> ItemStream<T> {
        let (inner, id) = (&self.inner, self.inner.new_id());
        let shared = Rc::new(RefCell::new(Arrived::default()));
        let frame = message::frame(inner.config.max_frame_size, 4, id, |bytes| {
            message::put(bytes, &inner.config.window)?;
            message::put(bytes, method)?;
            message::put(bytes, arguments)
        });
        let frame = frame
            .map_err(|error| CallError::TooLong(too_long(&error, inner.config.max_frame_size)));
        match inner.takes_no_calls().map_or(frame, Err) {
            Ok(frame) => {
                inner
                    .calls
                    .borrow_mut()
                    .insert(id, Waiting::Many(shared.clone()));
                inner.write(&frame);
            }
            Err(error) => shared.borrow_mut().end = Some(Err(error)),
        }
        ItemStream::new(id, inner.clone(), shared)
    }

    /// Shuts the connection down gracefully: calls that either side has started are answered, no
    /// new ones are started ([`CallError::Finishing`]), and then the connection is closed. The
    /// `Deferred` fires when the connection is over.
    ///
    /// A call that never ends keeps the connection open. To prevent that, put a timeout on the
    /// `Deferred` with [`Handle::limit`] and then call [`close`](Peer::close).
    ///
    /// # Errors
    /// [`CallError::Lost`] if the connection ended before all calls were answered.
    pub fn finish(&self) -> Deferred<(), CallError> {
        let inner = &self.inner;
        if let Some(why) = inner.is_lost() {
            return Deferred::ready(Err(why));
        }
        let (resolver, deferred) = Deferred::new();
        inner.finished.borrow_mut().push(resolver);
        let finishing = inner.finishing.get();
        if !finishing.here {
            inner.finishing.set(Finishing {
                here: true,
                ..finishing
            });
            inner.tell(8, 0, |_| Ok(()));
            inner.close_if_finished();
        }
        deferred
    }

    /// Closes the connection after sending what is queued. Open calls fail with
    /// [`CallError::Lost`].
    pub fn close(&self) {
        self.inner.connection().close();
    }

    /// Whether the connection is over or about to end.
    pub fn is_closing(&self) -> bool {
        self.inner.connection().is_closing()
    }

    /// The address of the peer.
    pub fn peer_address(&self) -> Address {
        self.inner.connection().peer_address().clone()
    }

    /// Number of the peer's calls that are being answered.
    pub fn answering(&self) -> usize {
        self.inner.answering.borrow().len()
    }

    /// Number of our calls that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.inner.calls.borrow().len()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.peer_address())
            .field("answering", &self.answering())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    handle: Handle,
    connection: OnceCell<Connection>,
    pub(super) config: Config,
    methods: Methods,
    origin: Origin,
    next: Cell<u64>,
    calls: RefCell<HashMap<u64, Waiting>>,
    /// Calls of the peer. A call that has just arrived has no task yet.
    answering: RefCell<HashMap<u64, Answering>>,
    /// Whether the send queue is above its limit.
    full: Cell<bool>,
    finishing: Cell<Finishing>,
    /// Resolvers that wait for the graceful shutdown.
    finished: RefCell<Vec<Resolver<(), CallError>>>,
    /// Whether the write direction has been ended.
    ended: Cell<bool>,
    /// Runs until the peer has sent its greeting, and again during shutdown.
    deadline: RefCell<Option<Timer>>,
    lost: RefCell<Option<String>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// Which sides have said that no more calls are started.
#[derive(Clone, Copy, Default)]
struct Finishing {
    here: bool,
    there: bool,
}

/// A call that waits for its answer.
enum Waiting {
    One(Resolve),
    Many(Rc<RefCell<Arrived>>),
}

type Resolve = Box<dyn FnOnce(Result<&[u8], CallError>)>;

impl Waiting {
    fn fail(self, error: CallError) {
        match self {
            Waiting::One(resolve) => resolve(Err(error)),
            Waiting::Many(shared) => end(&shared, Err(error)),
        }
    }
}

fn end(shared: &RefCell<Arrived>, how: Result<(), CallError>) {
    let mut arrived = shared.borrow_mut();
    arrived.end = Some(how);
    let waiting = arrived.waiting.take();
    drop(arrived);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

#[derive(Default)]
struct Answering {
    task: Option<Canceller>,
    credit: Option<Rc<Credit>>,
}

impl Inner {
    fn connection(&self) -> &Connection {
        self.connection.get().expect("set when it starts")
    }

    fn new_id(&self) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        id
    }

    /// Sets the peer's deadline; `None` removes it.
    fn deadline(&self, timer: Option<Timer>) {
        let before = self.deadline.replace(timer);
        if let Some(before) = before {
            // The timer has already fired if it is what ends the connection.
            let _ = before.cancel();
        }
    }

    pub(super) fn write(&self, frame: &[u8]) {
        if self.connection().write(frame) == Flow::Full {
            self.full.set(true);
        }
    }

    /// Sends a message without values, or with small ones.
    fn tell(&self, kind: u8, id: u64, values: impl FnOnce(&mut Vec<u8>) -> message::Encoded) {
        if let Ok(frame) = message::frame(usize::MAX, kind, id, values) {
            self.write(&frame);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.get()
    }

    fn is_lost(&self) -> Option<CallError> {
        let lost = self.lost.borrow().clone();
        let closing = || {
            self.connection()
                .is_closing()
                .then(|| "it was closed".to_owned())
        };
        lost.or_else(closing).map(CallError::Lost)
    }

    fn takes_no_calls(&self) -> Option<CallError> {
        let finishing = self.finishing.get();
        self.is_lost()
            .or_else(|| (finishing.here || finishing.there).then_some(CallError::Finishing))
    }

    /// Closes the connection after the last call, if that was requested.
    fn close_if_finished(&self) {
        if !self.finishing.get().here || !self.is_idle() || self.ended.replace(true) {
            return;
        }
        // Ends only the write direction at first: the peer may be about to do the same.
        let connection = self.connection().clone();
        connection.end();
        let late = self
            .handle
            .call_later(connection.config().close_timeout, move || {
                connection.close()
            });
        self.deadline(Some(late));
    }

    fn is_idle(&self) -> bool {
        self.calls.borrow().is_empty() && self.answering.borrow().is_empty()
    }

    /// Cancels a call whose result is no longer wanted.
    pub(super) fn cancel(&self, id: u64) {
        let waiting = self.calls.borrow_mut().remove(&id);
        if let Some(waiting) = waiting {
            self.tell(3, id, |_| Ok(()));
            // Deferred to a `call_soon`, so that whoever cancels can settle it first. Without its
            // resolver the `Deferred` would count as abandoned.
            self.handle.call_soon(move || drop(waiting));
            self.close_if_finished();
        }
    }

    pub(super) fn credit(&self, id: u64, more: u32) {
        self.tell(7, id, |bytes| message::put(bytes, &more));
    }

    pub(super) fn credit_of(&self, id: u64) -> Option<Rc<Credit>> {
        self.answering.borrow().get(&id)?.credit.clone()
    }

    /// Ends the connection with a peer that violates the protocol.
    fn end(&self, why: &str) {
        tracing::warn!(peer = %self.connection().peer_address(), why, "ending an RPC connection");
        *self.lost.borrow_mut() = Some(why.to_owned());
        self.connection().abort();
    }
}

/// The protocol below: parses bytes into messages.
struct Speaker {
    inner: Rc<Inner>,
    /// The peer's first bytes, until they are complete.
    hello: Vec<u8>,
    frames: Frames<Prefixed>,
}

impl Protocol for Speaker {
    fn data_received(&mut self, connection: &Connection, mut data: &[u8]) {
        if self.hello.len() < HELLO.len() {
            let missing = data.len().min(HELLO.len() - self.hello.len());
            self.hello.extend_from_slice(&data[..missing]);
            data = &data[missing..];
            if !HELLO.starts_with(&self.hello) {
                let same = self.hello.starts_with(&HELLO[..HELLO.len() - 1]);
                return self.inner.end(if same {
                    "the peer uses another version of the RPC protocol"
                } else {
                    "the peer does not speak the RPC protocol"
                });
            }
            if self.hello.len() < HELLO.len() {
                return;
            }
            if !self.inner.ended.get() {
                self.inner.deadline(None);
            }
        }
        while !connection.is_closing() {
            let taken = match self.frames.next(&mut data) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    Message::parse(frame).and_then(|message| self.inner.take(message))
                }
                Err(FrameError::TooLong { .. }) => Err("the peer sent a frame that is too long"),
                Err(_) => Err("the peer sent an invalid frame"),
            };
            if let Err(why) = taken {
                self.inner.end(why);
            }
        }
    }

    fn end_received(&mut self, _: &Connection) -> End {
        End::Close
    }

    fn resume_writing(&mut self, _: &Connection) {
        self.inner.full.set(false);
        let credits: Vec<_> = self
            .inner
            .answering
            .borrow()
            .values()
            .filter_map(|call| call.credit.clone())
            .collect();
        for credit in credits {
            credit.wake();
        }
    }

    fn connection_lost(&mut self, why: &Lost) {
        let inner = &self.inner;
        inner.deadline(None);
        inner
            .lost
            .borrow_mut()
            .get_or_insert_with(|| why.to_string());
        let error = inner.is_lost().expect("just set");
        let orderly = matches!(why, Lost::Closed) && inner.finishing.get().here && inner.is_idle();
        for finished in inner.finished.take() {
            finished.settle(if orderly { Ok(()) } else { Err(error.clone()) });
        }
        // Tasks are cancelled and callers told while nothing is borrowed.
        for (_, call) in inner.answering.take() {
            if let Some(task) = call.task {
                task.cancel();
            }
        }
        let calls = inner.calls.take();
        for (_, waiting) in calls {
            waiting.fail(error.clone());
        }
    }
}

impl Inner {
    fn take(self: &Rc<Self>, message: Message<'_>) -> Result<(), Wrong> {
        let answers = matches!(
            message,
            Message::Result { .. } | Message::Error { .. } | Message::End { .. }
        );
        self.heed(message)?;
        if answers {
            self.close_if_finished();
        }
        Ok(())
    }

    fn heed(self: &Rc<Self>, message: Message<'_>) -> Result<(), Wrong> {
        match message {
            Message::Call {
                id,
                name,
                arguments,
            } => self.answer(id, name, arguments, None)?,
            Message::Open {
                id,
                credit,
                name,
                arguments,
            } => {
                let allowed = Rc::new(Credit::default());
                allowed.left.set(credit);
                self.answer(id, name, arguments, Some(allowed))?;
            }
            Message::Cancel { id } => {
                let call = self.answering.borrow_mut().remove(&id);
                if let Some(task) = call.and_then(|call| call.task) {
                    task.cancel();
                }
                self.close_if_finished();
            }
            Message::Finish => self.finishing.set(Finishing {
                there: true,
                ..self.finishing.get()
            }),
            Message::Credit { id, more } => {
                if let Some(credit) = self.credit_of(id) {
                    credit.add(more);
                }
            }
            Message::Result { id, value } => match self.answered(id)? {
                Some(Waiting::One(resolve)) => resolve(Ok(value)),
                Some(Waiting::Many(shared)) => end(
                    &shared,
                    Err(CallError::WrongResult(
                        "the method returned one value instead of a stream".to_owned(),
                    )),
                ),
                None => {}
            },
            Message::Error { id, code, message } => {
                if let Some(waiting) = self.answered(id)? {
                    waiting.fail(CallError::of_peer(code, message));
                }
            }
            Message::End { id } => match self.answered(id)? {
                Some(Waiting::Many(shared)) => end(&shared, Ok(())),
                Some(one) => one.fail(CallError::WrongResult(
                    "the method returned a stream instead of one value".to_owned(),
                )),
                None => {}
            },
            Message::Item { id, value } => self.item(id, value)?,
        }
        Ok(())
    }

    /// Removes the call that this answer belongs to; `None` if it was cancelled.
    fn answered(&self, id: u64) -> Result<Option<Waiting>, Wrong> {
        if id >= self.next.get() {
            return Err("the peer answered a call that was never made");
        }
        Ok(self.calls.borrow_mut().remove(&id))
    }

    fn item(&self, id: u64, value: &[u8]) -> Result<(), Wrong> {
        let shared = match self.calls.borrow().get(&id) {
            Some(Waiting::Many(shared)) => shared.clone(),
            Some(Waiting::One(_)) => {
                return Err("the peer sent many results for a call that has one");
            }
            None if id >= self.next.get() => {
                return Err("the peer answered a call that was never made");
            }
            None => return Ok(()),
        };
        let mut arrived = shared.borrow_mut();
        if arrived.items.len() >= self.config.window as usize {
            return Err("the peer sent more items than it may");
        }
        arrived.items.push_back(value.to_vec());
        let waiting = arrived.waiting.take();
        drop(arrived);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Ok(())
    }

    fn answer(
        self: &Rc<Self>,
        id: u64,
        name: &str,
        arguments: &[u8],
        credit: Option<Rc<Credit>>,
    ) -> Result<(), Wrong> {
        let mut answering = self.answering.borrow_mut();
        if answering.contains_key(&id) {
            return Err("the peer gave two calls the same number");
        }
        if self.finishing.get().here {
            drop(answering);
            self.refuse(id, &Refusal(6, String::new()));
            return Ok(());
        }
        if answering.len() >= self.config.max_calls {
            drop(answering);
            self.refuse(id, &Refusal(3, String::new()));
            return Ok(());
        }
        let many = credit.is_some();
        answering.insert(id, Answering { task: None, credit });
        drop(answering);
        let handle = &self.handle;
        let begun = self.methods.find(name).and_then(|method| {
            let call = Call {
                id,
                inner: Rc::downgrade(self),
            };
            handle
                .contain(self.origin, || method(call, arguments))
                .unwrap_or_else(|| Err(panicked()))
        });
        match begun {
            Err(refusal) => self.finish(id, many, Err(refusal)),
            Ok(future) => {
                let task = handle.spawn_as(self.origin, future);
                if let Some(call) = self.answering.borrow_mut().get_mut(&id) {
                    call.task = Some(task.canceller());
                }
                let weak = Rc::downgrade(self);
                task.add_both(move |result| {
                    if let Some(inner) = Weak::upgrade(&weak) {
                        inner.finish(id, many, result.unwrap_or_else(|_| Err(panicked())));
                    }
                    Ok::<_, crate::deferred::Interrupted>(())
                });
            }
        }
        Ok(())
    }

    /// Answers a call, unless the peer has cancelled it.
    fn finish(&self, id: u64, many: bool, result: Result<Answer, Refusal>) {
        let call = self.answering.borrow_mut().remove(&id);
        if call.is_none() {
            return;
        }
        let answer = match result {
            Ok(None) => {
                self.tell(6, id, |_| Ok(()));
                return self.close_if_finished();
            }
            Ok(Some(_)) if many => Err(Refusal(
                2,
                "this method returns a single result; do not call it as a stream".to_owned(),
            )),
            Ok(Some(answer)) => Ok(answer),
            Err(refusal) => Err(refusal),
        };
        let frame = answer.and_then(|answer| {
            let frame = message::frame(self.config.max_frame_size, 1, id, |bytes| answer(bytes));
            frame.map_err(|error| Refusal(5, too_long(&error, self.config.max_frame_size)))
        });
        match frame {
            Ok(frame) => self.write(&frame),
            Err(refusal) => self.refuse(id, &refusal),
        }
        self.close_if_finished();
    }

    fn refuse(&self, id: u64, refusal: &Refusal) {
        let Refusal(code, message) = refusal;
        // Short enough for the caller's frame limit.
        let words: String = message
            .chars()
            .take(self.config.max_frame_size / 8)
            .collect();
        self.tell(2, id, |bytes| {
            message::put(bytes, code)?;
            message::put(bytes, &words)
        });
    }
}

fn panicked() -> Refusal {
    Refusal(4, String::new())
}
