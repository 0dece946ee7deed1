//! The tasks of one reactor: those that are ready to be polled, and all live ones.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
};

use crate::{reactor::observe::Origin, share};

/// What each task carries.
pub(crate) struct Meta {
    pub(crate) origin: Origin,
    /// The number of the run that it belongs to.
    pub(crate) run: u64,
}

pub(crate) type Runnable = async_task::Runnable<Meta>;

#[derive(Default)]
pub(crate) struct Tasks {
    ready: RefCell<VecDeque<Runnable>>,
    alive: RefCell<Alive>,
    /// The number of tasks on the stack.
    running: Cell<usize>,
    /// The panic message of the task that was polled last.
    panic: RefCell<Option<String>>,
}

/// A waker for each live task, so that all tasks can be ended. Slots are reused.
#[derive(Default)]
struct Alive {
    slots: Vec<Option<(Waker, Origin)>>,
    free: Vec<usize>,
}

impl Tasks {
    pub(crate) fn push(&self, runnable: Runnable) {
        self.ready.borrow_mut().push_back(runnable);
    }

    pub(crate) fn extend(&self, runnables: impl IntoIterator<Item = Runnable>) {
        self.ready.borrow_mut().extend(runnables);
    }

    pub(crate) fn pop(&self) -> Option<Runnable> {
        self.ready.borrow_mut().pop_front()
    }

    /// Takes all queued tasks.
    pub(crate) fn take(&self) -> VecDeque<Runnable> {
        self.ready.take()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Takes the first queued task of this kind.
    pub(crate) fn pop_if(&self, is_it: impl Fn(&Meta) -> bool) -> Option<Runnable> {
        let mut ready = self.ready.borrow_mut();
        let place = ready.iter().position(|task| is_it(task.metadata()))?;
        ready.remove(place)
    }

    pub(crate) fn alive_len(&self) -> usize {
        let alive = self.alive.borrow();
        alive.slots.len() - alive.free.len()
    }

    pub(crate) fn reserve(&self) -> usize {
        let mut alive = self.alive.borrow_mut();
        alive.free.pop().unwrap_or_else(|| {
            alive.slots.push(None);
            alive.slots.len() - 1
        })
    }

    pub(crate) fn admit(&self, slot: usize, waker: Waker, origin: Origin) {
        self.alive.borrow_mut().slots[slot] = Some((waker, origin));
    }

    /// Returns where the live tasks were spawned, and how many at each place.
    pub(crate) fn places(&self) -> Vec<(Origin, usize)> {
        let mut places: Vec<(Origin, usize)> = Vec::new();
        for (_, origin) in self.alive.borrow().slots.iter().flatten() {
            match places.iter_mut().find(|(place, _)| place == origin) {
                Some((_, count)) => *count += 1,
                None => places.push((*origin, 1)),
            }
        }
        places
    }

    pub(crate) fn release(&self, slot: usize) {
        let waker = {
            let mut alive = self.alive.borrow_mut();
            alive.free.push(slot);
            alive.slots[slot].take()
        };
        drop(waker);
    }

    /// Queues every waiting task.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<_> = self
            .alive
            .borrow()
            .slots
            .iter()
            .flatten()
            .map(|(waker, _)| waker.clone())
            .collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Runs a task with a budget of its own.
    pub(crate) fn run(&self, runnable: Runnable) {
        let _poll = share::begin_poll();
        let _running = Running::new(&self.running);
        runnable.run();
    }

    /// Returns whether only the tasks that are on the stack are left.
    pub(crate) fn are_ended(&self) -> bool {
        self.alive_len() <= self.running.get()
    }

    pub(crate) fn panicked(&self, message: String) {
        *self.panic.borrow_mut() = Some(message);
    }

    pub(crate) fn take_panic(&self) -> Option<String> {
        self.panic.borrow_mut().take()
    }
}

/// Counts a task that is on the stack, also while a panic leaves it.
struct Running<'a>(&'a Cell<usize>);

impl<'a> Running<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Running(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
