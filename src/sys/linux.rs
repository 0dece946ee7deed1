//! Linux: what the kernel says about a thread.

use std::{fs::File, os::unix::fs::FileExt, time::Duration};

/// Reads how long a thread has waited for a processor, from `/proc/thread-self/schedstat`; see
/// proc(5) and the kernel's `sched-stats` documentation.
pub(crate) struct ProcessorWait(Option<File>);

impl ProcessorWait {
    /// Of this thread.
    pub(crate) fn of_this_thread() -> Self {
        ProcessorWait(File::open("/proc/thread-self/schedstat").ok())
    }

    /// `None` if the system does not say.
    pub(crate) fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let nanoseconds = std::str::from_utf8(&text[..length])
            .ok()?
            .split(' ')
            .nth(1)?
            .parse()
            .ok()?;
        Some(Duration::from_nanos(nanoseconds))
    }
}
