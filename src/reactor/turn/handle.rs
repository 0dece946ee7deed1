//! What programs hold.

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
    Call, Core, FrameClock, LifeError, Observer, Pacing, Phase, Remote, ShutdownHook, Stopped,
    Timed, TurnEnd, TurnHook, timers::TimerKey,
};
use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    log,
    reactor::observe::{Census, Label, Metrics, Origin, Report, Stalls},
};

/// Thirty years: enough for ever, and inside what every clock can say.
pub(crate) const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A handle on a reactor: cheap to clone, and bound to the reactor's thread (not `Send`; other
/// threads use a [`Remote`]).
///
/// Everything here may be called at any time on that thread: before the run, from inside any
/// callback of the reactor, and from the host's own callbacks (a button was clicked). Nothing calls
/// back into the caller.
///
/// # Dropping what a method returns
///
/// - Work goes on when its handle is dropped: [`Timer`], [`LoopingCall`](crate::task::LoopingCall)
///   and [`Deferred`] (of [`spawn`](Handle::spawn) and the like) have a `cancel` method to end it.
/// - A hook or an observer ends when its guard is dropped: [`TurnHook`], [`ShutdownHook`],
///   [`Observer`]. Their `keep` method leaves them in place for good.
#[derive(Clone)]
pub struct Handle {
    core: Rc<Core>,
}

impl Handle {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Handle { core }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// The present, by the clock of this reactor's timers.
    pub fn now(&self) -> Instant {
        self.core.reactor.now()
    }

    /// Calls `function` in the next turn, after what was asked for before.
    ///
    /// A call that was not made when the run ends is dropped.
    #[track_caller]
    pub fn call_soon(&self, function: impl FnOnce() + 'static) {
        self.core.push_call(call(Label::CALL, function));
    }

