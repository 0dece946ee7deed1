//! Long work in short steps.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    deferred::{Deferred, Interrupted},
    reactor::{Core, Handle, Label, Moment, Origin},
};

/// How long the steps of one slice may take together: a quarter of the usual turn, so that tasks
/// behind this one, with connections among them, are not kept waiting for whole turns.
const SLICE: Duration = Duration::from_micros(500);

impl Handle {
    /// Does long work on this thread in steps, each a call of the iterator's `next`, a few in each
    /// turn: for work that must be done here (a list of 100,000 rows is filled with widgets). The
    /// Deferred fires when the iterator ends.
    ///
    /// Steps are made until 0.5 ms or the turn's budget are used up; then everybody else has a
    /// turn. So the thread is held up for that and the rest of one step at most, however many there
    /// are, and a step should be short.
    ///
    /// To cancel the Deferred, also from inside a step, ends the work after the present one, and
    /// drops the iterator in the next turn. A step that panics ends it with
    /// [`Interrupted::Panicked`], and the end of the run with [`Interrupted::Cancelled`]. A step
    /// that spins the host's loop is not entered again.
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
    ///             handle.stop().expect("it runs");
    ///         }
    ///     })
    ///     .detach();
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

/// Each poll is a slice.
struct Slices {
    /// There until the end.
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
        while steps.next().is_some() {
            // After turns inside this step everybody else may have changed, the run may even be
            // over.
            let given_way = core.turns() != turns;
            if given_way || this.cancelled.get() || Moment::now().since(start) >= time {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        // The iterator goes before whoever waits hears of the end.
        this.steps = None;
        Poll::Ready(Ok(()))
    }
}
