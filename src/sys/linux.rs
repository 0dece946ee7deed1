//! Linux: what the kernel says about a thread, and to it.

use std::{fs::File, io, os::unix::fs::FileExt, time::Duration};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

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

/// Adds to the nice value of this thread. For the kernel "the calling process" is the thread that
/// calls: setpriority(2), "C library/kernel differences".
pub(crate) fn give_way(nice: u8) {
    if nice == 0 {
        return;
    }
    let given = rustix::process::getpriority_process(None).and_then(|present| {
        // The kernel takes what is above 19 for 19.
        rustix::process::setpriority_process(None, present.saturating_add(nice.into()))
    });
    if let Err(error) = given {
        tracing::warn!(%error, "the priority of a thread cannot be lowered");
    }
}

/// Writes to what may be a pipe that nobody reads, without a SIGPIPE, which ends a program in
/// another language than Rust.
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let Ok(before) = pipe.thread_swap_mask(SigmaskHow::SIG_BLOCK) else {
        return write();
    };
    let result = write();
    if before.contains(Signal::SIGPIPE) {
        return result;
    }
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if result.as_ref().is_err_and(broken) {
        // The signal is for this thread, which takes it. Some devices say the same and raise none.
        entwined_spawn::take_sigpipe();
    }
    // It cannot fail: pthread_sigmask(3).
    let _ = before.thread_set_mask();
    result
}
