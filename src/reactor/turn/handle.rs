//! The handle that programs use.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    future::Future,
    panic::Location,
    rc::{Rc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    Call, Core, FrameClock, LifeError, Observer, Pacing, Phase, Remote, ShutdownHook, Timed,
    TurnEnd, TurnHook, WaitError, timers::TimerKey,
};
use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    log,
    reactor::observe::{Census, Label, Metrics, Origin, Report, Stalls},
};

/// Thirty years: long enough, and within the range of every clock.
pub(crate) const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A handle to a reactor. It is cheap to clone, and bound to the reactor's thread (not `Send`;
/// other threads use a [`Remote`]).
///
/// All methods may be called at any time on that thread: before the run, inside any callback of the
/// reactor, and in the host's own callbacks (such as a button's click handler). No method calls
/// back into the caller.
///
/// # Dropping what a method returns
///
/// - Work continues when its handle is dropped: [`Timer`],
///   [`LoopingCall`](crate::task::LoopingCall) and [`Deferred`] (from [`spawn`](Handle::spawn) and
///   similar methods) have a `cancel` method to end it.
/// - A hook or an observer ends when its guard is dropped: [`TurnHook`], [`ShutdownHook`],
///   [`Observer`]. Their `keep` method leaves them in place for good.
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Rc<Core>,
}

impl Handle {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Handle { core }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// The current time, on the clock that this reactor's timers use.
    pub fn now(&self) -> Instant {
        self.core.reactor.now()
    }

    /// Calls `function` in the next turn, after calls that were queued earlier.
    ///
    /// Calls that are still queued when the run ends are dropped.
    #[track_caller]
    pub fn call_soon(&self, function: impl FnOnce() + 'static) {
        self.core.push_call(call(Label::CALL, function));
    }

