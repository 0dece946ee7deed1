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
    /// Whether permits are being passed on further up the stack.
    passing: Cell<bool>,
    waiting: Row<SemaphorePermit>,
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
                passing: Cell::new(false),
                waiting: Row::default(),
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
        // Nobody overtakes those for whom it is about to be.
        let behind = self.state.passing.get() && self.state.waiting.has_any();
        if self.state.free.get() > 0 && !behind {
            return Ok(Deferred::ready(Ok(self.state.take())));
        }
        self.state.waiting.enqueue(self.state.most_waiting)
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
        Ok(acquired
            .map_err(E::from)
            .add_callback(|permit| function().finally(move || drop(permit))))
    }

    /// Returns the number of free permits.
    pub fn available(&self) -> usize {
        self.state.free.get()
    }

    /// Returns the number of waiters.
    pub fn waiting(&self) -> usize {
        self.state.waiting.count()
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
/// before the drop returns. If it is dropped inside such a callback, they run when that one has
/// returned, so the stack does not grow with the number of waiters.
#[must_use = "dropping it returns the permit"]
pub struct SemaphorePermit {
    state: Rc<State>,
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        self.state.free.set(self.state.free.get() + 1);
        self.state.pass();
    }
}

impl State {
    fn take(self: &Rc<Self>) -> SemaphorePermit {
        self.free.set(self.free.get() - 1);
        SemaphorePermit {
            state: self.clone(),
        }
    }

    /// Passes free permits on to those that wait.
    fn pass(self: &Rc<Self>) {
        let Some(_passing) = Passing::begin(&self.passing) else {
            return;
        };
        while self.free.get() > 0 {
            let Some(resolver) = self.waiting.next() else {
                return;
            };
            // If nobody takes this permit, its own drop returns it.
            resolver.resolve(self.take());
        }
    }
}

/// Set while something is passed on. What is passed on inside of that waits for the outer one.
struct Passing<'a>(&'a Cell<bool>);

impl<'a> Passing<'a> {
    fn begin(flag: &'a Cell<bool>) -> Option<Self> {
        (!flag.replace(true)).then(|| Passing(flag))
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.set(false);
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
    takers: Row<T>,
    /// Whether values are being passed on further up the stack.
    passing: Cell<bool>,
    most_values: usize,
    most_takers: usize,
}

impl<T: 'static> DeferredQueue<T> {
    /// Creates a queue that holds at most `most_values` values and at most `most_takers` takers.
    pub fn new(most_values: usize, most_takers: usize) -> Self {
        let inner = Queue {
            values: RefCell::default(),
            takers: Row::default(),
            passing: Cell::new(false),
            most_values,
            most_takers,
        };
        DeferredQueue {
            inner: Rc::new(inner),
        }
    }

    /// Passes a value to the first taker, whose callbacks run before this returns; if this is
    /// called inside such a callback, when that one has returned. If no taker waits, the value is
    /// kept for the next one.
    ///
    /// # Errors
    /// [`Full`] returns the value if the maximum number of values is queued.
    pub fn put(&self, value: T) -> Result<(), Full<T>> {
        let queue = &self.inner;
        // Values that are about to be taken need no place.
        let too_many = (queue.len() + 1).saturating_sub(queue.most_values);
        if !queue.takers.has(too_many) {
            return Err(Full(value));
        }
        queue.values.borrow_mut().push_back(value);
        queue.pass();
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
        let queue = &self.inner;
        // Nobody overtakes those for whom the values are about to be.
        let behind = queue.passing.get() && queue.takers.has_any();
        let value = (!behind).then(|| queue.values.borrow_mut().pop_front());
        match value.flatten() {
            Some(value) => {
                let (resolver, deferred) = Deferred::new();
                queue.give(resolver, value);
                Ok(deferred)
            }
            None => queue.takers.enqueue(queue.most_takers),
        }
    }

    /// Returns the number of queued values.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Returns whether no value is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: 'static> Queue<T> {
    fn len(&self) -> usize {
        self.values.borrow().len()
    }

    /// Passes values on to those that wait for them.
    fn pass(self: &Rc<Self>) {
        let Some(_passing) = Passing::begin(&self.passing) else {
            return;
        };
        while self.len() > 0 {
            let Some(taker) = self.takers.next() else {
                return;
            };
            let value = self.values.borrow_mut().pop_front();
            match value {
                Some(value) => self.give(taker, value),
                None => self.takers.put_back(taker),
            }
        }
    }

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
        self.values.borrow_mut().push_front(value);
        self.pass();
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

/// Those that wait, in order. Some of them may not want it any more: they are dropped when it would
/// be their turn, and from time to time.
struct Row<T: 'static> {
    entries: RefCell<VecDeque<Resolver<T, Interrupted>>>,
    /// At this length, those that have left are dropped.
    sweep_at: Cell<usize>,
}

/// The shortest row that is swept.
const SWEEP: usize = 32;

impl<T: 'static> Default for Row<T> {
    fn default() -> Self {
        Row {
            entries: RefCell::default(),
            sweep_at: Cell::new(SWEEP),
        }
    }
}

impl<T: 'static> Row<T> {
    /// Returns the first entry that still waits.
    fn next(&self) -> Option<Resolver<T, Interrupted>> {
        loop {
            let first = self.entries.borrow_mut().pop_front()?;
            if first.is_wanted() {
                return Some(first);
            }
        }
    }

    /// Whether an entry still waits.
    fn has_any(&self) -> bool {
        self.has(1)
    }

    /// Whether so many entries still wait.
    fn has(&self, count: usize) -> bool {
        // Those at the front that have left are not looked at again.
        let first = self.next();
        if let Some(first) = first {
            self.put_back(first);
        }
        let entries = self.entries.borrow();
        let wanted = entries.iter().filter(|entry| entry.is_wanted());
        wanted.take(count).count() == count
    }

    /// How many still wait.
    fn count(&self) -> usize {
        let entries = self.entries.borrow();
        entries.iter().filter(|entry| entry.is_wanted()).count()
    }

    fn put_back(&self, first: Resolver<T, Interrupted>) {
        self.entries.borrow_mut().push_front(first);
    }

    #[track_caller]
    fn enqueue(&self, most: usize) -> Result<Deferred<T, Interrupted>, Full<()>> {
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= most.min(self.sweep_at.get()) {
            // Entries that were cancelled or dropped make room.
            entries.retain(Resolver::is_wanted);
            self.sweep_at.set((2 * entries.len()).max(SWEEP));
            if entries.len() >= most {
                return Err(Full(()));
            }
        }
        let (resolver, deferred) = Deferred::new();
        entries.push_back(resolver);
        Ok(deferred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They stayed until it was free again, so peers that came and went used up the memory.
    #[test]
    fn those_that_have_left_do_not_pile_up_behind_a_holder() {
        let lock = DeferredLock::new();
        let _held = lock.acquire();
        let staying: Vec<_> = (0..100).map(|_| lock.acquire()).collect();
        for _ in 0..10_000 {
            lock.acquire().cancel();
            drop(lock.acquire());
        }
        let row = &lock.semaphore.state.waiting;
        assert_eq!(row.count(), staying.len());
        assert!(row.entries.borrow().len() <= 201);

        let queue = DeferredQueue::<u32>::new(1, usize::MAX);
        for _ in 0..10_000 {
            drop(queue.get());
        }
        assert!(queue.inner.takers.entries.borrow().len() <= SWEEP);
    }
}
