//! Systems other than Linux.

use std::{io, time::Duration};

/// These systems do not say how long a thread has waited for a processor.
pub(crate) struct ProcessorWait;

impl ProcessorWait {
    pub(crate) fn of_this_thread() -> Self {
        ProcessorWait
    }

    /// Always `None`.
    pub(crate) fn read(&self) -> Option<Duration> {
        None
    }
}

/// These systems give a thread no nice value of its own.
pub(crate) fn give_way(_: u8) {}

/// These systems do not let a thread take a signal that may not be there: the program must ignore
/// SIGPIPE, as Rust programs do.
#[cfg_attr(windows, expect(dead_code, reason = "there are no signals"))]
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    write()
}
