//! The tasks of one reactor: those that are ready to be polled, and all live ones.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
};

use crate::reactor::observe::Origin;

/// What each task carries.
pub(crate) struct Meta {
    pub(crate) origin: Origin,
    /// The number of the run that it belongs to.
    pub(crate) run: u64,
}

pub(crate) type Runnable = async_task::Runnable<Meta>;

/// A task's budget for one poll, in units: one per operation, plus one for each 16 KiB moved. When
/// a task has used it up, it gets `Pending` and is queued again, so that other tasks get a turn.
const SHARE: u32 = 64;

#[derive(Default)]
pub(crate) struct Tasks {
    ready: RefCell<VecDeque<Runnable>>,
    alive: RefCell<Alive>,
    /// The remaining budget of the task that is being polled.
    share: Cell<u32>,
    /// The number of polls on the stack.
    depth: Cell<u32>,
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

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(crate) fn take_ready(&self) -> VecDeque<Runnable> {
        self.ready.take()
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

    pub(crate) fn begin_poll(&self) -> PollGuard<'_> {
        self.depth.set(self.depth.get() + 1);
        PollGuard {
            tasks: self,
            outer: self.share.replace(SHARE),
        }
    }

    /// Runs a task with a budget of its own.
    pub(crate) fn run(&self, runnable: Runnable) {
        let _poll = self.begin_poll();
        let _running = Running::new(&self.running);
        runnable.run();
    }

    /// Returns whether only the tasks that are on the stack are left.
    pub(crate) fn are_ended(&self) -> bool {
        self.alive_len() <= self.running.get()
    }

    /// Takes units from the budget. Returns false if the budget is used up and the task should
    /// yield.
    ///
    /// A future that another executor polls has no budget of its own. It yields once per `SHARE`
    /// units.
    pub(crate) fn spend(&self, units: u32) -> bool {
        match self.share.get() {
            0 => {
                if self.depth.get() == 0 {
                    self.share.set(SHARE);
                }
                false
            }
            share => {
                self.share.set(share.saturating_sub(units));
                true
            }
        }
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

/// Exists while a task is being polled.
pub(crate) struct PollGuard<'a> {
    tasks: &'a Tasks,
    outer: u32,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        self.tasks.share.set(self.outer);
        self.tasks.depth.set(self.tasks.depth.get() - 1);
    }
}
