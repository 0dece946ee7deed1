//! What servers and other layers need of the reactor: the part of [`Handle`] that belongs to the
//! [server kit](crate::server).

use std::{future::Future, rc::Rc, time::Instant};

use super::Handle;
use crate::{
    deferred::{Deferred, Interrupted},
    reactor::observe::Origin,
};

/// For servers and other layers; see [`server`](crate::server).
impl Handle {
    /// Runs a future as a task whose result nothing waits for. Reports name `origin`.
    ///
    /// Like [`spawn`](Handle::spawn), but without the cost of a Deferred. A panic ends the task and
    /// is reported. Tasks that are alive when the run ends are dropped.
    pub fn spawn_detached(&self, origin: Origin, future: impl Future<Output = ()> + 'static) {
        self.core.spawn_detached(future, origin);
    }

    /// Like [`spawn`](Handle::spawn), with an `origin` for reports.
    pub fn spawn_as<F>(&self, origin: Origin, future: F) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        self.core.spawn(future, origin)
    }

    /// Calls user code. If it panics, the panic is reported under `origin`, and the result is
    /// `None`.
    pub fn contain<T>(&self, origin: Origin, function: impl FnOnce() -> T) -> Option<T> {
        self.core.contain(origin, function)
    }

    /// Calls user code as a separately timed part of the running callback. Metrics and stall
    /// reports charge this part to `origin`, and only the rest to the callback. If the code panics,
    /// the panic is reported, and the result is `None`.
    ///
    /// Costs two clock readings, or none after [`set_timing(false)`](Handle::set_timing).
    pub fn measure<T>(&self, origin: Origin, function: impl FnOnce() -> T) -> Option<T> {
        self.core.measure(origin, function)
    }

    /// The time when the current turn (or the last one) began to run callbacks. Cheaper than
    /// [`now`](Handle::now), for deadlines that need no more precision than a turn. In a callback
    /// of the host, the last turn may be hours ago.
    pub fn turn_time(&self) -> Instant {
        self.core.time.get()
    }

    /// Charges `units` to the running task's budget for this poll: one unit per operation, plus one
    /// for each 16 KiB. Returns false if the budget is used up. The task should then wake itself
    /// and return `Pending`, so that other tasks get a turn. The budget is 64 units, or 1 ms if
    /// that is less; the clock is read once for every 4 units.
    ///
    /// The streams of this crate charge the budget themselves. Call this for work that a peer can
    /// cause without I/O, such as processing messages that are already buffered.
    ///
    /// A future that is polled by another executor has no budget of its own. It is told to yield
    /// once for each such budget.
    #[must_use = "a task that does not give way holds up all others"]
    pub fn spend(&self, units: u32) -> bool {
        crate::share::spend(units)
    }

    /// Returns the value of type `T` that a layer stores with this reactor; `init` makes it the
    /// first time. It is dropped together with the reactor.
    pub fn extension<T: 'static>(&self, init: impl FnOnce() -> Rc<T>) -> Rc<T> {
        if let Some(present) = self.core.extension() {
            return present;
        }
        // `init` may re-enter this method.
        let made = init();
        self.core.extension().unwrap_or_else(|| {
            self.core.extend(made.clone());
            made
        })
    }
}
