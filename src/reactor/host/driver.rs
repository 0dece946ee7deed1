//! The backend's side of a reactor.

use std::{fmt, io, rc::Rc, time::Duration};

use crate::reactor::{
    backend::{NextTurn, Reactor},
    observe::Moment,
    turn::{BUDGET, Core, Handle, LifeError},
};

/// Makes a reactor's turns. There is one for each reactor, and it belongs to the backend: to
/// whatever the host loop calls.
///
/// The usual backend calls [`start`](Driver::start) when it is attached, [`slice`](Driver::slice)
/// whenever the selector's fd is readable or [`next_turn`](Driver::next_turn) says so, and asks
/// `next_turn` before each sleep. Dropping the driver [closes](Driver::close) it.
pub struct Driver {
    core: Rc<Core>,
}

impl Driver {
    /// A driver for a new reactor over this backend. It belongs to this thread.
    pub fn new(reactor: impl Reactor + 'static) -> Self {
        Driver {
            core: Core::new(Box::new(reactor)),
        }
    }

    /// The handle that programs work with.
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.clone())
    }

    /// Begins a run.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`].
    pub fn start(&self) -> Result<(), LifeError> {
        self.core.start()
    }

    /// Whether a run has begun and not ended; true also while it is stopping.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Makes one turn. It waits for events for at most `wait` (for ever with `None`, not at all
    /// with zero), unless something is queued. May be called from inside a callback.
    ///
    /// # Errors
    /// When [`Reactor::select`] fails; what was queued has still to run.
    pub fn turn(&self, wait: Option<Duration>) -> io::Result<()> {
        self.core.turn(wait, BUDGET).map(drop)
    }

    /// What a slice that begins now may take, so that no frame is late: by the [frame
    /// clocks](crate::reactor::FrameClock) of the host's windows, and the
    /// [pacing](crate::reactor::Handle::set_pacing). 2 ms where neither says otherwise.
    pub fn budget(&self) -> Duration {
        self.core.slice_budget()
    }

    /// Makes turns without waiting until nothing is left to do or `budget` is used up. It ends
    /// within the budget plus one callback.
    ///
    /// # Errors
    /// As for [`turn`](Driver::turn).
    pub fn slice(&self, budget: Duration) -> io::Result<()> {
        let start = Moment::now();
        let mut left = budget;
        let (before, mut made) = (self.core.turns(), 1);
        while self.core.turn(Some(Duration::ZERO), left)? && self.is_running() {
            left = budget.saturating_sub(Moment::now().since(start));
            if left.is_zero() {
                break;
            }
            made += 1;
        }
        // With turns inside of turns it was a loop of the host's that took the time, a dialog's for
        // example.
        if self.core.turns() - before == made {
            self.core.slice_took(start, budget);
        }
        Ok(())
    }

    /// What the host must do next. Cheap; a host asks it each time before it sleeps.
    pub fn next_turn(&self) -> NextTurn {
        self.core.next_turn()
    }

    /// Ends the run at once, without the shutdown phases, and for good: tasks, timers and calls are
    /// dropped on this thread, connections hear that they are lost, and posting fails from then on.
    /// Does nothing the second time.
    ///
    /// From inside a callback it does the same: nothing is called after the one that is running,
    /// and a turn or slice that is on the stack returns.
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
