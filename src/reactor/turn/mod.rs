//! The state of one reactor, and what its turns do with it.
//!
//! All of this is one type, [`Core`]; each file has one part of it, and only these files see its
//! fields.

mod figures;
mod frames;
mod handle;
mod hooks;
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
pub use lifecycle::{LifeError, Phase, ShutdownHook, Stopped};
pub use registration::{Direction, Registration, RegistrationError};
pub use remote::{Gone, Remote, RemoteError};
pub(crate) use run::BUDGET;

use self::{
    frames::Frames,
    hooks::{EndHooks, TurnHooks},
    lifecycle::Lifecycle,
    registration::Source,
    remote::Inbox,
    tasks::{PollGuard, Tasks},
    timers::{TimerKey, Timers},
};
use super::{
    backend::{NextTurn, Reactor},
    observe::{Meter, Moment, ObserverFn, Origin},
};

/// A closure in a queue, and the line that put it there.
struct Call {
    function: Box<dyn FnOnce(&Handle)>,
    origin: Origin,
}

/// What happens when a timer is due.
enum Timed {
    Call(Call),
    Wake(Waker),
}

pub(crate) struct Core {
    reactor: Box<dyn Reactor>,
    inbox: Arc<Inbox>,
    sources: RefCell<SlotMap<DefaultKey, Rc<Source>>>,
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
    /// Sources that are connections.
    connections: Cell<usize>,
    /// The time of the present turn, or of the last one. Cheaper than the clock, for whom a turn
    /// more or less does not matter.
    time: Cell<Instant>,
    /// Turns begun.
    turns: Cell<u64>,
    /// The kind of work with which the next turn begins: an index into the order of `turn`.
    first: Cell<usize>,
    /// When the present turn began to run what is queued, and what it may take.
    share: Cell<(Moment, Duration)>,
    /// What layers above keep with the reactor, by its type.
    extensions: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
    /// Whether the backend was asked for a turn since the last one began.
    requested: Cell<bool>,
    /// The deadline that the backend was last given. Never later than the first timer.
    armed: Cell<Option<Instant>>,
}

impl Core {
    pub(crate) fn new(reactor: Box<dyn Reactor>) -> Rc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed);
        let inbox = Inbox::new(id, reactor.notifier());
        let core = Rc::new(Core {
            time: Cell::new(reactor.now()),
            share: Cell::new((Moment::now(), Duration::ZERO)),
            reactor,
            inbox,
            sources: RefCell::default(),
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
            first: Cell::new(0),
            extensions: RefCell::default(),
            requested: Cell::new(false),
            armed: Cell::new(None),
        });
        LOCAL.with(|local| local.borrow_mut().push((id, Rc::downgrade(&core))));
        core
    }

    /// The reactor of this number, if it is one of this thread's.
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

    /// Begins a poll with a share of its own, until the guard is dropped.
    pub(crate) fn begin_share(&self) -> PollGuard<'_> {
        self.tasks.begin_poll()
    }

    /// Turns begun.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Whether a run has begun and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.life.is_running()
    }

    /// What a slice that begins now may take.
    pub(crate) fn slice_budget(&self) -> Duration {
        self.frames.budget(Instant::now())
    }

    /// A slice that began at `start` has ended: if it overran its budget, later ones get less.
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
        if self.has_work() {
            return NextTurn::Now;
        }
        match self.timers.borrow_mut().next_deadline() {
            None => NextTurn::OnEvents,
            Some(deadline) if deadline <= self.reactor.now() => NextTurn::Now,
            Some(deadline) => NextTurn::At(deadline),
        }
    }

    /// Whether something is queued. Timers do not count.
    pub(crate) fn has_work(&self) -> bool {
        self.tasks.has_ready()
            || !self.calls.borrow().is_empty()
            || self.inbox.is_filled()
            || self.ends.is_wanted()
    }

    /// What is left of the present turn's budget at `now`.
    pub(crate) fn budget_left(&self, now: Moment) -> Duration {
        let (start, budget) = self.share.get();
        budget.saturating_sub(now.since(start))
    }

    /// Tells the backend that a turn is wanted, once a turn.
    pub(crate) fn request_turn(&self) {
        if !self.requested.replace(true) {
            self.reactor.request_turn();
        }
    }

    pub(crate) fn turn_begins(&self) {
        self.requested.set(false);
        self.turns.set(self.turns.get() + 1);
    }

    fn push_call(&self, call: Call) {
        if self.life.is_closed() {
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

    /// A timer was scheduled for `at`: the backend hears of it at once if it is the first, also
    /// from a host's callback.
    fn deadline_moved(&self, at: Instant) {
        if self.armed.get().is_none_or(|armed| at < armed) {
            self.arm(Some(at));
        }
    }

    /// Brings the backend's deadline in line with the first timer. One that is too early is left:
    /// it costs one wake-up at most, where to follow each move of a connection's deadline would
    /// cost a system call for each request.
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
        // Fails when the thread is ending, and with it the list.
        let _ = LOCAL.try_with(|local| local.borrow_mut().retain(|entry| entry.0 != self.inbox.id));
    }
}

thread_local! {
    /// The reactors of this thread: how a waker, which may go to any thread, finds its way home
    /// without a lock.
    static LOCAL: RefCell<Vec<(u64, Weak<Core>)>> = const { RefCell::new(Vec::new()) };
}
