//! The lifecycle of a run: start, stop, the shutdown phases, the end.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    rc::{Rc, Weak},
    time::Duration,
};

use super::{Core, Handle, Timed, remote::Content, spawn::MOST_ANEW};
use crate::{
    deferred::{Deferred, Interrupted},
    log,
    panic::catch,
    reactor::observe::{Label, Origin, Report},
    wake::discard,
};

/// When a hook runs during a shutdown. Each phase begins when all hooks of the previous one have
/// ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Everything still works: say goodbye, finish work in flight.
    Before,
    /// After these hooks, all tasks end, and with them all connections; each gets
    /// `connection_lost`. A connection that was not closed before is aborted: its peer sees a
    /// reset.
    During,
    /// The network is gone. Calls, timers, new tasks and new jobs on threads still work.
    After,
}

/// How long a phase may take before the next one begins anyway.
pub(crate) const PHASE_LIMIT: Duration = Duration::from_secs(30);

type HookResult = Result<(), Box<dyn Error>>;
type HookFuture = Pin<Box<dyn Future<Output = HookResult>>>;

struct Hook {
    number: u64,
    phase: Phase,
    location: &'static Location<'static>,
    function: Box<dyn FnOnce() -> HookFuture>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// No run: before the first run, and between two runs.
    #[default]
    Idle,
    Running,
    /// `stop` was called; the phases are in progress.
    Stopping,
    /// The phases are done; the current turn ends the run.
    Finished,
    /// The driver is gone: there will be no further run.
    Closed,
}

#[derive(Default)]
pub(crate) struct Lifecycle {
    stage: Cell<Stage>,
    /// Number of runs that have ended.
    ended: Cell<u64>,
    /// Whether what is left of a run is being dropped.
    ending: Cell<bool>,
    hooks: RefCell<Vec<Hook>>,
    next_hook: Cell<u64>,
}

impl Lifecycle {
    pub(crate) fn is_running(&self) -> bool {
        matches!(
            self.stage.get(),
            Stage::Running | Stage::Stopping | Stage::Finished
        )
    }

    /// The number of the current run.
    pub(crate) fn number(&self) -> u64 {
        self.ended.get()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stage.get(), Stage::Stopping | Stage::Finished)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.stage.get() == Stage::Finished
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stage.get() == Stage::Closed
    }

    /// Whether what is scheduled now is dropped at once. While the last run ends, it is dropped
    /// with the rest instead: a callback that schedules itself again would call itself for ever.
    pub(super) fn refuses(&self) -> bool {
        self.is_closed() && !self.ending.get()
    }

    pub(crate) fn take_finished(&self) -> bool {
        let finished = self.is_finished();
        if finished {
            self.stage.set(Stage::Idle);
        }
        finished
    }

    /// Takes the next hook of a phase that began before the hook of this number was added. One
    /// that was added since then, from a line of code that was `called`, is for the next run: else
    /// a hook that adds itself again would be called for ever.
    fn take_hook(
        &self,
        phase: Phase,
        begin: u64,
        called: &[&'static Location<'static>],
    ) -> Option<Hook> {
        let mut hooks = self.hooks.borrow_mut();
        let index = hooks.iter().position(|hook| {
            hook.phase == phase && (hook.number < begin || !called.contains(&hook.location))
        })?;
        Some(hooks.remove(index))
    }
}

impl Core {
    pub(crate) fn start(&self) -> Result<(), LifeError> {
        match self.life.stage.get() {
            // What is dropped at the end of a run may ask for the next one. It would end at once.
            Stage::Idle if self.life.ending.get() => return Err(LifeError::AlreadyRunning),
            Stage::Idle => self.life.stage.set(Stage::Running),
            Stage::Closed => return Err(LifeError::Closed),
            _ => return Err(LifeError::AlreadyRunning),
        }
        Ok(())
    }

    #[track_caller]
    pub(crate) fn stop(self: &Rc<Self>) -> Result<(), LifeError> {
        match self.life.stage.get() {
            Stage::Running => self.life.stage.set(Stage::Stopping),
            Stage::Idle => return Err(LifeError::NotRunning),
            Stage::Stopping | Stage::Finished => return Err(LifeError::AlreadyStopping),
            Stage::Closed => return Err(LifeError::Closed),
        }
        let origin = Origin {
            label: Label::SHUTDOWN,
            location: Location::caller(),
        };
        self.spawn_detached(shutdown(Rc::downgrade(self)), origin);
        Ok(())
    }

