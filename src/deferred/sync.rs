//! Taking turns, in order of asking: a lock, a semaphore, a queue.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::Rc,
};

use super::{Deferred, Interrupted, Resolver};

/// At most so many at a time; the others wait, and are served in the order in which they asked.
/// Clones are the same semaphore.
#[derive(Clone)]
pub struct DeferredSemaphore {
    state: Rc<State>,
}

struct State {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Resolver<Permit, Interrupted>>>,
    most_waiting: usize,
}

impl DeferredSemaphore {
    /// A semaphore with so many permits, and no limit to those who wait.
    pub fn new(permits: usize) -> Self {
        DeferredSemaphore::bounded(permits, usize::MAX)
    }

    /// A semaphore for which at most `most_waiting` wait; further ones are refused.
    pub fn bounded(permits: usize, most_waiting: usize) -> Self {
        DeferredSemaphore {
            state: Rc::new(State {
                free: Cell::new(permits),
                waiting: RefCell::default(),
                most_waiting,
            }),
        }
    }

    /// Asks for a permit. Cancelling the Deferred leaves the row.
    ///
    /// # Errors
    /// [`Full`] when as many wait as may.
    #[track_caller]
    pub fn acquire(&self) -> Result<Deferred<Permit, Interrupted>, Full<()>> {
        if self.state.free.get() > 0 {
            self.state.free.set(self.state.free.get() - 1);
            return Ok(Deferred::ready(Ok(Permit {
                state: self.state.clone(),
            })));
        }
        enqueue(&self.state.waiting, self.state.most_waiting)
    }

    /// Calls `function` with a permit in hand, which is given back when the Deferred that it
    /// returns has fired.
    ///
    /// # Errors
    /// As for [`acquire`](DeferredSemaphore::acquire); `function` is not called then.
    #[track_caller]
    pub fn run<T: 'static, E: super::ChainError>(
        &self,
        function: impl FnOnce() -> Deferred<T, E> + 'static,
    ) -> Result<Deferred<T, E>, Full<()>> {
        let acquired = self.acquire()?;
        Ok(acquired.map_err(E::from).add_callback(|permit| {
            function().add_both(move |result| {
                drop(permit);
                result
            })
        }))
    }

    /// Permits that nobody has.
    pub fn available(&self) -> usize {
        self.state.free.get()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state
            .waiting
            .borrow()
            .iter()
            .filter(|resolver| !resolver.is_cancelled())
            .count()
    }
}

impl fmt::Debug for DeferredSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredSemaphore")
            .field("available", &self.available())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// A permit of a semaphore or a lock. Dropping it gives it to the next who waits, whose callbacks
/// run before the drop returns.
#[must_use = "dropping it gives the permit back"]
pub struct Permit {
    state: Rc<State>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        match next(&self.state.waiting) {
            // One that nobody takes comes back by its own drop.
            Some(resolver) => resolver.resolve(Permit {
                state: self.state.clone(),
            }),
            None => self.state.free.set(self.state.free.get() + 1),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// One at a time, in the order of asking. Clones are the same lock.
#[derive(Clone, Debug)]
pub struct DeferredLock {
    semaphore: DeferredSemaphore,
}

impl DeferredLock {
    /// A lock that nobody has.
    pub fn new() -> Self {
        DeferredLock {
            semaphore: DeferredSemaphore::new(1),
        }
    }

    /// Asks for the lock; dropping the [`Permit`] gives it back. Cancelling the Deferred leaves the
    /// row.
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit, Interrupted> {
        self.semaphore
            .acquire()
            .expect("a lock does not limit those who wait")
    }

    /// Calls `function` with the lock in hand; see [`DeferredSemaphore::run`].
    #[track_caller]
    pub fn run<T: 'static, E: super::ChainError>(
        &self,
        function: impl FnOnce() -> Deferred<T, E> + 'static,
    ) -> Deferred<T, E> {
        self.semaphore
            .run(function)
            .expect("a lock does not limit those who wait")
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.semaphore.available() == 0
    }
}

impl Default for DeferredLock {
    fn default() -> Self {
        DeferredLock::new()
    }
}

/// Values that wait for takers, or takers that wait for values; each in order. Clones are the same
/// queue.
pub struct DeferredQueue<T: 'static> {
    inner: Rc<Queue<T>>,
}

struct Queue<T: 'static> {
    values: RefCell<VecDeque<T>>,
    takers: RefCell<VecDeque<Resolver<T, Interrupted>>>,
    most_values: usize,
    most_takers: usize,
}

impl<T: 'static> DeferredQueue<T> {
    /// A queue in which at most `most_values` values and at most `most_takers` takers wait.
    pub fn new(most_values: usize, most_takers: usize) -> Self {
        let inner = Queue {
            values: RefCell::default(),
            takers: RefCell::default(),
            most_values,
            most_takers,
        };
        DeferredQueue {
            inner: Rc::new(inner),
        }
    }

    /// Gives a value to the first taker, whose callbacks run before this returns, or keeps it for
    /// the next.
    ///
    /// # Errors
    /// [`Full`] gives the value back when as many wait as may.
    pub fn put(&self, value: T) -> Result<(), Full<T>> {
        if let Some(taker) = next(&self.inner.takers) {
            taker.resolve(value);
            return Ok(());
        }
        if self.inner.values.borrow().len() >= self.inner.most_values {
            return Err(Full(value));
        }
        self.inner.values.borrow_mut().push_back(value);
        Ok(())
    }

    /// The next value. Cancelling the Deferred leaves the row.
    ///
    /// # Errors
    /// [`Full`] when as many takers wait as may.
    #[track_caller]
    pub fn get(&self) -> Result<Deferred<T, Interrupted>, Full<()>> {
        let value = self.inner.values.borrow_mut().pop_front();
        match value {
            Some(value) => Ok(Deferred::ready(Ok(value))),
            None => enqueue(&self.inner.takers, self.inner.most_takers),
        }
    }

    /// Values that wait.
    pub fn len(&self) -> usize {
        self.inner.values.borrow().len()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for DeferredQueue<T> {
    fn clone(&self) -> Self {
        DeferredQueue {
            inner: self.inner.clone(),
        }
    }
}

impl<T> fmt::Debug for DeferredQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredQueue")
            .field("values", &self.len())
            .finish_non_exhaustive()
    }
}

/// As many wait as may. Gives back what was to join them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many wait as may")
    }
}

impl<T> std::error::Error for Full<T> {}

type Row<T> = RefCell<VecDeque<Resolver<T, Interrupted>>>;

/// The first in the row that has not left it.
fn next<T>(row: &Row<T>) -> Option<Resolver<T, Interrupted>> {
    loop {
        let first = row.borrow_mut().pop_front()?;
        if !first.is_cancelled() {
            return Some(first);
        }
    }
}

#[track_caller]
fn enqueue<T>(row: &Row<T>, most: usize) -> Result<Deferred<T, Interrupted>, Full<()>> {
    let mut row = row.borrow_mut();
    if row.len() >= most {
        // Those who have left make room.
        row.retain(|resolver| !resolver.is_cancelled());
        if row.len() >= most {
            return Err(Full(()));
        }
    }
    let (resolver, deferred) = Deferred::new();
    row.push_back(resolver);
    Ok(deferred)
}