    /// Calls `function` after `delay`: never early, and in the order of scheduling when several are
    /// due at the same instant. With a zero delay it is called in the next turn, not in this one. A
    /// delay of centuries is fine.
    ///
    /// Dropping the [`Timer`] does not cancel it. A timer that is pending when the run ends is
    /// dropped.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(self.after(delay), call(Label::TIMER, function))
    }

    /// Calls `function` at an instant of the reactor's [clock](Handle::now); see
    /// [`call_later`](Handle::call_later).
    #[track_caller]
    pub fn call_at(&self, at: Instant, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(at.max(self.now()), call(Label::TIMER, function))
    }

    /// As [`call_soon`](Handle::call_soon), for a function that needs the handle.
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

    /// As [`call_later`](Handle::call_later), for a function that needs the handle.
    #[track_caller]
    pub fn call_later_with(
        &self,
        delay: Duration,
        function: impl FnOnce(&Handle) + 'static,
    ) -> Timer {
        self.schedule(self.after(delay), call_with(Label::TIMER, function))
    }

    fn schedule(&self, at: Instant, call: Call) -> Timer {
        let key = if self.core.life.is_closed() {
            TimerKey::default()
        } else {
            self.core.insert_timer(at, Timed::Call(call))
        };
        Timer {
            core: Rc::downgrade(&self.core),
            key,
            cancelled: Cell::new(self.core.life.is_closed()),
        }
    }

    /// The instant `delay` from now, or as late as there are instants to name.
    pub(crate) fn after(&self, delay: Duration) -> Instant {
        let now = self.now();
        now.checked_add(delay).unwrap_or(now + FOREVER)
    }

    /// Runs a future as a task of this reactor.
    ///
    /// The Deferred fires with the future's output. Cancelling it ends the task: its future is
    /// dropped in the next turn, and what it waits for with it. Dropping the Deferred lets the task
    /// go on. A panic ends the task, is reported, and fires the Deferred with
    /// [`Interrupted::Panicked`]. Tasks that are alive when the run ends are dropped then, and their
    /// Deferreds fire with [`Interrupted::Cancelled`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        self.core.spawn(future, Origin::here(Label::TASK))
    }

    /// As [`spawn`](Handle::spawn), for a future that gives a `Result`: value and error become
    /// those of the Deferred.
    #[track_caller]
    pub fn defer<F, T, E>(&self, future: F) -> Deferred<T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: ChainError,
    {
        self.spawn(future)
            .add_callbacks(|result| result, |why| Err(why.into()))
    }

    /// Waits for `future` here and now, while the reactor and, where the host's loop allows it, the
    /// whole host go on: the window lives, other connections are served, timers fire. For callbacks
    /// that cannot be async. Up to three levels deep is tested; the inner wait ends before the
    /// outer one can.
    ///
    /// On a host that cannot be iterated from inside (calloop, winit), only this reactor goes on
    /// meanwhile.
    ///
    /// # Errors
    /// [`Stopped`] when the reactor does not run, its run ends before the result comes, or the
    /// future panics.
    #[track_caller]
    pub fn wait<F>(&self, future: F) -> Result<F::Output, Stopped>
    where
        F: Future + 'static,
    {
        let mut task = self.spawn(future);
        loop {
            match task.take() {
                Ok(result) => return result.map_err(|_| Stopped),
                Err(waiting) => task = waiting,
            }
            if !self.is_running() {
                return Err(Stopped);
            }
            if !self.core.reactor.iterate(true) {
                self.core.turn(None, super::BUDGET).map_err(|error| {
                    log::error(format_args!(
                        "the operating system refused to wait for events: {error}"
                    ));
                    Stopped
                })?;
            }
        }
    }

    /// The one handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(self.core.inbox.clone())
    }

    /// Ends the run in order: the hooks of each shutdown [`Phase`], then the connections, then what
    /// is left. Returns at once. Does nothing outside a run, and when the run is stopping already;
    /// [`try_stop`](Handle::try_stop) tells these apart.
    #[track_caller]
    pub fn stop(&self) {
        // Nothing is left to stop.
        let _ = self.core.stop();
    }

    /// As [`stop`](Handle::stop), and says why if there is nothing to stop.
    ///
    /// # Errors
    /// [`LifeError::NotRunning`] before a run, [`LifeError::AlreadyStopping`] the second time,
    /// [`LifeError::Closed`] when its host has dropped the reactor.
    #[track_caller]
    pub fn try_stop(&self) -> Result<(), LifeError> {
        self.core.stop()
    }

    /// Whether a run has begun and not ended; true also while it is stopping.
    pub fn is_running(&self) -> bool {
        self.core.life.is_running()
    }

    /// Whether [`stop`](Handle::stop) was called and the run has not ended yet.
    pub fn is_stopping(&self) -> bool {
        self.core.life.is_stopping()
    }

    /// Has `function` called, once, in a phase of the next shutdown. The phase waits for the future
    /// that it returns (at most 30 s); an error is reported, and the other hooks still run. Hooks
    /// run in the order in which they were added.
    #[track_caller]
    pub fn on_shutdown<F, Fut>(&self, phase: Phase, function: F) -> ShutdownHook
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.core.add_hook(phase, Location::caller(), function)
    }

    /// Has `function` called in each turn, after its events have been taken and before anything
    /// else runs: for what becomes ready by other ways than a file descriptor, and needs a look now
    /// and then. It does not give rise to turns, and should take well below a microsecond when
    /// there is nothing to do.
    #[track_caller]
    pub fn on_turn(&self, function: impl Fn() + 'static) -> TurnHook {
        TurnHook::new(&self.core, Rc::new(function))
    }

    /// Makes a hook for the end of turns: `function` is called, once, at the end of each turn that
    /// [asks](TurnEnd::request) for it. `origin` names it in reports.
    pub fn on_turn_end(&self, origin: Origin, function: impl Fn(&Handle) + 'static) -> TurnEnd {
        TurnEnd::new(Rc::downgrade(&self.core), origin, Box::new(function))
    }

    /// Has `function` called with each [`Report`]: panics, stalls, failures. A panic in
    /// it is logged.
    pub fn observe(&self, function: impl Fn(&Report<'_>) + 'static) -> Observer {
        Observer::new(&self.core, Rc::new(function))
    }

    /// From how long on a callback is reported as a stall. 8 ms at first.
    pub fn set_stall_threshold(&self, threshold: Duration) {
        self.core.meter.threshold.set(threshold);
    }

    /// Whether handlers of HTTP requests are timed besides the callbacks in which they run, and the
    /// times of turns and the lateness of timers are recorded. They are, at first; it costs some 50
    /// ns a request. What else there is in [`Metrics`], stalls included, is always there.
    pub fn set_timing(&self, on: bool) {
        self.core.meter.on.set(on);
    }

    /// Figures since the reactor was made. It takes some microseconds, however much there is to
    /// count.
    pub fn metrics(&self) -> Metrics {
        self.core.metrics()
    }

    /// Callbacks that held the thread for longer than the [threshold](Handle::set_stall_threshold).
    pub fn stalls(&self) -> Stalls {
        self.core.meter.stalls()
    }

    /// What there is to do at present: tasks, timers and connections. It goes through all of them,
    /// which takes a millisecond for 10,000.
    pub fn census(&self) -> Census {
        self.core.census()
    }

    /// A clock for something that draws frames, by which the network keeps out of their way. A
    /// host's backend makes them for its windows.
    pub fn frame_clock(&self) -> FrameClock {
        FrameClock::new(self.core.clone())
    }

    /// How the thread is shared with the host: what a slice may take, at most and at least. From
    /// the next slice on.
    pub fn set_pacing(&self, pacing: Pacing) {
        self.core.frames.pacing.set(pacing);
    }
}