    /// Calls `function` after `delay`, never early. Calls that are due at the same instant run in
    /// the order in which they were scheduled. A call with a zero delay runs in the next turn, not
    /// in this one. A delay of centuries is fine.
    ///
    /// Dropping the [`Timer`] does not cancel it. Timers that are pending when the run ends are
    /// dropped.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(self.after(delay), call(Label::TIMER, function))
    }

    /// Calls `function` at an instant on the reactor's [clock](Handle::now); see
    /// [`call_later`](Handle::call_later).
    #[track_caller]
    pub fn call_at(&self, at: Instant, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(at.max(self.now()), call(Label::TIMER, function))
    }

    /// Like [`call_soon`](Handle::call_soon), for a function that needs the handle.
    ///
    /// ```
    /// # let reactor = entwined::Standalone::new()?;
    /// reactor.handle().call_soon_with(|handle| handle.stop());
    /// reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn call_soon_with(&self, function: impl FnOnce(&Handle) + 'static) {
        self.core.push_call(call_with(Label::CALL, function));
    }

    /// Like [`call_later`](Handle::call_later), for a function that needs the handle.
    #[track_caller]
    pub fn call_later_with(
        &self,
        delay: Duration,
        function: impl FnOnce(&Handle) + 'static,
    ) -> Timer {
        self.schedule(self.after(delay), call_with(Label::TIMER, function))
    }

    fn schedule(&self, at: Instant, call: Call) -> Timer {
        let refused = self.core.life.refuses();
        let key = if refused {
            TimerKey::default()
        } else {
            self.core.insert_timer(at, Timed::Call(call))
        };
        Timer {
            core: Rc::downgrade(&self.core),
            key,
            cancelled: Cell::new(refused),
        }
    }

    /// The instant `delay` from now, for [`sleep_until`](Handle::sleep_until) and
    /// [`Sleep::reset`](crate::task::Sleep::reset). If the clock cannot reach it, as with
    /// [`Duration::MAX`], it is 30 years from now; `now() + delay` would panic.
    pub fn after(&self, delay: Duration) -> Instant {
        let now = self.now();
        now.checked_add(delay).unwrap_or(now + FOREVER)
    }

    /// Runs a future as a task of this reactor.
    ///
    /// The Deferred fires with the future's output. Cancelling the Deferred ends the task: the
    /// future, and everything that it waits for, is dropped in the next turn. Dropping the Deferred
    /// lets the task continue. A panic ends the task, is reported, and fires the Deferred with
    /// [`Interrupted::Panicked`]. Tasks that are alive when the run ends are dropped, and their
    /// Deferreds fire with [`Interrupted::Cancelled`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        self.core.spawn(future, Origin::here(Label::TASK))
    }

    /// Like [`spawn`](Handle::spawn), for a future that returns a `Result`: its value and its error
    /// become the Deferred's.
    #[track_caller]
    pub fn defer<F, T, E>(&self, future: F) -> Deferred<T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: ChainError,
    {
        self.spawn(future).and_then(|result| result)
    }

    /// Waits for `future` here and now, while the reactor continues to run, and the whole host as
    /// well if its loop allows that: windows stay responsive, other connections are served, timers
    /// fire. It is for callbacks that cannot be async. An inner wait must end before the outer one
    /// can. All of them are on the stack, where at most 16 turns are inside of each other.
    ///
    /// On a host whose loop cannot be iterated from inside (calloop, winit), only this reactor
    /// continues.
    ///
    /// # Errors
    /// - [`Stopped`](WaitError::Stopped) if the reactor is not running, if its run ends before the
    ///   future completes, or if the future panics.
    /// - [`TooDeep`](WaitError::TooDeep) if a turn is already made inside of 15 others. Peers may
    ///   see to that, if they can make a callback wait.
    #[track_caller]
    pub fn wait<F>(&self, future: F) -> Result<F::Output, WaitError>
    where
        F: Future + 'static,
    {
        if !self.is_running() {
            return Err(WaitError::Stopped);
        }
        if self.core.is_deep() {
            return Err(WaitError::TooDeep);
        }
        let mut task = self.spawn(future);
        loop {
            match task.take() {
                Ok(result) => {
                    // If the turns below left it, the host does not know of it.
                    if self.core.has_work() {
                        self.core.request_turn();
                    }
                    return result.map_err(|_| WaitError::Stopped);
                }
                Err(waiting) => task = waiting,
            }
            if !self.is_running() {
                return Err(WaitError::Stopped);
            }
            if self.core.host.iterate(true) {
                continue;
            }
            if let Err(error) = self.core.turn(None, super::BUDGET) {
                log::error(format_args!(
                    "the operating system refused to wait for events: {error}"
                ));
                // Nobody waits for it any more.
                task.cancel();
                return Err(WaitError::Stopped);
            }
        }
    }

    /// Returns the handle for use on other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(self.core.inbox.clone())
    }

    /// Starts a graceful shutdown, which runs the hooks of each [`Phase`], closes the connections,
    /// and drops what is left. Returns at once. Does nothing if the reactor is not running or is
    /// already stopping; [`try_stop`](Handle::try_stop) tells these cases apart.
    #[track_caller]
    pub fn stop(&self) {
        // An error means that there is nothing to stop.
        let _ = self.core.stop();
    }

    /// Like [`stop`](Handle::stop), but returns an error if there is nothing to stop.
    ///
    /// # Errors
    /// [`LifeError::NotRunning`] before a run, [`LifeError::AlreadyStopping`] the second time,
    /// [`LifeError::Closed`] if the host has dropped the reactor.
    #[track_caller]
    pub fn try_stop(&self) -> Result<(), LifeError> {
        self.core.stop()
    }

    /// Returns whether a run has started and not yet ended. Also true during the shutdown.
    pub fn is_running(&self) -> bool {
        self.core.life.is_running()
    }

    /// Returns whether [`stop`](Handle::stop) was called and the run has not yet ended.
    pub fn is_stopping(&self) -> bool {
        self.core.life.is_stopping()
    }

    /// Calls `function` once, in the given phase of the next shutdown. The phase waits for the
    /// returned future, for at most 30 s. An error is reported, and the other hooks still run.
    /// Hooks run in the order in which they were added. One that is added during its phase runs in
    /// it too, unless one from the same line of code has been called: then it is for the run after
    /// this one. So a hook may add itself again.
    #[track_caller]
    pub fn on_shutdown<F, Fut>(&self, phase: Phase, function: F) -> ShutdownHook
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.core.add_hook(phase, Location::caller(), function)
    }

    /// Calls `function` in each turn, after the turn's events were fetched and before anything else
    /// runs. It is for checking things that become ready without a file descriptor. It does not
    /// cause turns, and should take well under a microsecond if there is nothing to do.
    #[track_caller]
    pub fn on_turn(&self, function: impl Fn() + 'static) -> TurnHook {
        TurnHook::new(&self.core, Rc::new(function))
    }

    /// Makes a hook for the end of turns: `function` is called once at the end of each turn that
    /// [requests](TurnEnd::request) it. `origin` names it in reports.
    pub fn on_turn_end(&self, origin: Origin, function: impl Fn(&Handle) + 'static) -> TurnEnd {
        TurnEnd::new(Rc::downgrade(&self.core), origin, Box::new(function))
    }

    /// Calls `function` with each [`Report`]: panics, stalls, failures. A panic in it is logged.
    pub fn observe(&self, function: impl Fn(&Report<'_>) + 'static) -> Observer {
        Observer::new(&self.core, Rc::new(function))
    }

    /// Sets how long a callback may take before it is reported as a stall. Default 8 ms.
    pub fn set_stall_threshold(&self, threshold: Duration) {
        self.core.meter.threshold.set(threshold);
    }

    /// Sets whether to time HTTP handlers separately from the callbacks that they run in, and to
    /// record turn times and timer lateness. On by default; costs about 50 ns per request.
    /// Everything else in [`Metrics`], including stalls, is always recorded.
    pub fn set_timing(&self, on: bool) {
        self.core.meter.on.set(on);
    }

    /// Metrics since the reactor was made. Takes a few microseconds, whatever the amount of work.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// Callbacks that held the thread for longer than the [threshold](Handle::set_stall_threshold).
    pub fn stalls(&self) -> Stalls {
        self.core.meter.stalls()
    }

    /// The current work: tasks, timers and connections. Iterates over all of them, which takes a
    /// millisecond for 10,000.
    pub fn census(&self) -> Census {
        self.core.census()
    }

    /// Makes a clock for something that draws frames, so that the network leaves time for them. A
    /// host's backend makes clocks for its own windows.
    pub fn frame_clock(&self) -> FrameClock {
        FrameClock::new(self.core.clone())
    }

    /// Sets how the thread is shared with the host: the minimum and maximum length of a slice.
    /// Takes effect with the next slice.
    pub fn set_pacing(&self, pacing: Pacing) {
        self.core.frames.pacing.set(pacing);
    }
}

