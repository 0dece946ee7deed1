//! Periodic calls.

use std::{
    fmt,
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    deferred::{Deferred, Interrupted},
    reactor::{FOREVER, Handle, Label, Origin},
};

impl Handle {
    /// Calls `function` every `interval`, for the first time after one interval, until
    /// [`LoopingCall::cancel`] or the end of the run.
    ///
    /// Calls that were missed because the thread was held up are not made up for: there is one
    /// call, whose argument says how many others were missed, and the next is due at the next whole
    /// interval. The call is not entered again while it is on the stack. A panic ends the calls.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let reactor = entwined::Standalone::new()?;
    /// # let handle = reactor.handle();
    /// # let stopping = handle.clone();
    /// # handle.call_later(Duration::from_millis(5), move || stopping.stop());
    /// handle.call_every(Duration::from_millis(1), |missed| {
    ///     println!("tick, after {missed} missed ones");
    /// });
    /// # reactor.run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn call_every(
        &self,
        interval: Duration,
        function: impl FnMut(u64) + 'static,
    ) -> LoopingCall {
        let future = run(self.clone(), self.now(), interval, function);
        LoopingCall::new(self.spawn_as(Origin::here(Label::TIMER), future))
    }
}

/// A call that is repeated at regular intervals. Created by [`Handle::call_every`]. Dropping it
/// lets the calls go on.
pub struct LoopingCall {
    task: Deferred<(), Interrupted>,
}

impl LoopingCall {
    fn new(task: Deferred<(), Interrupted>) -> Self {
        LoopingCall { task }
    }

    /// Stops the calls. May be called from inside the call. Does nothing the second time.
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// Returns whether the calls continue: they were not cancelled, the run has not ended, and no
    /// call has panicked.
    pub fn is_active(&self) -> bool {
        !self.task.is_ready()
    }
}

impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopingCall")
            .field("active", &self.is_active())
            .finish()
    }
}

/// The loop. Calls are due at whole multiples of `interval` after `start`, however long they take.
async fn run(handle: Handle, start: Instant, interval: Duration, mut function: impl FnMut(u64)) {
    let interval = interval.clamp(Duration::from_nanos(1), FOREVER);
    let mut due = start + interval;
    loop {
        handle.sleep_until(due).await;
        let late = handle.now().saturating_duration_since(due);
        let missed = late.as_nanos() / interval.as_nanos();
        let since_last = late.as_nanos() % interval.as_nanos();
        // The cast is safe: both values are below the 30-year maximum of an interval.
        due += late + interval - Duration::from_nanos(since_last as u64);
        function(u64::try_from(missed).unwrap_or(u64::MAX));
        give_way().await;
    }
}

/// Yields to other tasks, because the next call may already be due.
pub(super) async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
