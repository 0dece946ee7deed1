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
    Census, Core, FrameClock, Kind, LifeError, Metrics, Observer, Origin, Pacing, Phase, Remote,
    Report, ShutdownHook, Stalls, Stopped, TurnHook,
    core::{Call, Timed},
    timers::TimerKey,
};
use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    task::{LoopingCall, Sleep, Timeout, looping},
};

/// Thirty years: enough for ever, and inside what every clock can say.
pub(crate) const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A handle on a reactor: cheap to clone, and bound to the reactor's thread (not `Send`; other
/// threads use a [`Remote`]).
///
/// Everything here may be called at any time on that thread: before the run, from inside any
/// callback of the reactor, and from the host's own callbacks (a button was clicked). Nothing calls
/// back into the caller.
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
        self.core.push_call(call(Kind::Call, function));
    }

    /// Calls `function` after `delay`: never early, and in the order of scheduling when several are
    /// due at the same instant. With a zero delay it is called in the next turn, not in this one. A
    /// delay of centuries is fine.
    ///
    /// Dropping the [`Timer`] does not cancel it. A timer that is pending when the run ends is
    /// dropped.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(self.after(delay), call(Kind::Timer, function))
    }

    /// Calls `function` at an instant of the reactor's [clock](Handle::now); see
    /// [`call_later`](Handle::call_later).
    #[track_caller]
    pub fn call_at(&self, at: Instant, function: impl FnOnce() + 'static) -> Timer {
        self.schedule(at.max(self.now()), call(Kind::Timer, function))
    }

    /// Calls `function` every `interval`, for the first time after one, until the [`LoopingCall`]
    /// is dropped or the run ends.
    ///
    /// What was missed because the thread was held up is not made up for: there is one call, which
    /// is told how many it stands for besides itself, and the next is due at the next whole
    /// interval. The call is not entered again while it is on the stack. A panic ends it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let reactor = entwined::Standalone::new()?;
    /// # let handle = reactor.handle();
    /// # handle.call_later(Duration::from_millis(5), { let handle = handle.clone(); move || handle.stop().unwrap() });
    /// let ticking = handle.call_every(Duration::from_millis(1), |missed| println!("tick, after {missed} missed ones"));
    /// # reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn call_every(
        &self,
        interval: Duration,
        function: impl FnMut(u64) + 'static,
    ) -> LoopingCall {
        let future = looping::run(self.clone(), self.now(), interval, function);
        let origin = Origin {
            kind: Kind::Timer,
            location: Location::caller(),
        };
        LoopingCall::new(self.core.spawn(future, origin))
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
    fn after(&self, delay: Duration) -> Instant {
        let now = self.now();
        now.checked_add(delay).unwrap_or(now + FOREVER)
    }

    /// Runs a future as a task of this reactor.
    ///
    /// The Deferred fires with what the future gives. To cancel it ends the task: its future is
    /// dropped, from the next turn on, and what it waited for with it; to drop it lets the task run
    /// on. A panic ends the task, is reported, and gives [`Interrupted::Panicked`]. Tasks that are
    /// alive when the run ends are dropped then, and give [`Interrupted::Cancelled`].
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        self.core.spawn(
            future,
            Origin {
                kind: Kind::Task,
                location: Location::caller(),
            },
        )
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

    /// A future that ends after `delay`.
    pub fn sleep(&self, delay: Duration) -> Sleep {
        self.sleep_until(self.after(delay))
    }

    /// A future that ends at an instant of the reactor's [clock](Handle::now).
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// Gives `future` so much time: the result is [`Elapsed`](crate::task::Elapsed) when it has not
    /// ended by then, and it is dropped with the [`Timeout`].
    pub fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        self.timeout_at(self.after(limit), future)
    }

    /// Gives `future` time until an instant; see [`timeout`](Handle::timeout).
    pub fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        Timeout::new(future, self.sleep_until(deadline))
    }

    /// Gives a Deferred so much time: then it is cancelled, and what waits for it gets
    /// [`Interrupted::TimedOut`]. The timer is gone when the result comes first.
    #[track_caller]
    pub fn limit<T: 'static, E: ChainError>(
        &self,
        limit: Duration,
        deferred: Deferred<T, E>,
    ) -> Deferred<T, E> {
        let canceller = deferred.canceller();
        let timer = self.call_later(limit, move || canceller.interrupt(&Interrupted::TimedOut));
        deferred.add_both(move |result| {
            // It was called if it is what ended the chain.
            let _ = timer.cancel();
            result
        })
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
                self.core.turn(None, super::turn::BUDGET).map_err(|error| {
                    tracing::error!(%error, "the operating system refused to wait for events");
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
    /// is left. Returns at once.
    ///
    /// # Errors
    /// [`LifeError::NotRunning`] before a run, [`LifeError::AlreadyStopping`] the second time.
    #[track_caller]
    pub fn stop(&self) -> Result<(), LifeError> {
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

    /// Has `function` called with each [`Report`]: panics, stalls, failures. It must not panic.
    pub fn observe(&self, function: impl Fn(&Report<'_>) + 'static) -> Observer {
        self.core.meter.observe(Rc::new(function))
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

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("reactor", &self.core.inbox.id)
            .field("tasks", &self.core.tasks.alive_len())
            .finish()
    }
}

#[track_caller]
fn call(kind: Kind, function: impl FnOnce() + 'static) -> Call {
    Call {
        function: Box::new(move |_| function()),
        origin: Origin {
            kind,
            location: Location::caller(),
        },
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
