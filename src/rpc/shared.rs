//! What the two sides of a connection share: the calls that are open, and what may be sent.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    rc::Rc,
    task::Waker,
    time::Instant,
};

use super::{
    CallError, Config,
    incoming::{Incoming, in_order},
    message::{self, Answer, Code, Kind, Refusal, Wrong},
};
use crate::{
    deferred::Resolver,
    protocol::{Connection, Flow},
    reactor::{Handle, Origin, Timer},
    wake::wake,
};

pub(super) struct Inner {
    pub(super) handle: Handle,
    pub(super) connection: OnceCell<Connection>,
    pub(super) config: Config,
    pub(super) origin: Origin,
    pub(super) next: Cell<u64>,
    /// Our calls that wait for their answers, and the bytes of their frames.
    calls: RefCell<HashMap<u64, (Waiting, usize)>>,
    /// The sum of these bytes.
    waiting_bytes: Cell<usize>,
    /// The bytes of items that have arrived and were not taken.
    item_bytes: Cell<usize>,
    pub(super) incoming: Incoming,
    /// Whether the send queue is above its limit.
    pub(super) full: Cell<bool>,
    pub(super) finishing: Cell<Finishing>,
    /// Resolvers that wait for the graceful shutdown.
    pub(super) finished: RefCell<Vec<Resolver<(), CallError>>>,
    /// Whether the write direction has been ended.
    pub(super) ended: Cell<bool>,
    /// Runs until the peer has sent its greeting, and again during shutdown.
    pub(super) deadline: RefCell<Option<Timer>>,
    pub(super) lost: RefCell<Option<String>>,
    /// When something last came from the peer, or a call ended.
    touched: Cell<Instant>,
    /// Whether the peer's greeting has come.
    pub(super) greeted: Cell<bool>,
    /// When to look whether that was long ago.
    idle: RefCell<Option<Timer>>,
}

