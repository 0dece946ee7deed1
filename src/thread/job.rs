//! Takes a job to a thread, and its result back.
//!
//! The result is stored in a place that both threads share. On the reactor's side a task waits for
//! it. Whatever ends that task (the Deferred is cancelled, the run ends) marks the result as no
//! longer wanted.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::pool::{Inner, Seat, ThreadPool};
use crate::{
    deferred::{ChainError, Deferred, Full, Interrupted},
    panic::catch,
    reactor::{Handle, Label, Origin, Remote},
};

/// A job's view of itself. Clones refer to the same job. `Send` and `Sync`.
#[derive(Clone)]
pub struct Job {
    cancelled: Arc<AtomicBool>,
}

impl Job {
    /// Returns whether the result is no longer wanted, because the Deferred was cancelled or the
    /// reactor's run has ended. Takes about a nanosecond.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Call this with `?` at the start of each iteration of a loop.
    ///
    /// # Errors
    /// [`Interrupted::Cancelled`] if the result is no longer wanted.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_cancelled() {
            Err(Interrupted::Cancelled)
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl ThreadPool {
    /// Runs `job` on one of the threads. The Deferred fires on the thread of `handle`'s reactor, in
    /// one of its turns. Neither does `job` start nor the Deferred fire before this returns.
    ///
    /// Cancelling the Deferred removes a job that has not started. A running job can check its
    /// [`Job`]; its result is dropped. The end of the reactor's run cancels unfinished jobs in the
    /// same way. Dropping the Deferred lets the job continue. If the job panics, the Deferred fails
    /// with [`Interrupted::Panicked`](crate::deferred::Interrupted::Panicked).
    ///
    /// A result that is no longer wanted is dropped on the reactor's thread, or on the job's thread
    /// if the reactor is gone.
    ///
    /// # Errors
    /// The Deferred fails with the job's own error, or with [`Interrupted::Refused`] if there is no
    /// room; the job is dropped in that case. [`try_defer`](ThreadPool::try_defer) returns it.
    #[track_caller]
    pub fn defer<T, E, F>(&self, handle: &Handle, job: F) -> Deferred<T, E>
    where
        F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + Send,
    {
        match self.try_defer(handle, job) {
            Ok(deferred) => deferred,
            Err(Full(_)) => Deferred::ready(Err(Interrupted::Refused.into())),
        }
    }

    /// Does the same as [`defer`](ThreadPool::defer), if there is room for the job.
    ///
    /// # Errors
    /// [`Full`] returns the job: the queue is full, or there is no thread and the system cannot
    /// start one (this is logged).
    #[track_caller]
    pub fn try_defer<T, E, F>(&self, handle: &Handle, job: F) -> Result<Deferred<T, E>, Full<F>>
    where
        F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + Send,
    {
        defer(self.inner(), handle, Location::caller(), job)
    }
}

fn defer<T, E, F>(
    pool: &Arc<Inner>,
    handle: &Handle,
    location: &'static Location<'static>,
    function: F,
) -> Result<Deferred<T, E>, Full<F>>
where
    F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: ChainError + Send,
{
    if handle.core().is_closed() {
        let (resolver, deferred) = Deferred::born(location);
        resolver.interrupt(Interrupted::Cancelled);
        return Ok(deferred);
    }
    let Some(place) = pool.place() else {
        return Err(Full(function));
    };
    let result = Arc::new(Shared::default());
    let job = Job {
        cancelled: Arc::default(),
    };
    let answer = Answer {
        result: result.clone(),
        remote: handle.remote(),
    };
    let number = place.put(Box::new({
        let job = job.clone();
        move |seat: &mut Seat<'_>| {
            let result = catch(|| function(&job));
            answer.give(result.map_err(Interrupted::Panicked), seat);
        }
    }));
    let order = Rc::new(Order {
        result,
        job,
        pool: pool.clone(),
        number,
    });
    let cancel = {
        let order = order.clone();
        move || order.cancel()
    };
    let origin = Origin {
        label: Label::TASK,
        location,
    };
    Ok(handle.core().spawn_for(Arrival { order }, origin, cancel))
}

