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

    /// Runs a task with a budget of its own.
    pub(crate) fn run(&self, runnable: Runnable) {
        let _poll = begin_poll();
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

/// How many messages cost one unit of the budget. A poll thus handles at most 512 of them, each of
/// which may take the protocol some microseconds.
const MESSAGES_A_UNIT: u32 = 8;

thread_local! {
    /// The remaining budget of the task that is being polled.
    static SHARE_LEFT: Cell<u32> = const { Cell::new(SHARE) };
    /// The number of polls on the stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static MESSAGES: Cell<u32> = const { Cell::new(0) };
}

/// Takes units from the budget. Returns false if the budget is used up and the task should yield.
///
/// A future that another executor polls has no budget of its own. It yields once per `SHARE` units.
pub(crate) fn spend(units: u32) -> bool {
    match SHARE_LEFT.get() {
        0 => {
            if DEPTH.get() == 0 {
                SHARE_LEFT.set(SHARE);
            }
            false
        }
        left => {
            SHARE_LEFT.set(left.saturating_sub(units));
            true
        }
    }
}

/// Charges a message that came with others, without I/O of its own. Returns false if the budget is
/// used up, as [`spend`] does.
pub(crate) fn spend_message() -> bool {
    let count = MESSAGES.get().wrapping_add(1);
    MESSAGES.set(count);
    spend(u32::from(count % MESSAGES_A_UNIT == 0))
}

/// Begins a poll with a budget of its own.
pub(crate) fn begin_poll() -> PollGuard {
    DEPTH.set(DEPTH.get() + 1);
    PollGuard {
        outer: SHARE_LEFT.replace(SHARE),
    }
}

/// Exists while a task is being polled.
pub(crate) struct PollGuard {
    outer: u32,
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        SHARE_LEFT.set(self.outer);
        DEPTH.set(DEPTH.get() - 1);
    }
}