    /// Ends a run: drops everything that is left, on this thread. The only callback from now on is
    /// `connection_lost`. What is scheduled meanwhile goes with the run.
    pub(crate) fn end_run(self: &Rc<Self>) {
        self.life.ended.set(self.life.ended.get() + 1);
        let outer = self.life.ending.replace(true);
        self.run_ends();
        // The destructors may schedule more.
        for anew in 0.. {
            let endless = !self.drop_work() || anew >= MOST_ANEW;
            if !self.has_own_work() {
                break;
            }
            if endless {
                self.give_up();
                break;
            }
        }
        self.drop_ends();
        self.settle_deadline();
        self.host.ended();
        self.life.ending.set(outer);
    }

    /// Leaves what begins anew whenever it is dropped to the next run. If there is none, it is
    /// leaked.
    fn give_up(&self) {
        log::error(format_args!(
            "whenever something is dropped because the run ends, it is scheduled again"
        ));
        if self.is_closed() {
            std::mem::forget((
                self.tasks.take(),
                self.timers.borrow_mut().drain(),
                self.calls.take(),
            ));
        }
    }

    /// Whether anything is left that was scheduled on this thread. What other threads post does not
    /// count: they could go on for as long as they like.
    fn has_own_work(&self) -> bool {
        self.tasks.has_ready()
            || !self.tasks.are_ended()
            || self.timers.borrow().len() > 0
            || !self.calls.borrow().is_empty()
            || self.inbox.has_own_calls()
    }

    /// Drops the tasks, timers and calls that there are. Returns false if the tasks do not end.
    fn drop_work(&self) -> bool {
        let ended = self.end_tasks();
        let timers = self.timers.borrow_mut().drain();
        for timed in timers {
            match timed {
                Timed::Call(call) => self.dispose(call.origin, call.function),
                Timed::Wake(waker) => discard(waker),
            }
        }
        let calls = self.calls.take();
        for call in calls.into_iter().map(|call| (call.origin, call.function)) {
            self.dispose(call.0, call.1);
        }
        let Content { calls, woken, .. } = self.inbox.take();
        self.tasks.extend(woken);
        self.end_late_tasks();
        for (call, location) in calls {
            self.dispose(
                Origin {
                    label: Label::CALL,
                    location,
                },
                call,
            );
        }
        ended
    }

    /// Closes the reactor when its driver is gone: ends the run at once, without its phases, and
    /// accepts no more work.
    pub(crate) fn close(self: &Rc<Self>) {
        self.life.stage.set(Stage::Closed);
        self.inbox.close();
        self.end_run();
        self.inbox.end();
        let hooks = self.life.hooks.take();
        for hook in hooks {
            let origin = Origin {
                label: Label::SHUTDOWN,
                location: hook.location,
            };
            self.dispose(origin, hook.function);
        }
        self.drop_kept_hooks();
        for observer in self.kept_observers.take() {
            dispose_unnamed("an observer", observer);
        }
        for (_, value) in self.extensions.take() {
            dispose_unnamed("a value that a layer had stored with the reactor", value);
        }
    }

    /// Drops a user value; its destructor may panic.
    pub(crate) fn dispose<T>(&self, origin: Origin, value: T) {
        self.contain(origin, || drop(value));
    }

    /// Calls user code. If it panics, the panic is reported, and the result is `None`.
    pub(crate) fn contain<R>(&self, origin: Origin, function: impl FnOnce() -> R) -> Option<R> {
        catch(function)
            .map_err(|message| self.report_panic(origin, &message))
            .ok()
    }

    pub(crate) fn add_hook<F, Fut>(
        self: &Rc<Self>,
        phase: Phase,
        location: &'static Location<'static>,
        function: F,
    ) -> ShutdownHook
    where
        F: FnOnce() -> Fut + 'static,
        Fut: Future<Output = HookResult> + 'static,
    {
        let number = self.life.next_hook.get();
        self.life.next_hook.set(number + 1);
        if !self.life.is_closed() {
            let function = Box::new(move || -> HookFuture { Box::pin(function()) });
            self.life.hooks.borrow_mut().push(Hook {
                number,
                phase,
                location,
                function,
            });
        }
        ShutdownHook {
            core: Rc::downgrade(self),
            number,
        }
    }
}