impl Inner {
    pub(super) fn new(handle: &Handle, mut config: Config, origin: Origin) -> Rc<Self> {
        // Without credit, nothing would ever come.
        config.window = config.window.max(1);
        Rc::new(Inner {
            handle: handle.clone(),
            connection: OnceCell::new(),
            config,
            origin,
            next: Cell::new(0),
            calls: RefCell::default(),
            waiting_bytes: Cell::default(),
            item_bytes: Cell::default(),
            incoming: Incoming::default(),
            full: Cell::new(false),
            finishing: Cell::default(),
            finished: RefCell::default(),
            ended: Cell::default(),
            deadline: RefCell::default(),
            lost: RefCell::default(),
            touched: Cell::new(handle.now()),
            greeted: Cell::default(),
            idle: RefCell::default(),
        })
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// Which sides have said that no more calls are started.
#[derive(Clone, Copy, Default)]
pub(super) struct Finishing {
    pub(super) here: bool,
    pub(super) there: bool,
}

/// A call that waits for its answer.
pub(super) enum Waiting {
    One(Resolve),
    Many(Rc<RefCell<Arrived>>),
}

type Resolve = Box<dyn FnOnce(Result<&[u8], CallError>)>;

impl Waiting {
    pub(super) fn fail(self, error: CallError) {
        match self {
            Waiting::One(resolve) => resolve(Err(error)),
            Waiting::Many(shared) => end(&shared, Err(error)),
        }
    }
}

pub(super) fn end(shared: &RefCell<Arrived>, how: Result<(), CallError>) {
    let mut arrived = shared.borrow_mut();
    arrived.end = Some(how);
    let waiting = arrived.waiting.take();
    drop(arrived);
    if let Some(waiting) = waiting {
        wake(waiting);
    }
}

impl Inner {
    pub(super) fn connection(&self) -> &Connection {
        self.connection.get().expect("set when it starts")
    }

    pub(super) fn new_id(&self) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        id
    }

    /// Sets the peer's deadline; `None` removes it.
    pub(super) fn deadline(&self, timer: Option<Timer>) {
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
    pub(super) fn tell(
        &self,
        kind: Kind,
        id: u64,
        values: impl FnOnce(&mut Vec<u8>) -> message::Encoded,
    ) {
        if let Ok(frame) = message::frame(usize::MAX, kind, id, values) {
            self.write(&frame);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.get()
    }

    pub(super) fn is_lost(&self) -> Option<CallError> {
        let lost = self.lost.borrow().clone();
        let closing = || {
            self.connection()
                .is_closing()
                .then(|| "it was closed".to_owned())
        };
        lost.or_else(closing).map(CallError::Lost)
    }

    /// Why a call whose frame has this many bytes cannot be made, if so.
    pub(super) fn refuses_call(&self, bytes: usize) -> Option<CallError> {
        let finishing = self.finishing.get();
        if let Some(lost) = self.is_lost() {
            return Some(lost);
        }
        if finishing.here || finishing.there {
            return Some(CallError::Finishing);
        }
        // A call that was cancelled may still wait to be sent.
        let before = self.waiting_bytes.get().max(self.connection().unsent());
        let fits = before == 0 || before + bytes <= self.config.max_waiting_bytes;
        (!fits || self.waiting() >= self.config.max_waiting).then_some(CallError::TooManyWaiting)
    }

    /// Sends a call, and keeps what waits for its answer.
    pub(super) fn make_call(&self, id: u64, frame: &[u8], waiting: Waiting) {
        self.waiting_bytes
            .set(self.waiting_bytes.get() + frame.len());
        self.calls.borrow_mut().insert(id, (waiting, frame.len()));
        self.write(frame);
    }

    /// Number of our calls that wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.calls.borrow().len()
    }

    fn remove_call(&self, id: u64) -> Option<Waiting> {
        let (waiting, bytes) = self.calls.borrow_mut().remove(&id)?;
        self.touch();
        self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
        Some(waiting)
    }

    /// Takes all calls that wait, the oldest first.
    pub(super) fn take_calls(&self) -> impl Iterator<Item = Waiting> + use<> {
        self.waiting_bytes.set(0);
        let calls = in_order(self.calls.take());
        calls.into_iter().map(|(waiting, _)| waiting)
    }

    /// Closes the connection after the last call, if that was requested.
    pub(super) fn close_if_finished(&self) {
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

    pub(super) fn is_idle(&self) -> bool {
        self.calls.borrow().is_empty() && self.incoming.count() == 0
    }

    /// Notes that the connection is in use.
    pub(super) fn touch(&self) {
        // Not the turn's: a callback of the host may have cancelled a call.
        self.touched.set(self.handle.now());
    }

    /// Ends the connection when it has been idle for too long. Looks again when that may be so.
    pub(super) fn watch_idle(self: &Rc<Self>) {
        let Some(limit) = self.config.idle_timeout else {
            return;
        };
        if !self.is_idle() {
            self.touched.set(self.handle.now());
        }
        let Some(due) = self.touched.get().checked_add(limit) else {
            return;
        };
        if due <= self.handle.now() {
            return self.end("the peer was silent for too long");
        }
        let weak = Rc::downgrade(self);
        let timer = self.handle.call_at(due, move || {
            if let Some(inner) = weak.upgrade() {
                inner.idle.take();
                inner.when_quiet(|inner| inner.watch_idle());
            }
        });
        *self.idle.borrow_mut() = Some(timer);
    }

    /// Calls `check` when all that has arrived has been read, unless the connection is over.
    pub(super) fn when_quiet(self: &Rc<Self>, check: impl FnOnce(&Rc<Self>) + 'static) {
        let weak = Rc::downgrade(self);
        self.connection().when_quiet(move || {
            let inner = weak.upgrade().filter(|inner| inner.is_lost().is_none());
            if let Some(inner) = inner {
                check(&inner);
            }
        });
    }

    /// Ends what runs for a connection that is over.
    pub(super) fn rest(&self) {
        self.deadline(None);
        let idle = self.idle.take();
        if let Some(idle) = idle {
            let _ = idle.cancel();
        }
    }

    /// Cancels a call whose result is no longer wanted.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(waiting) = self.remove_call(id) {
            self.tell(Kind::Cancel, id, |_| Ok(()));
            // Deferred to a `call_soon`, so that whoever cancels can settle it first. Without its
            // resolver the `Deferred` would count as abandoned.
            self.handle.call_soon(move || drop(waiting));
            self.close_if_finished();
        }
    }

    pub(super) fn credit(&self, id: u64, more: u32) {
        self.tell(Kind::Credit, id, |bytes| message::put(bytes, &more));
    }

    /// Ends the connection with a peer that violates the protocol.
    pub(super) fn end(&self, why: &str) {
        tracing::warn!(peer = %self.connection().peer_address(), why, "ending an RPC connection");
        *self.lost.borrow_mut() = Some(why.to_owned());
        self.connection().abort();
    }
}

/// Answers to our calls.
impl Inner {
    /// Removes the call that this answer belongs to; `None` if it was cancelled.
    pub(super) fn answered(&self, id: u64) -> Result<Option<Waiting>, Wrong> {
        if id >= self.next.get() {
            return Err("the peer answered a call that was never made");
        }
        Ok(self.remove_call(id))
    }

