//! A job's way to a thread, and its result's way back.
//!
//! The result lies in a place that both threads know. On the reactor's side a task waits for it;
//! whatever ends that task (the Deferred is cancelled, the run ends) says that nobody wants the
//! result any more.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::pool::{Inner, Seat};
use crate::{
    deferred::{ChainError, Deferred, Full, Interrupted},
    reactor::{Handle, Label, Origin, Remote},
};

/// What a job can know about itself. Clones are about the same job, `Send` and `Sync`.
#[derive(Clone)]
pub struct Job {
    cancelled: Arc<AtomicBool>,
}

impl Job {
    /// Whether nobody wants the result any more: the Deferred was cancelled, or the reactor's run
    /// has ended. Costs a nanosecond.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// For the start of each round of a loop, with a question mark behind it.
    ///
    /// # Errors
    /// [`Interrupted::Cancelled`] when nobody wants the result any more.
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

/// See [`ThreadPool::defer`](super::ThreadPool::defer).
pub(super) fn defer<T, E, F>(
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
            let result = catch_unwind(AssertUnwindSafe(|| function(&job)));
            answer.give(
                result.unwrap_or_else(|panic| Err(Interrupted::panicked(&*panic).into())),
                seat,
            );
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

/// The place of a result of type `R`.
struct Shared<R> {
    state: Mutex<State<R>>,
}

enum State<R> {
    /// It has not come; the task that waits for it.
    Awaited(Option<Waker>),
    Here(R),
    /// It was taken away.
    Taken,
    /// Nobody waits for it any more.
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
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Nothing that can panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the result in its place, and calls `placed` before it wakes the one who waits; gives
    /// the result back when nobody does.
    fn put(&self, result: R, placed: impl FnOnce()) -> Option<R> {
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

/// The job's side of the result. Dropped without one, it says that there will be none.
struct Answer<T: Send + 'static, E: ChainError + Send> {
    result: Arc<Shared<Result<T, E>>>,
    remote: Remote,
}

impl<T: Send + 'static, E: ChainError + Send> Answer<T, E> {
    fn give(self, result: Result<T, E>, seat: &mut Seat<'_>) {
        if let Some(unwanted) = self.result.put(result, || seat.vacate()) {
            // When the reactor is gone, it is dropped here, and may take its time: the seat is not
            // free yet.
            let _ = self.remote.post(move |_| drop(unwanted));
        }
    }
}

impl<T: Send + 'static, E: ChainError + Send> Drop for Answer<T, E> {
    fn drop(&mut self) {
        drop(self.result.put(Err(Interrupted::Abandoned.into()), || ()));
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
        // What belongs to the user is dropped here, on the reactor's thread, with nothing locked.
        drop(before);
        drop(self.pool.remove(self.number));
    }
}

/// Waits for the result.
struct Arrival<R> {
    order: Rc<Order<R>>,
}

impl<R> Future for Arrival<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let mut state = self.order.result.lock();
        match &mut *state {
            State::Awaited(waker) => {
                let before = waker.replace(cx.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
            // Whoever cancels it drops this future, too.
            State::Taken | State::Unwanted => Poll::Pending,
            State::Here(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Here(result) => Poll::Ready(result),
                _ => unreachable!("it was looked at under the same lock"),
            },
        }
    }
}

impl<R> Drop for Arrival<R> {
    fn drop(&mut self) {
        self.order.cancel();
    }
}