/// Drops a user value whose origin is not known.
fn dispose_unnamed<T>(what: &str, value: T) {
    if let Err(message) = catch(|| drop(value)) {
        log::error(format_args!(
            "{what} panicked when it was dropped: {message}"
        ));
    }
}

/// The task that takes a reactor from `stop` to the end of the run.
async fn shutdown(core: Weak<Core>) {
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let Some(core) = core.upgrade() else { return };
        let handle = Handle::new(core.clone());
        let limit = core.reactor.now() + PHASE_LIMIT;
        let first_added = core.life.next_hook.get();
        let (mut waiting, mut called) = (Vec::new(), Vec::new());
        // A hook may add or remove other hooks, so take them one at a time.
        loop {
            while let Some(hook) = core.life.take_hook(phase, first_added, &called) {
                if !called.contains(&hook.location) {
                    called.push(hook.location);
                }
                waiting.extend(begin(&core, hook));
            }
            let Some((origin, task)) = waiting.pop() else {
                break;
            };
            match handle.timeout_at(limit, task).await {
                Ok(Ok(Ok(()))) | Ok(Err(Interrupted::Panicked(_))) => {}
                Ok(Ok(Err(error))) => core.meter.report(&Report::Failure {
                    origin,
                    error: &*error,
                }),
                Ok(Err(error)) => core.meter.report(&Report::Failure {
                    origin,
                    error: &error,
                }),
                Err(elapsed) => core.meter.report(&Report::Failure {
                    origin,
                    error: &elapsed,
                }),
            }
        }
        if phase == Phase::During {
            // Those that begin anew for ever are new tasks, which may go on.
            let _ = core.end_tasks();
        }
    }
    // What ran meanwhile may have closed the reactor.
    let core = core.upgrade();
    if let Some(core) = core.filter(|core| core.life.stage.get() == Stage::Stopping) {
        core.life.stage.set(Stage::Finished);
    }
}

/// Calls a hook, and spawns the future that it returns as a task.
fn begin(core: &Rc<Core>, hook: Hook) -> Option<(Origin, Deferred<HookResult, Interrupted>)> {
    let origin = Origin {
        label: Label::SHUTDOWN,
        location: hook.location,
    };
    let future = core.contain(origin, hook.function)?;
    Some((origin, core.spawn(future, origin)))
}

/// A function that was passed to [`Handle::on_shutdown`]. Dropping this removes the function.
#[must_use = "dropping it removes the hook; use `keep` to leave it for good"]
pub struct ShutdownHook {
    core: Weak<Core>,
    number: u64,
}

impl ShutdownHook {
    /// Leaves the hook in place for good.
    pub fn keep(mut self) {
        self.core = Weak::new();
    }
}

impl fmt::Debug for ShutdownHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHook")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Drop for ShutdownHook {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let hook = {
            let mut hooks = core.life.hooks.borrow_mut();
            let index = hooks.iter().position(|hook| hook.number == self.number);
            index.map(|index| hooks.remove(index))
        };
        // Dropped here, after the borrow, because it is user code.
        drop(hook);
    }
}

/// Why a reactor cannot start or stop now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifeError {
    /// The reactor is not running, so it cannot be stopped.
    NotRunning,
    /// The reactor is already running.
    AlreadyRunning,
    /// The reactor is already stopping.
    AlreadyStopping,
    /// The reactor's driver is gone: it will never run again.
    Closed,
}

impl fmt::Display for LifeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LifeError::NotRunning => "the reactor does not run",
            LifeError::AlreadyRunning => "the reactor runs already",
            LifeError::AlreadyStopping => "the reactor is stopping already",
            LifeError::Closed => "the reactor is gone from its loop for good",
        })
    }
}

impl Error for LifeError {}

/// Why [`Handle::wait`] has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The reactor's run ended before the result came.
    Stopped,
    /// The callback that asks is inside of as many others that run the loop as the stack has room
    /// for.
    TooDeep,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitError::Stopped => "the reactor's run ended before the result came",
            WaitError::TooDeep => {
                "too many callbacks that wait are inside of each other: wait in a task instead"
            }
        })
    }
}

impl Error for WaitError {}