impl Handle {
    /// The number of the present run, or of the next one.
    pub(crate) fn run_number(&self) -> u64 {
        self.core.life.number()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("reactor", &self.core.inbox.id)
            .field("tasks", &self.core.tasks.alive_len())
            .finish()
    }
}

#[track_caller]
fn call(label: Label, function: impl FnOnce() + 'static) -> Call {
    call_with(label, move |_| function())
}

#[track_caller]
fn call_with(label: Label, function: impl FnOnce(&Handle) + 'static) -> Call {
    Call {
        function: Box::new(function),
        origin: Origin::here(label),
    }
}

/// A call that was scheduled with [`Handle::call_later`] or [`Handle::call_at`]. Dropping it does
/// not cancel the call.
pub struct Timer {
    core: Weak<Core>,
    key: TimerKey,
    cancelled: Cell<bool>,
}

impl Timer {
    /// Cancels the call.
    ///
    /// # Errors
    /// [`TimerError`] if there is nothing to cancel: the call was already made (or is running), or
    /// was cancelled before.
    pub fn cancel(&self) -> Result<(), TimerError> {
        let core = self.pending()?;
        let timed = core.timers.borrow_mut().remove(self.key);
        self.cancelled.set(true);
        // Dropped here, after the borrow, because it is user code.
        drop(timed);
        core.settle_deadline();
        Ok(())
    }

    /// Moves the call to `delay` from now, earlier or later. It then runs after other calls that
    /// are due at the same instant.
    ///
    /// # Errors
    /// As for [`cancel`](Timer::cancel); nothing is scheduled then.
    pub fn reset(&self, delay: Duration) -> Result<(), TimerError> {
        let core = self.pending()?;
        let at = Handle::new(core.clone()).after(delay);
        core.reset_timer(self.key, at);
        Ok(())
    }

    /// Returns whether the call is still to come.
    pub fn is_pending(&self) -> bool {
        self.pending().is_ok()
    }

    fn pending(&self) -> Result<Rc<Core>, TimerError> {
        if self.cancelled.get() {
            return Err(TimerError::Cancelled);
        }
        let core = self.core.upgrade().ok_or(TimerError::Called)?;
        if core.timers.borrow_mut().get_mut(self.key).is_none() {
            return Err(TimerError::Called);
        }
        Ok(core)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("pending", &self.is_pending())
            .finish()
    }
}

/// Why a timer cannot be cancelled or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerError {
    /// The call was already made or is running, or the run ended before it.
    Called,
    /// The timer was already cancelled.
    Cancelled,
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimerError::Called => "the timer's call was made already",
            TimerError::Cancelled => "the timer was cancelled before",
        })
    }
}

impl Error for TimerError {}

/// A timer that wakes a task. Dropping it cancels the timer.
pub(crate) struct WakeTimer {
    handle: Handle,
    key: Option<TimerKey>,
}

impl WakeTimer {
    pub(crate) fn new(handle: Handle) -> Self {
        WakeTimer { handle, key: None }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Wakes `waker` at `deadline`.
    pub(crate) fn wait(&mut self, deadline: Instant, waker: &Waker) {
        let core = &self.handle.core;
        let is_there = |key| match core.timers.borrow_mut().get_mut(key) {
            Some(Timed::Wake(present)) => present.will_wake(waker),
            _ => false,
        };
        if self.key.is_some_and(is_there) {
            return;
        }
        // Nothing is borrowed while a waker is cloned or dropped.
        let mut timed = Timed::Wake(waker.clone());
        let replaces = |key| match core.timers.borrow_mut().get_mut(key) {
            Some(present) => {
                std::mem::swap(present, &mut timed);
                true
            }
            None => false,
        };
        if !self.key.is_some_and(replaces) {
            self.key = Some(core.insert_timer(deadline, timed));
        }
    }

    /// Moves the deadline, if a timer is set.
    pub(crate) fn reset(&mut self, deadline: Instant) {
        if let Some(key) = self.key {
            self.handle.core.reset_timer(key, deadline);
        }
    }
}

impl Drop for WakeTimer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let timed = self.handle.core.timers.borrow_mut().remove(key);
            drop(timed);
        }
    }
}