    pub(super) fn item(&self, id: u64, value: &[u8]) -> Result<(), Wrong> {
        let shared = match self.calls.borrow().get(&id) {
            Some((Waiting::Many(shared), _)) => shared.clone(),
            Some((Waiting::One(_), _)) => {
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
        self.item_bytes.set(self.item_bytes.get() + value.len());
        if self.has_many_items() {
            self.connection().pause_reading();
        }
        if let Some(waiting) = waiting {
            wake(waiting);
        }
        Ok(())
    }

    /// Whether nothing is read from the peer before some items are taken.
    pub(super) fn has_many_items(&self) -> bool {
        self.item_bytes.get() > self.config.max_item_bytes
    }

    /// So many bytes of items are not held any more.
    pub(super) fn taken(&self, bytes: usize) {
        let had_many = self.has_many_items();
        self.item_bytes.set(self.item_bytes.get() - bytes);
        if had_many && !self.has_many_items() {
            self.connection().resume_reading();
        }
    }
}

/// Answers to the peer's calls.
impl Inner {
    /// Answers a call, unless the peer has cancelled it.
    pub(super) fn finish(&self, id: u64, many: bool, result: Result<Answer, Refusal>) {
        if self.incoming.remove(id).is_none() {
            return;
        }
        self.touch();
        let answer = match result {
            Ok(None) => {
                self.tell(Kind::End, id, |_| Ok(()));
                return self.close_if_finished();
            }
            Ok(Some(_)) if many => Err(Refusal(
                Code::WrongArguments,
                "this method returns a single result; do not call it as a stream".to_owned(),
            )),
            Ok(Some(answer)) => Ok(answer),
            Err(refusal) => Err(refusal),
        };
        let frame = answer.and_then(|answer| {
            // Encoding calls the program's code.
            let frame = self.handle.contain(self.origin, || {
                message::frame(self.config.max_frame_size, Kind::Result, id, |bytes| {
                    answer(bytes)
                })
            });
            let panicked = || Err(Refusal(Code::Panicked, String::new()));
            frame.map_or_else(panicked, |frame| frame.map_err(Refusal::from))
        });
        match frame {
            Ok(frame) => self.write(&frame),
            Err(refusal) => self.refuse(id, &refusal),
        }
        self.close_if_finished();
    }

    pub(super) fn refuse(&self, id: u64, refusal: &Refusal) {
        let Refusal(code, message) = refusal;
        // Short enough for the caller's frame limit.
        let words: String = message
            .chars()
            .take(self.config.max_frame_size / 8)
            .collect();
        self.tell(Kind::Error, id, |bytes| {
            message::put(bytes, &(*code as u8))?;
            message::put(bytes, &words)
        });
    }
}

/// The items of a stream that have arrived.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) items: VecDeque<Vec<u8>>,
    /// The end, if it has arrived.
    pub(super) end: Option<Result<(), CallError>>,
    pub(super) waiting: Option<Waker>,
}
