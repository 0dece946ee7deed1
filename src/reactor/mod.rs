//! The seam: what a backend implements ([`Reactor`]), what it drives ([`Driver`]) and what programs
//! hold ([`Handle`]).
//!
//! # A turn
//!
//! All work is done in turns. One turn is one pass of these steps:
//!
//! 1. **Select.** [`Reactor::select`] hands over what has become ready. It waits only in a loop of
//!    our own, and only when nothing is queued. Each event marks its source ready and wakes the
//!    task that waits for it. Then the [hooks](Handle::on_turn) are called.
//! 2. **Inbox.** Calls posted by other threads join the call queue; tasks woken by other threads
//!    join the task queue.
//! 3. **Run**, in small batches that alternate, what was there when the turn began: tasks, then
//!    timers that are due, then calls. What these add waits for the next turn. Tasks come before
//!    timers, so that after a stall what has arrived is read before anybody's deadline is judged.
//! 4. When the **budget** is used up, the turn ends after the callback that is running; the next
//!    turn goes on with the kind of work after the one that was interrupted. So no kind starves
//!    another.
//! 5. **Uncork.** What the HTTP server has to send in small pieces is sent in a row: so the
//!    processor finds the code of each step in its caches.
//! 6. **Deadline.** The host is told when the next timer is due, if that has changed.
//!
//! Each of the user's callbacks runs with nothing borrowed and nothing locked. It may spin the host
//! loop (a modal dialog), which makes turns inside the turn: they take from the same queues, so
//! everybody else goes on, and the work that is on the stack is in no queue until it returns.

mod backend;
mod host;
mod observe;
mod turn;

pub use backend::{Event, Interest, Key, NextTurn, Notify, Reactor, Readiness};
pub use host::{Driver, HostCall, Interleave, RunError, Selector, Standalone, Watcher};
pub(crate) use observe::Moment;
pub use observe::{
    Census, ConnectionInfo, FrameMetrics, Histogram, Label, Metrics, Origin, Report, Share, Stall,
    StallPlace, Stalls,
};
pub(crate) use turn::{Core, FOREVER, WakeTimer};
pub use turn::{
    Direction, FrameClock, Gone, Handle, LifeError, Observer, Pacing, Phase, Registration,
    RegistrationError, Remote, RemoteError, ShutdownHook, Stopped, Timer, TimerError, TurnEnd,
    TurnHook,
};