/// A place for a result of type `R`.
pub(super) struct Shared<R> {
    state: Mutex<State<R>>,
}

pub(super) enum State<R> {
    /// The result is not there yet. Holds the waker of the task that waits for it.
    Awaited(Option<Waker>),
    Here(R),
    /// The result was taken.
    Taken,
    /// Nothing waits for the result any more.
    Unwanted,
}

impl<R> Default for Shared<R> {
    fn default() -> Self {
        Shared {
            state: Mutex::new(State::Awaited(None)),
        }
    }
}

impl<R> Shared<R> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the result.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<R> {
        // What another executor does when its waker is cloned is not done under a lock.
        let own = cx.waker().clone();
        let mut state = self.lock();
        match &mut *state {
            State::Awaited(waker) => {
                let before = waker.replace(own);
                drop(state);
                drop(before);
                Poll::Pending
            }
            State::Taken | State::Unwanted => Poll::Pending,
            State::Here(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Here(result) => Poll::Ready(result),
                _ => unreachable!("the state was checked under the same lock"),
            },
        }
    }

    /// Stores the result, and calls `placed` before it wakes the waiting task. Returns the result
    /// if nothing waits for it.
    pub(super) fn put(&self, result: R, placed: impl FnOnce()) -> Option<R> {
        let mut state = self.lock();
        let State::Awaited(waker) = &mut *state else {
            return Some(result);
        };
        let waker = waker.take();
        *state = State::Here(result);
        drop(state);
        placed();
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

/// What a job returned, or why it did not. The reactor's thread makes an error of the reason: that
/// calls the program's code.
type Outcome<T, E> = Result<Result<T, E>, Interrupted>;

/// The job's side of the result. If it is dropped without a result, it reports that there is none.
struct Answer<T: Send + 'static, E: ChainError + Send> {
    result: Arc<Shared<Outcome<T, E>>>,
    remote: Remote,
}

impl<T: Send + 'static, E: ChainError + Send> Answer<T, E> {
    fn give(self, result: Outcome<T, E>, seat: &mut Seat<'_>) {
        if let Some(unwanted) = self.result.put(result, || seat.vacate()) {
            // If the reactor is gone, the result is dropped here. That may take long, so the seat
            // is not vacated yet.
            let _ = self.remote.post(move |_| drop(unwanted));
        }
    }
}

impl<T: Send + 'static, E: ChainError + Send> Drop for Answer<T, E> {
    fn drop(&mut self) {
        drop(self.result.put(Err(Interrupted::Abandoned), || ()));
    }
}

/// The reactor's side.
struct Order<R> {
    result: Arc<Shared<R>>,
    job: Job,
    pool: Arc<Inner>,
    number: u64,
}

impl<R> Order<R> {
    fn cancel(&self) {
        let mut state = self.result.lock();
        if matches!(*state, State::Taken | State::Unwanted) {
            return;
        }
        let before = std::mem::replace(&mut *state, State::Unwanted);
        drop(state);
        self.job.cancelled.store(true, Ordering::Release);
        // Drop the user's values here, on the reactor's thread, with no lock held.
        drop(before);
        drop(self.pool.remove(self.number));
    }
}

/// Waits for the result.
struct Arrival<T, E> {
    order: Rc<Order<Outcome<T, E>>>,
}

impl<T, E: ChainError> Future for Arrival<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Cancelling also drops this future.
        let result = self.order.result.poll(cx);
        result.map(|result| result.unwrap_or_else(|why| Err(why.into())))
    }
}

impl<T, E> Drop for Arrival<T, E> {
    fn drop(&mut self) {
        self.order.cancel();
    }
}
