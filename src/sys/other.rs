//! Systems other than Linux.

use std::time::Duration;

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
