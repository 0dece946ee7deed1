//! The seam between a program and a loop: what a backend implements ([`Host`], [`Reactor`]), what
//! it drives ([`Driver`]) and what programs hold ([`Handle`]).
//!
//! # A turn
//!
//! All work is done in turns. A turn has these steps:
//!
//! 1. **Select.** [`Reactor::select`] returns the sources that have become ready. It waits only in
//!    our own loop, and only if nothing is queued. Each event marks its source as ready and wakes
//!    the task that waits for it. Then the [hooks](Handle::on_turn) are called.
//! 2. **Inbox.** Calls posted by other threads join the call queue; tasks woken by other threads
//!    join the task queue.
//! 3. **Run.** Everything that was queued when the turn began runs in small batches that alternate:
//!    tasks, then due timers, then calls. Work that these add waits for the next turn. Tasks come
//!    before timers, so that after a stall, data that has arrived is read before a deadline is
//!    checked.
//! 4. When the **budget** is used up, the turn ends after the current callback. The next turn
//!    starts with the kind of work after the interrupted one, so no kind starves another.
//! 5. **End.** The functions that [asked for it](Handle::on_turn_end) are called. A server sends
//!    its small writes there one after another, so that the code for it is in the processor's
//!    caches.
//! 6. **Deadline.** The host is told when the next timer is due, if that has changed.
//!
//! # Runs
//!
//! Tasks, timers and calls belong to a run. Those that are scheduled before a run wait for it. When
//! a run ends, those that are left are dropped. What their destructors, `connection_lost` and the
//! callbacks of cancelled Deferreds schedule meanwhile is dropped too, and the next run cannot be
//! started yet. What is scheduled after that waits for the next run.
//!
//! Something that is scheduled again whenever it is dropped would keep the run from its end. After
//! a hundred times it is left for the next run; if the reactor closes, it is leaked. A log line
//! says so.
//!
//! Hooks ([`on_turn`](Handle::on_turn), [`on_turn_end`](Handle::on_turn_end),
//! [`on_shutdown`](Handle::on_shutdown)) and observers belong to the reactor, and work in each run
//! until they are dropped. A shutdown hook is called once. A call that a [`TurnEnd`] has requested
//! belongs to the run.
//!
//! # Callbacks
//!
//! Each user callback runs with no borrow and no lock held. It may run the host's loop (a modal
//! dialog), which makes nested turns. Nested turns take work from the same queues, so everything
//! else continues. Work that is on the stack is in no queue until it returns.
//!
//! At most 16 turns are inside of each other, so that peers who make callbacks run the loop do not
//! use up the stack. Below them [`Handle::wait`] fails, and a loop of the host goes on without the
//! network: everything is put off until one of the loops around it ends.

mod backend;
mod host;
mod observe;
mod turn;

pub use backend::{
    AsSource, Event, Host, Interest, Key, NextTurn, Notify, Reactor, Readiness, Source,
};
pub use host::{Driver, HostCall, Interleave, RunError, Selector, Standalone, Watcher};
pub(crate) use observe::Moment;
pub use observe::{
    Census, ConnectionInfo, FrameMetrics, Histogram, Label, Metrics, Origin, Report, Share, Stall,
    StallPlace, Stalls,
};
pub(crate) use turn::{Core, FOREVER, WakeTimer};
pub use turn::{
    Direction, FrameClock, Gone, Handle, LifeError, Observer, Pacing, Phase, Registration,
    RegistrationError, Remote, RemoteError, ShutdownHook, Timer, TimerError, TurnEnd, TurnHook,
    WaitError,
};
