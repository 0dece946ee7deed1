//! Splits long work into short steps.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use crate::{
    deferred::{Deferred, Interrupted},
    reactor::{Core, Handle, Label, Moment, Origin},
    share::{SLICE, counts_time},
};

/// How many steps it takes at a time in a simulation, whose turns do not depend on real time.
const MOST_STEPS: u32 = 64;

impl Handle {
    /// Does long work on this thread in steps. Each step is a call of the iterator's `next`, and
    /// each turn makes a few of them. Use it for work that must run on this thread, such as filling
    /// a list of 100,000 rows with widgets. The Deferred fires when the iterator ends.
    ///
    /// Steps run until 0.5 ms or the turn's budget is used up; then other tasks get a turn. The
    /// thread is therefore blocked for at most that time plus the rest of one step, however many
    /// steps there are. Keep each step short.
    ///
    /// Cancelling the Deferred, even from inside a step, ends the work after the current step and
    /// drops the iterator in the next turn. If a step panics, the Deferred fails with
    /// [`Interrupted::Panicked`]. If the run ends, it fails with [`Interrupted::Cancelled`]. If a
    /// step spins the host's event loop, the iterator is not re-entered.
    ///
    /// ```
    /// # use std::{cell::Cell, rc::Rc};
    /// # use entwined::Standalone;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let reactor = Standalone::new()?;
    /// # let handle = reactor.handle();
    /// let sum = Rc::new(Cell::new(0_u64));
    /// let steps = (1..=100_000).map({
    ///     let sum = sum.clone();
    ///     move |number| sum.set(sum.get() + number)
    /// });
    /// handle
    ///     .cooperate(steps)
    ///     .map({
    ///         let handle = handle.clone();
    ///         move |()| {
    ///             println!("the sum is {}", sum.get());
    ///             handle.stop();
    ///         }
    ///     });
    /// # reactor.run()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn cooperate<I>(&self, steps: I) -> Deferred<(), Interrupted>
    where
        I: IntoIterator<Item = ()>,
        I::IntoIter: 'static,
    {
        let cancelled = Rc::new(Cell::new(false));
        let slices = Slices {
            steps: Some(Box::new(steps.into_iter())),
            core: Rc::downgrade(self.core()),
            cancelled: cancelled.clone(),
        };
        let origin = Origin::here(Label::TASK);
        self.core()
            .spawn_for(slices, origin, move || cancelled.set(true))
    }
}

/// Each poll runs one slice.
struct Slices {
    /// `None` after the end.
    steps: Option<Box<dyn Iterator<Item = ()>>>,
    core: Weak<Core>,
    cancelled: Rc<Cell<bool>>,
}

impl Future for Slices {
    type Output = Result<(), Interrupted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (Some(core), Some(steps)) = (this.core.upgrade(), &mut this.steps) else {
            return Poll::Pending;
        };
        let turns = core.turns();
        let start = Moment::now();
        let time = SLICE.min(core.budget_left(start));
        let mut most = if counts_time() { u32::MAX } else { MOST_STEPS };
        while steps.next().is_some() {
            most -= 1;
            // If the step ran nested turns, anything may have changed; the run may even have ended.
            let given_way = core.turns() != turns;
            let over = most == 0 || counts_time() && Moment::now().since(start) >= time;
            if given_way || this.cancelled.get() || over {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        // Drop the iterator before the waiting code learns of the end.
        this.steps = None;
        Poll::Ready(Ok(()))
    }
}