/// What servers and other layers need of the reactor; see [`server`](crate::server).
impl Handle {
    /// Runs a future as a task that nobody waits for. Reports name `origin`.
    ///
    /// As for [`spawn`](Handle::spawn), but without the cost of a Deferred. A panic ends the task
    /// and is reported. A task that is alive when the run ends is dropped.
    pub fn spawn_detached(&self, origin: Origin, future: impl Future<Output = ()> + 'static) {
        self.core.spawn_detached(future, origin);
    }

    /// As [`spawn`](Handle::spawn), with an `origin` for reports.
    pub fn spawn_as<F>(&self, origin: Origin, future: F) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        self.core.spawn(future, origin)
    }

    /// The number of the present run, or of the next one.
    pub(crate) fn run_number(&self) -> u64 {
        self.core.life.number()
    }

    /// Calls code of the program's. A panic in it is reported under `origin`, and the result is
    /// `None`.
    pub fn contain<T>(&self, origin: Origin, function: impl FnOnce() -> T) -> Option<T> {
        self.core.contain(origin, function)
    }

    /// Calls code of the program's as a part of the callback that is running, timed by itself:
    /// figures and stall reports name `origin` for it, and the callback for the rest. A panic in it
    /// is reported, and the result is `None`.
    ///
    /// It costs two looks at the clock, none with [`set_timing(false)`](Handle::set_timing).
    pub fn measure<T>(&self, origin: Origin, function: impl FnOnce() -> T) -> Option<T> {
        self.core.measure(origin, function)
    }

    /// The time at which the present turn began to run callbacks, or the last one did. Cheaper than
    /// [`now`](Handle::now), for deadlines that a turn does not matter to.
    pub fn turn_time(&self) -> Instant {
        self.core.time.get()
    }

    /// Takes `units` from the running task's share of this poll: one for an operation, one more for
    /// each 16 KiB. Returns false when the share is used up: the task should wake itself and return
    /// `Pending`, so that others have their turn. A share is 64 units.
    ///
    /// The streams of this crate do this by themselves. It is for work that a peer can cause
    /// without any I/O, such as messages that are buffered already.
    ///
    /// A future that an executor of another kind polls has no share of its own. It is told to give
    /// way once every 64 units.
    #[must_use = "a task that does not give way holds up all others"]
    pub fn spend(&self, units: u32) -> bool {
        self.core.tasks.spend(units)
    }

    /// What a layer keeps with this reactor, by its type; `init` makes it the first time. It is
    /// dropped when the reactor is.
    pub fn extension<T: 'static>(&self, init: impl FnOnce() -> Rc<T>) -> Rc<T> {
        if let Some(present) = self.core.extension() {
            return present;
        }
        // It may call back.
        let made = init();
        self.core.extension().unwrap_or_else(|| {
            self.core.extend(made.clone());
            made
        })
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

/// A call that was scheduled with [`Handle::call_later`] or [`Handle::call_at`]. Dropping it
/// changes nothing.
pub struct Timer {
    core: Weak<Core>,
    key: TimerKey,
    cancelled: Cell<bool>,
}

impl Timer {
    /// Takes the call back.
    ///
    /// # Errors
    /// [`TimerError`] tells why there is nothing to take back: it was called (or is being called),
    /// or cancelled before.
    pub fn cancel(&self) -> Result<(), TimerError> {
        let core = self.pending()?;
        let timed = core.timers.borrow_mut().remove(self.key);
        self.cancelled.set(true);
        // Dropped here, after the borrow, since it is the user's.
        drop(timed);
        core.settle_deadline();
        Ok(())
    }

    /// Moves the call to `delay` from now, earlier or later. Among calls at the same instant it
    /// comes last.
    ///
    /// # Errors
    /// As for [`cancel`](Timer::cancel); then nothing is scheduled.
    pub fn reset(&self, delay: Duration) -> Result<(), TimerError> {
        let core = self.pending()?;
        let at = Handle::new(core.clone()).after(delay);
        core.reset_timer(self.key, at);
        Ok(())
    }

    /// Whether the call is still to come.
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

/// Why a timer can be neither cancelled nor reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerError {
    /// The call was made or is being made, or the run ended before it.
    Called,
    /// It was cancelled before.
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

/// A timer that wakes a task. Dropping it cancels it.
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
        let replaced = self
            .key
            .and_then(|key| match core.timers.borrow_mut().get_mut(key) {
                Some(Timed::Wake(present)) if present.will_wake(waker) => Some(None),
                Some(timed) => Some(Some(std::mem::replace(timed, Timed::Wake(waker.clone())))),
                None => None,
            });
        match replaced {
            // What was replaced is dropped after the borrow.
            Some(old) => drop(old),
            None => self.key = Some(core.insert_timer(deadline, Timed::Wake(waker.clone()))),
        }
    }

    /// Moves the wake-up, if there is one.
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
