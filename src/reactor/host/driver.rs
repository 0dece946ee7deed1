//! The backend's side of a reactor.

use std::{fmt, io, rc::Rc, time::Duration};

use crate::reactor::{
    backend::{Host, NextTurn, Reactor},
    observe::Moment,
    turn::{BUDGET, Core, Handle, LifeError},
};

/// Makes the turns of a reactor. Each reactor has one driver. It belongs to the backend, that is,
/// to the code that the host's loop calls.
///
/// A typical backend calls [`start`](Driver::start) when it is attached, calls
/// [`slice`](Driver::slice) whenever the selector's fd is readable or
/// [`next_turn`](Driver::next_turn) says so, and calls `next_turn` each time before it sleeps.
/// Dropping the driver [closes](Driver::close) it.
pub struct Driver {
    core: Rc<Core>,
}

impl Driver {
    /// Makes a reactor on the backend that consists of these two, and its driver. The driver
    /// belongs to this thread. Most backends pass a shared [`Selector`](super::Selector) and a
    /// [`Host`] of their own, or `()`.
    pub fn new(reactor: impl Reactor + 'static, host: impl Host + 'static) -> Self {
        Driver {
            core: Core::new(Box::new(reactor), Box::new(host)),
        }
    }

    /// The handle that the program uses.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.clone())
    }

    /// Starts a run. The host then makes a slice soon, without being asked: work that was queued
    /// before the run waits for it.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`], and [`LifeError::Closed`] after [`close`](Driver::close).
    pub fn start(&self) -> Result<(), LifeError> {
        self.core.start()
    }

    /// Returns whether a run has started and not yet ended. Also true during the shutdown.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Makes one turn. Waits for events for at most `wait` (without limit if `None`), unless work
    /// is queued. May be called from inside a callback.
    ///
    /// # Errors
    /// Fails if [`Reactor::select`] fails. Queued work has then not run yet.
    pub fn turn(&self, wait: Option<Duration>) -> io::Result<()> {
        let idle = self.core.idle_turns();
        let ran = self.core.turn(wait, BUDGET)?;
        if !ran && wait.is_none() && self.core.idle_turns() != idle {
            self.core.slice_was_idle();
        }
        Ok(())
    }

    /// How long a slice that starts now may take without making a frame late. It depends on the
    /// [frame clocks](crate::reactor::FrameClock) of the host's windows and on the
    /// [pacing](crate::reactor::Handle::set_pacing); the default is 2 ms.
    pub fn budget(&self) -> Duration {
        self.core.slice_budget()
    }

    /// Makes turns, without waiting for events, until no work is left or `budget` is used up. It
    /// may exceed the budget by the length of one callback.
    ///
    /// # Errors
    /// As for [`turn`](Driver::turn).
    pub fn slice(&self, budget: Duration) -> io::Result<()> {
        let start = Moment::now();
        let mut left = budget;
        let (before, mut made) = (self.core.turns(), 1);
        let idle = self.core.idle_turns();
        let mut ran = self.core.turn(Some(Duration::ZERO), left)?;
        if !ran && self.core.idle_turns() != idle {
            self.core.slice_was_idle();
        }
        while ran && self.is_running() {
            left = budget.saturating_sub(Moment::now().since(start));
            if left.is_zero() {
                break;
            }
            made += 1;
            ran = self.core.turn(Some(Duration::ZERO), left)?;
        }
        // If there were nested turns, a loop of the host (such as a dialog's) took the time.
        if self.core.turns() - before == made {
            self.core.slice_took(start, budget);
        }
        Ok(())
    }

    /// What the host must do next. Cheap: a host calls it each time before it sleeps, also in
    /// nested loops, and may call it at any time.
    pub fn next_turn(&self) -> NextTurn {
        self.core.next_turn()
    }

    /// Ends the run at once, without the shutdown phases, and closes the reactor for good. Tasks,
    /// timers and calls are dropped on this thread, protocols get `connection_lost`, and posting
    /// fails from then on. Does nothing the second time.
    ///
    /// May be called from inside a callback: no other callback runs after the current one, and a
    /// turn or slice on the stack returns.
    pub fn close(&self) {
        if !self.core.is_closed() {
            self.core.close();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("handle", &self.handle())
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.close();
    }
}
