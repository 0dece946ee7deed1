//! What a task may do in one poll, before others get a turn.

use std::{cell::Cell, future::poll_fn, task::Poll, time::Duration};

use crate::sys;

/// A task's budget for one poll, in units: one per operation, plus one for each 16 KiB moved. When
/// a task has used it up, it gets `Pending` and is queued again, so that other tasks get a turn.
const SHARE: u32 = 64;

/// A task's budget for one poll, in time. An operation takes a microsecond or two, but 50 of them
/// where the peer sleeps on another processor of a virtual machine, and what the task does with a
/// message may take any time.
const TIME: Duration = Duration::from_millis(1);

/// How long a loop of callbacks inside one poll goes on before others get a turn: a quarter of the
/// usual turn.
pub(crate) const SLICE: Duration = Duration::from_micros(500);

/// The clock is read once for so many units. Most polls use fewer.
const UNITS_A_LOOK: u32 = 4;

/// How many messages cost one unit of the budget. A poll thus handles at most 512 of them, each of
/// which may take the protocol some microseconds.
const MESSAGES_A_UNIT: u32 = 8;

/// A clock for a budget in time. It starts when it is read first, because most polls never read it.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Option<u64>);

impl Clock {
    pub(crate) const NEW: Clock = Clock(None);

    /// Whether so much time has passed since it was read first. In a simulation it never has.
    pub(crate) fn has_passed(&mut self, time: Duration) -> bool {
        if !counts_time() {
            return false;
        }
        let now = sys::monotonic_nanoseconds();
        let since = *self.0.get_or_insert(now);
        u128::from(now.saturating_sub(since)) >= time.as_nanos()
    }
}

/// What is left of a budget.
#[derive(Clone, Copy)]
struct Budget {
    units: u32,
    clock: Clock,
}

impl Budget {
    const FULL: Budget = Budget {
        units: SHARE,
        clock: Clock::NEW,
    };

    /// Takes at most what is left.
    fn take(&mut self, units: u32) {
        let left = self.units.saturating_sub(units);
        let looks = self.units.div_ceil(UNITS_A_LOOK) != left.div_ceil(UNITS_A_LOOK);
        self.units = left;
        if looks && self.clock.has_passed(TIME) {
            self.units = 0;
        }
    }
}

thread_local! {
    /// The remaining budget of the task that is being polled.
    static BUDGET: Cell<Budget> = const { Cell::new(Budget::FULL) };
    /// The number of polls on the stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static MESSAGES: Cell<u32> = const { Cell::new(0) };
    static TIMELESS: Cell<bool> = const { Cell::new(false) };
}

/// Whether budgets in time hold now, on this thread.
pub(crate) fn counts_time() -> bool {
    !TIMELESS.get()
}

/// Calls `function` without budgets in time, so that it does the same on every machine: what they
/// count is real time.
pub(crate) fn without_time<R>(function: impl FnOnce() -> R) -> R {
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            TIMELESS.set(self.0);
        }
    }

    // It may be called from inside, and may panic.
    let _before = Before(TIMELESS.replace(true));
    function()
}

/// Takes units from the budget. Returns false if the budget is used up and the task should yield.
///
/// A future that another executor polls has no budget of its own. It yields once per budget.
pub(crate) fn spend(units: u32) -> bool {
    let mut budget = BUDGET.get();
    if budget.units == 0 {
        if DEPTH.get() == 0 {
            BUDGET.set(Budget::FULL);
        }
        return false;
    }
    if units > 0 {
        budget.take(units);
        BUDGET.set(budget);
    }
    true
}

/// Takes a unit for an operation that may be over at once, such as connecting. Gives way if the
/// budget is used up.
pub(crate) async fn operation() {
    poll_fn(|cx| {
        if spend(1) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
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
        outer: BUDGET.replace(Budget::FULL),
    }
}

/// Exists while a task is being polled.
pub(crate) struct PollGuard {
    outer: Budget,
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        BUDGET.set(self.outer);
        DEPTH.set(DEPTH.get() - 1);
    }
}
