//! How a future becomes a task, and how tasks end.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
};

use super::{
    Core,
    tasks::{Meta, Runnable},
};
use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    log,
    panic::catch,
    reactor::observe::Origin,
};

/// How many times in a row something that ends may begin anew while a run ends.
pub(super) const MOST_ANEW: usize = 100;

impl Core {
    /// Runs a future as a task; see [`Handle::spawn`](crate::Handle::spawn).
    pub(crate) fn spawn<F>(
        self: &Rc<Self>,
        future: F,
        origin: Origin,
    ) -> Deferred<F::Output, Interrupted>
    where
        F: Future + 'static,
    {
        let (resolver, deferred) = Deferred::born(origin.location);
        // Dropping the task's handle ends the task.
        let task = Rc::new(Cell::new(None));
        resolver.set_canceller({
            let task = task.clone();
            move || drop(task.take())
        });
        task.set(Some(self.launch(
            future,
            origin,
            move |result| match result {
                Ok(value) => resolver.resolve(value),
                Err(why) => resolver.interrupt(why),
            },
        )));
        deferred
    }

    /// Runs a future as a task whose result becomes the Deferred's result. If the Deferred is
    /// cancelled, `cancel` is called at once, and the future is dropped in the next turn.
    pub(crate) fn spawn_for<F, T, E>(
        self: &Rc<Self>,
        future: F,
        origin: Origin,
        cancel: impl FnOnce() + 'static,
    ) -> Deferred<T, E>
    where
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: ChainError,
    {
        let (resolver, deferred) = Deferred::born(origin.location);
        let task = Rc::new(Cell::new(None));
        resolver.set_canceller({
            let task = task.clone();
            move || {
                cancel();
                drop(task.take());
            }
        });
        task.set(Some(self.launch(
            future,
            origin,
            move |result| match result {
                Ok(result) => resolver.settle(result),
                Err(why) => resolver.interrupt(why),
            },
        )));
        deferred
    }

    /// Runs a future as a task that nothing waits for.
    pub(crate) fn spawn_detached(
        self: &Rc<Self>,
        future: impl Future<Output = ()> + 'static,
        origin: Origin,
    ) {
        self.launch(future, origin, |_| {}).detach();
    }

    fn launch<F, D>(
        self: &Rc<Self>,
        future: F,
        origin: Origin,
        done: D,
    ) -> async_task::Task<(), Meta>
    where
        F: Future + 'static,
        D: FnOnce(Result<F::Output, Interrupted>) + 'static,
    {
        let slot = self.tasks.reserve();
        let contained = Contained {
            future: Some(future),
            done: Some(done),
            core: Rc::downgrade(self),
            slot,
            origin,
        };
        self.launch_boxed(Box::pin(contained), slot, origin)
    }

    /// In its box, each future is of the same type. Otherwise the compiler would make all of
    /// `async_task` anew for each, twice, and in each crate that starts tasks.
    fn launch_boxed(
        self: &Rc<Self>,
        contained: Pin<Box<dyn Future<Output = ()>>>,
        slot: usize,
        origin: Origin,
    ) -> async_task::Task<(), Meta> {
        let inbox = self.inbox.clone();
        let schedule = move |runnable: Runnable| match Core::local(inbox.id) {
            Some(core) => core.push_task(runnable),
            None => inbox.wake(runnable),
        };
        let (runnable, task) = async_task::Builder::new()
            .metadata(Meta {
                origin,
                run: self.life.number(),
            })
            .spawn_local(|_| contained, schedule);
        if self.life.refuses() {
            // Dropping the runnable drops the future, which reports that it was cancelled.
            drop(runnable);
        } else {
            self.tasks.admit(slot, runnable.waker(), origin);
            runnable.schedule();
        }
        task
    }

    pub(crate) fn push_task(&self, runnable: Runnable) {
        self.tasks.push(runnable);
        self.request_turn();
    }

    /// Ends all tasks, except those on the stack, which end when they return. One of these carries
    /// out the shutdown: it runs until it finishes.
    ///
    /// A task that another thread is waking at this moment is neither waiting nor queued until that
    /// thread has handed it over, a few instructions later. It is waited for, or its future would
    /// be leaked.
    ///
    /// Returns false if there are tasks left: whenever they were dropped, others were spawned.
    pub(crate) fn end_tasks(&self) -> bool {
        let mut anew = 0;
        loop {
            let before = self.tasks.alive_len();
            self.tasks.wake_all();
            self.tasks.extend(self.inbox.take_woken());
            if self.drop_queued() {
                anew += usize::from(self.tasks.alive_len() >= before);
                if anew >= MOST_ANEW {
                    return false;
                }
                continue;
            }
            if self.tasks.are_ended() {
                return true;
            }
            std::thread::yield_now();
        }
    }

    /// Ends the tasks of an earlier run that were on the stack when it ended. They have been queued
    /// since then.
    pub(crate) fn end_late_tasks(&self) {
        let run = self.life.number();
        while let Some(late) = self.tasks.pop_if(|meta| meta.run != run) {
            self.dispose(late.metadata().origin, late);
        }
    }

    /// Drops the tasks that are queued. Returns whether there were any. One by one, because what
    /// drops them may end all tasks itself: none of them is then out of its reach.
    fn drop_queued(&self) -> bool {
        let mut any = false;
        for _ in 0..self.tasks.ready_len() {
            let Some(task) = self.tasks.pop() else { break };
            any = true;
            self.dispose(task.metadata().origin, task);
        }
        any
    }
}

pin_project_lite::pin_project! {
    /// A task's future. Catches its panics, reports its end, and holds its slot in the list of
    /// tasks.
    struct Contained<F: Future, D>
    where
        D: FnOnce(Result<F::Output, Interrupted>),
    {
        // `None` after the end.
        #[pin]
        future: Option<F>,
        done: Option<D>,
        core: Weak<Core>,
        slot: usize,
        origin: Origin,
    }

    impl<F: Future, D> PinnedDrop for Contained<F, D>
    where
        D: FnOnce(Result<F::Output, Interrupted>),
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let core = this.core.upgrade();
            if let Some(core) = &core {
                core.tasks.release(*this.slot);
            }
            // `async_task` aborts the program if a panic leaves this.
            let done = this.done.take();
            let told = catch(|| {
                if let Some(done) = done {
                    done(Err(Interrupted::Cancelled));
                }
            });
            let mut future = this.future;
            let dropped = catch(|| future.set(None));
            for message in [told, dropped].into_iter().filter_map(Result::err) {
                report(core.as_deref(), *this.origin, &message);
            }
        }
    }
}

impl<F, D> Future for Contained<F, D>
where
    F: Future,
    D: FnOnce(Result<F::Output, Interrupted>),
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let mut future = this.future;
        let result = match catch(|| match future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }) {
            Ok(poll) => Ok(ready!(poll)),
            Err(message) => {
                if let Some(core) = this.core.upgrade() {
                    core.tasks.panicked(message.clone());
                }
                Err(Interrupted::Panicked(message))
            }
        };
        if let Some(done) = this.done.take() {
            done(result);
        }
        Poll::Ready(())
    }
}

/// Reports a panic of a destructor.
fn report(core: Option<&Core>, origin: Origin, message: &str) {
    match core {
        Some(core) => core.report_panic(origin, message),
        None => log::error(format_args!(
            "{origin} panicked when it was dropped: {message}"
        )),
    }
}
