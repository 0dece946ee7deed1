//! Fair waiting, in the order of asking: a lock, a semaphore and a queue.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::Rc,
};

use super::{Deferred, Interrupted, Resolver};

/// Limits how many holders there are at a time. The others wait and are served in the order in
/// which they asked. Clones refer to the same semaphore.
#[derive(Clone)]
pub struct DeferredSemaphore {
    state: Rc<State>,
}

struct State {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Resolver<SemaphorePermit, Interrupted>>>,
    most_waiting: usize,
}

impl DeferredSemaphore {
    /// Creates a semaphore with this many permits and no limit on the number of waiters.
    pub fn new(permits: usize) -> Self {
        DeferredSemaphore::bounded(permits, usize::MAX)
    }

    /// Creates a semaphore with at most `most_waiting` waiters. Further requests are refused.
    pub fn bounded(permits: usize, most_waiting: usize) -> Self {
        DeferredSemaphore {
            state: Rc::new(State {
                free: Cell::new(permits),
                waiting: RefCell::default(),
                most_waiting,
            }),
        }
    }

    /// Asks for a permit. Cancelling the Deferred withdraws the request, and so does dropping it
    /// without callbacks.
    ///
    /// # Errors
    /// [`Full`] if the maximum number of waiters is reached.
    #[track_caller]
    pub fn acquire(&self) -> Result<Deferred<SemaphorePermit, Interrupted>, Full<()>> {
        if self.state.free.get() > 0 {
            self.state.free.set(self.state.free.get() - 1);
            return Ok(Deferred::ready(Ok(SemaphorePermit {
                state: self.state.clone(),
            })));
        }
        enqueue(&self.state.waiting, self.state.most_waiting)
    }

    /// Waits for a permit and calls `function`. The permit is returned when the Deferred from
    /// `function` has fired.
    ///
    /// # Errors
    /// See [`acquire`](DeferredSemaphore::acquire). `function` is not called in that case.
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

    /// Returns the number of free permits.
    pub fn available(&self) -> usize {
        self.state.free.get()
    }

    /// Returns the number of waiters.
    pub fn waiting(&self) -> usize {
        self.state
            .waiting
            .borrow()
            .iter()
            .filter(|resolver| resolver.is_wanted())
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

/// A permit of a semaphore or a lock. Dropping it passes it to the next waiter, whose callbacks run
/// before the drop returns.
#[must_use = "dropping it returns the permit"]
pub struct SemaphorePermit {
    state: Rc<State>,
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        match next(&self.state.waiting) {
            // If nobody takes this permit, its own drop returns it.
            Some(resolver) => resolver.resolve(SemaphorePermit {
                state: self.state.clone(),
            }),
            None => self.state.free.set(self.state.free.get() + 1),
        }
    }
}

impl fmt::Debug for SemaphorePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SemaphorePermit")
    }
}

/// A mutual exclusion lock. Waiters get it in the order of asking. Clones refer to the same lock.
#[derive(Clone, Debug)]
pub struct DeferredLock {
    semaphore: DeferredSemaphore,
}

impl DeferredLock {
    /// Creates an unlocked lock.
    pub fn new() -> Self {
        DeferredLock {
            semaphore: DeferredSemaphore::new(1),
        }
    }

    /// Asks for the lock. Dropping the [`SemaphorePermit`] releases it. Cancelling the Deferred
    /// withdraws the request, and so does dropping it without callbacks.
    #[must_use = "dropping it releases the lock as soon as it is acquired"]
    #[track_caller]
    pub fn acquire(&self) -> Deferred<SemaphorePermit, Interrupted> {
        self.semaphore
            .acquire()
            .expect("a lock does not limit the number of waiters")
    }

    /// Waits for the lock and calls `function`; see [`DeferredSemaphore::run`].
    #[track_caller]
    pub fn run<T: 'static, E: super::ChainError>(
        &self,
        function: impl FnOnce() -> Deferred<T, E> + 'static,
    ) -> Deferred<T, E> {
        self.semaphore
            .run(function)
            .expect("a lock does not limit the number of waiters")
    }

    /// Returns whether the lock is held.
    pub fn is_locked(&self) -> bool {
        self.semaphore.available() == 0
    }
}

impl Default for DeferredLock {
    fn default() -> Self {
        DeferredLock::new()
    }
}

/// A queue in which values wait for takers, or takers wait for values, each in order. Clones refer
/// to the same queue.
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
    /// Creates a queue that holds at most `most_values` values and at most `most_takers` takers.
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

    /// Passes a value to the first taker, whose callbacks run before this returns. If no taker
    /// waits, the value is kept for the next one.
    ///
    /// # Errors
    /// [`Full`] returns the value if the maximum number of values is queued.
    pub fn put(&self, value: T) -> Result<(), Full<T>> {
        if let Some(taker) = next(&self.inner.takers) {
            self.inner.give(taker, value);
            return Ok(());
        }
        if self.inner.values.borrow().len() >= self.inner.most_values {
            return Err(Full(value));
        }
        self.inner.values.borrow_mut().push_back(value);
        Ok(())
    }

    /// Asks for the next value. Cancelling the Deferred withdraws the request, and so does dropping
    /// it without callbacks. A value that has arrived and was not taken by then goes back to the
    /// front of the queue.
    ///
    /// # Errors
    /// [`Full`] if the maximum number of takers is waiting.
    #[track_caller]
    pub fn get(&self) -> Result<Deferred<T, Interrupted>, Full<()>> {
        let value = self.inner.values.borrow_mut().pop_front();
        match value {
            Some(value) => {
                let (resolver, deferred) = Deferred::new();
                self.inner.give(resolver, value);
                Ok(deferred)
            }
            None => enqueue(&self.inner.takers, self.inner.most_takers),
        }
    }

    /// Returns the number of queued values.
    pub fn len(&self) -> usize {
        self.inner.values.borrow().len()
    }

    /// Returns whether no value is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: 'static> Queue<T> {
    /// Passes a value to a taker. It comes back if the taker goes before it has taken the value.
    fn give(self: &Rc<Self>, taker: Resolver<T, Interrupted>, value: T) {
        let weak = Rc::downgrade(self);
        taker.lend(value, move |value| {
            if let Some(queue) = weak.upgrade() {
                queue.put_back(value);
            }
        });
    }

    /// The limit does not count here: the value had its place before.
    fn put_back(self: &Rc<Self>, value: T) {
        match next(&self.takers) {
            Some(taker) => self.give(taker, value),
            None => self.values.borrow_mut().push_front(value),
        }
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

/// The queue is full. Returns the item that could not be added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full")
    }
}

impl<T> std::error::Error for Full<T> {}

type Row<T> = RefCell<VecDeque<Resolver<T, Interrupted>>>;

/// Returns the first entry that still waits.
fn next<T>(row: &Row<T>) -> Option<Resolver<T, Interrupted>> {
    loop {
        let first = row.borrow_mut().pop_front()?;
        if first.is_wanted() {
            return Some(first);
        }
    }
}

#[track_caller]
fn enqueue<T>(row: &Row<T>, most: usize) -> Result<Deferred<T, Interrupted>, Full<()>> {
    let mut row = row.borrow_mut();
    if row.len() >= most {
        // Entries that were cancelled or dropped make room.
        row.retain(|resolver| resolver.is_wanted());
        if row.len() >= most {
            return Err(Full(()));
        }
    }
    let (resolver, deferred) = Deferred::new();
    row.push_back(resolver);
    Ok(deferred)
}
