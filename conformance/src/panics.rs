//! Panics in callbacks that C calls, for harnesses.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

thread_local! {
    static KEPT: Cell<Option<Box<dyn Any + Send>>> = const { Cell::new(None) };
}

/// Calls `function`, and keeps its panic. Then it returns `None`.
///
/// A harness calls its callbacks like this where a toolkit in C or C++ calls it: a test fails by a
/// panic, which must not unwind through the toolkit. [`resume_panic`] continues the panic.
pub fn keep_panic<T>(function: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(value) => Some(value),
        Err(panic) => {
            KEPT.set(Some(panic));
            None
        }
    }
}

/// Call this when the toolkit has returned.
///
/// # Panics
/// Panics if [`keep_panic`] has kept a panic on this thread, the last one.
pub fn resume_panic() {
    if let Some(panic) = KEPT.take() {
        resume_unwind(panic);
    }
}
