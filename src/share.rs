//! What a task may do in one poll, before others get a turn.

use std::cell::Cell;

/// A task's budget for one poll, in units: one per operation, plus one for each 16 KiB moved. When
/// a task has used it up, it gets `Pending` and is queued again, so that other tasks get a turn.
const SHARE: u32 = 64;

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
