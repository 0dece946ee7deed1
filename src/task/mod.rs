//! Futures on the reactor's own thread: they need not be `Send`.

mod queue;
mod sleep;

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

pub(crate) use queue::{Runnable, Tasks};
pub use sleep::{Elapsed, Sleep, Timeout};

use crate::reactor::{Core, Origin, panic_message};

/// What each task carries.
pub(crate) struct Meta {
    pub(crate) origin: Origin,
}

/// A task that was spawned: wait for its result, or cancel it. Dropping it lets the task run on.
///
/// The result is a [`TaskError`] when the task panicked, was cancelled, or was still there when the reactor's run ended.
#[must_use = "a task runs on when this is dropped; say so with `detach`"]
pub struct Task<T> {
    /// There until it is detached or cancelled.
    task: Option<async_task::FallibleTask<Result<T, String>, Meta>>,
}

impl<T> Task<T> {
    /// Lets the task run on by itself.
    pub fn detach(self) {}

    /// Ends the task: its future is dropped, from the reactor's next turn, and what it waited for is dropped with it. No-op when
    /// it has ended. May be called by the task itself; then it ends at its next await.
    pub fn cancel(mut self) {
        drop(self.task.take());
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(|task| task.is_finished())
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("a task that was cancelled or detached is not there to be polled");
        Pin::new(task).poll(cx).map(|result| match result {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(TaskError::Panicked(message)),
            None => Err(TaskError::Cancelled),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// It was cancelled, or the reactor's run ended.
    Cancelled,
    /// It panicked, with this message; the panic was reported.
    Panicked(String),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Cancelled => f.write_str("the task was cancelled"),
            TaskError::Panicked(message) => write!(f, "the task panicked: {message}"),
        }
    }
}

impl std::error::Error for TaskError {}

impl Core {
    pub(crate) fn spawn<F>(self: &Rc<Self>, future: F, origin: Origin) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        let slot = self.tasks.reserve();
        let contained = Contained { future, core: Rc::downgrade(self), slot };
        let inbox = self.inbox.clone();
        let schedule = move |runnable: Runnable| match Core::local(inbox.id) {
            Some(core) => core.push_task(runnable),
            None => inbox.wake(runnable),
        };
        let (runnable, task) =
            async_task::Builder::new().metadata(Meta { origin }).spawn_local(|_| contained, schedule);
        if self.life.is_closed() {
            // Dropping the runnable drops the future; the task resolves as cancelled.
            drop(runnable);
        } else {
            self.tasks.admit(slot, runnable.waker());
            runnable.schedule();
        }
        Task { task: Some(task.fallible()) }
    }

    pub(crate) fn push_task(&self, runnable: Runnable) {
        self.tasks.push(runnable);
        self.request_turn();
    }

    /// Ends the tasks: all, or only those that were told to end and are queued for it. The one that carries out the shutdown is left alone
    /// until it has ended by itself.
    pub(crate) fn end_tasks(&self, all: bool) {
        loop {
            if all {
                self.tasks.wake_all();
            }
            self.tasks.extend(self.inbox.take_woken());
            let queued = self.tasks.take_ready();
            if queued.is_empty() {
                return;
            }
            for runnable in queued {
                let origin = runnable.metadata().origin;
                self.dispose(origin, runnable);
            }
        }
    }
}

pin_project_lite::pin_project! {
    /// A task's future, with its panics caught and its place in the list of tasks.
    struct Contained<F> {
        #[pin]
        future: F,
        core: Weak<Core>,
        slot: usize,
    }

    impl<F> PinnedDrop for Contained<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(core) = this.core.upgrade() {
                core.tasks.release(this.slot);
            }
        }
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => {
                let message = panic_message(&*panic);
                if let Some(core) = this.core.upgrade() {
                    core.tasks.panicked(message.clone());
                }
                Poll::Ready(Err(message))
            }
        }
    }
}
