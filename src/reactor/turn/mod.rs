//! The state of one reactor, and the code of its turns.
//!
//! All of this is one type, [`Core`]. Each file contains a part of it, and only these files access
//! its fields.

mod figures;
mod frames;
mod handle;
mod hooks;
mod keys;
mod kit;
mod lifecycle;
mod registration;
mod remote;
mod run;
mod spawn;
mod tasks;
mod timers;

use std::{
    any::{Any, TypeId},
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use slotmap::{DefaultKey, SlotMap};

pub use frames::{FrameClock, Pacing};
pub(crate) use handle::{FOREVER, WakeTimer};
pub use handle::{Handle, Timer, TimerError};
pub use hooks::{Observer, TurnEnd, TurnHook};
pub use lifecycle::{LifeError, Phase, ShutdownHook, WaitError};
pub use registration::{Direction, Registration, RegistrationError};
pub use remote::{Gone, Remote, RemoteError};
pub(crate) use run::BUDGET;

use self::{
    frames::Frames,
    hooks::{EndHooks, TurnHooks},
    keys::Keys,
    lifecycle::Lifecycle,
    registration::Source,
    remote::Inbox,
    tasks::Tasks,
    timers::{TimerKey, Timers},
};
use super::{
    backend::{Host, NextTurn, Reactor},
    observe::{Meter, Moment, ObserverFn, Origin},
};
use crate::share::{self, PollGuard};

/// A queued closure, and where it was queued.
struct Call {
    function: Box<dyn FnOnce(&Handle)>,
    origin: Origin,
}

/// What to do when a timer is due.
enum Timed {
    Call(Call),
    Wake(Waker),
}

pub(crate) struct Core {
    reactor: Box<dyn Reactor>,
    host: Box<dyn Host>,
    inbox: Arc<Inbox>,
    sources: RefCell<SlotMap<DefaultKey, Rc<Source>>>,
    keys: Keys,
    timers: RefCell<Timers<Timed>>,
    calls: RefCell<VecDeque<Call>>,
    tasks: Tasks,
    life: Lifecycle,
    meter: Meter,
    frames: Frames,
    hooks: TurnHooks,
    ends: EndHooks,
    /// The functions of observers that stay for good.
    kept_observers: RefCell<Vec<Rc<ObserverFn>>>,
    /// Number of sources that are connections.
    connections: Cell<usize>,
    /// The time of the current turn, or of the last one. Cheaper than reading the clock, where a
    /// difference of one turn does not matter.
    time: Cell<Instant>,
    /// Number of turns begun.
    turns: Cell<u64>,
    /// Number of turns on the stack.
    depth: Cell<u32>,
    /// Number of turns that found nothing to do, and of slices that began with such a turn.
    idle_turns: Cell<u64>,
    idle_slices: Cell<u64>,
    /// The kind of work that the next turn begins with: an index into the order that `run.rs`
    /// defines.
    first: Cell<usize>,
    /// When the current turn began to run queued work, and its budget.
    share: Cell<(Moment, Duration)>,
    /// Values that layers above store with the reactor, by type.
    extensions: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
    /// Whether the backend was asked for a turn since the last one began.
    requested: Cell<bool>,
    /// The deadline that the backend was given last. It is never later than the first timer.
    armed: Cell<Option<Instant>>,
}

impl Core {
    pub(crate) fn new(reactor: Box<dyn Reactor>, host: Box<dyn Host>) -> Rc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::new(id, reactor.notifier());
        let core = Rc::new(Core {
            time: Cell::new(reactor.now()),
            share: Cell::new((Moment::now(), Duration::ZERO)),
            reactor,
            host,
            inbox,
            sources: RefCell::default(),
            keys: Keys::default(),
            timers: RefCell::default(),
            calls: RefCell::default(),
            tasks: Tasks::default(),
            life: Lifecycle::default(),
            meter: Meter::new(),
            frames: Frames::default(),
            hooks: TurnHooks::default(),
            ends: EndHooks::default(),
            kept_observers: RefCell::default(),
            connections: Cell::new(0),
            turns: Cell::new(0),
            depth: Cell::new(0),
            idle_turns: Cell::new(0),
            idle_slices: Cell::new(0),
            first: Cell::new(0),
            extensions: RefCell::default(),
            requested: Cell::new(false),
            armed: Cell::new(None),
        });
        LOCAL.with(|local| local.borrow_mut().push((id, Rc::downgrade(&core))));
        core
    }

    /// The reactor with this number, if it belongs to this thread.
    pub(crate) fn local(id: u64) -> Option<Rc<Core>> {
        LOCAL
            .try_with(|local| {
                let local = local.borrow();
                local
                    .iter()
                    .find(|entry| entry.0 == id)
                    .and_then(|entry| entry.1.upgrade())
            })
            .ok()
            .flatten()
    }

    fn extension<T: 'static>(&self) -> Option<Rc<T>> {
        let extensions = self.extensions.borrow();
        let found = extensions.iter().find(|entry| entry.0 == TypeId::of::<T>());
        found.and_then(|entry| entry.1.clone().downcast().ok())
    }

    fn extend<T: 'static>(&self, value: Rc<T>) {
        self.extensions
            .borrow_mut()
            .push((TypeId::of::<T>(), value));
    }

    /// Starts a poll with its own task budget, until the guard is dropped.
    pub(crate) fn begin_share(&self) -> PollGuard {
        share::begin_poll()
    }

    /// Number of turns begun.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Number of turns that found nothing to do.
    pub(crate) fn idle_turns(&self) -> u64 {
        self.idle_turns.get()
    }

    /// Counts a slice in vain.
    pub(crate) fn slice_was_idle(&self) {
        self.idle_slices.set(self.idle_slices.get() + 1);
    }

    /// Whether a run has started and not yet ended.
    pub(crate) fn is_running(&self) -> bool {
        self.life.is_running()
    }

    /// The budget of a slice that begins now.
    pub(crate) fn slice_budget(&self) -> Duration {
        self.frames.budget(Instant::now())
    }

    /// Records the end of a slice that began at `start`. If it exceeded its budget, later slices
    /// get less.
    pub(crate) fn slice_took(&self, start: Moment, budget: Duration) {
        let took = self.meter.stamp().since(start);
        self.frames.overran(took.saturating_sub(budget));
    }

    /// Whether there will be no further run.
    pub(crate) fn is_closed(&self) -> bool {
        self.life.is_closed()
    }

    /// What the host must do next.
    pub(crate) fn next_turn(&self) -> NextTurn {
        if !self.is_running() || self.is_deep() {
            return NextTurn::OnEvents;
        }
        if self.has_work() {
            return NextTurn::Now;
        }
        match self.timers.borrow_mut().next_deadline() {
            None => NextTurn::OnEvents,
            Some(deadline) if deadline <= self.reactor.now() => NextTurn::Now,
            Some(deadline) => NextTurn::At(deadline),
        }
    }

    /// Whether no more turns fit onto the stack.
    pub(crate) fn is_deep(&self) -> bool {
        self.depth.get() >= run::MAX_DEPTH
    }

    /// Whether anything is queued. Timers do not count.
    pub(crate) fn has_work(&self) -> bool {
        self.tasks.has_ready()
            || !self.calls.borrow().is_empty()
            || self.inbox.is_filled()
            || self.ends.is_wanted()
    }

    /// What is left of the current turn's budget at `now`.
    pub(crate) fn budget_left(&self, now: Moment) -> Duration {
        let (start, budget) = self.share.get();
        budget.saturating_sub(now.since(start))
    }

    /// Asks the backend for a turn, at most once per turn.
    pub(crate) fn request_turn(&self) {
        if !self.requested.replace(true) {
            self.host.request_turn();
        }
    }

    pub(crate) fn turn_begins(&self) {
        self.requested.set(false);
        self.turns.set(self.turns.get() + 1);
    }

    fn push_call(&self, call: Call) {
        if self.life.refuses() {
            return;
        }
        self.calls.borrow_mut().push_back(call);
        self.request_turn();
    }

    fn insert_timer(&self, at: Instant, timed: Timed) -> TimerKey {
        let key = self.timers.borrow_mut().insert(at, timed);
        self.deadline_moved(at);
        key
    }

    fn reset_timer(&self, key: TimerKey, at: Instant) -> bool {
        let there = self.timers.borrow_mut().reset(key, at);
        if there {
            self.deadline_moved(at);
        }
        there
    }

    /// Called when a timer was scheduled for `at`. If it is now the first timer, the backend is
    /// told at once, because this may be a host's callback outside a turn.
    fn deadline_moved(&self, at: Instant) {
        if self.armed.get().is_none_or(|armed| at < armed) {
            self.arm(Some(at));
        }
    }

    /// Sets the backend's deadline to the first timer. A deadline that is too early is left
    /// unchanged: it costs at most one wake-up, whereas following every move of a connection's
    /// deadline would cost a system call per request.
    fn settle_deadline(&self) {
        let head = self.timers.borrow_mut().next_deadline();
        match (head, self.armed.get()) {
            (None, None) => {}
            (Some(head), Some(armed)) if armed <= head && armed > self.time.get() => {}
            _ => self.arm(head),
        }
    }

    fn arm(&self, deadline: Option<Instant>) {
        self.armed.set(deadline);
        self.reactor.set_deadline(deadline);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Fails if the thread is ending and the list is gone.
        let _ = LOCAL.try_with(|local| local.borrow_mut().retain(|entry| entry.0 != self.inbox.id));
    }
}

thread_local! {
    /// The reactors of this thread. A waker may go to any thread; this list lets it find its
    /// reactor without a lock.
    static LOCAL: RefCell<Vec<(u64, Weak<Core>)>> = const { RefCell::new(Vec::new()) };
}
