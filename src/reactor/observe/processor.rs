//! How long this thread was ready to run but had to wait for a processor. The program is not to
//! blame for that time.

use std::{cell::Cell, fs::File, os::unix::fs::FileExt, time::Duration};

use super::Moment;

/// Maximum age of a reading. Wait time since the last reading cannot be told apart from wait time
/// during the callback that is being checked.
const FRESH: Duration = Duration::from_millis(4);

/// Reads `/proc/thread-self/schedstat`; see proc(5) and the kernel's `sched-stats` documentation.
/// If the file does not exist, the wait time is always zero.
pub(super) struct Processor {
    file: Option<File>,
    fresh: Cell<Moment>,
    at_first: Duration,
    waited: Cell<Duration>,
}

impl Processor {
    pub(super) fn new(now: Moment) -> Self {
        let file = File::open("/proc/thread-self/schedstat").ok();
        let mut processor = Processor {
            file,
            fresh: Cell::new(now),
            at_first: Duration::ZERO,
            waited: Cell::default(),
        };
        processor.read();
        processor.at_first = processor.waited.get();
        processor
    }

    /// Reads the file unless the last reading is recent. Takes a microsecond.
    pub(super) fn freshen(&self, now: Moment) {
        if now.since(self.fresh.get()) >= FRESH {
            self.fresh.set(now);
            self.read();
        }
    }

    pub(super) fn read(&self) {
        if let Some(waited) = self.waited() {
            self.waited.set(waited);
        }
    }

    /// The wait time since this was made, as of the last reading.
    pub(super) fn all(&self) -> Duration {
        self.waited.get().saturating_sub(self.at_first)
    }

    fn waited(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let nanoseconds = std::str::from_utf8(&text[..length])
            .ok()?
            .split(' ')
            .nth(1)?
            .parse()
            .ok()?;
        Some(Duration::from_nanos(nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Instant,
    };

    use super::*;

    #[test]
    fn a_thread_among_others_waits_and_one_that_sleeps_does_not() {
        let processor = Processor::new(Moment::now());
        thread::sleep(Duration::from_millis(50));
        processor.read();
        assert!(
            processor.all() < Duration::from_millis(25),
            "it asked for no processor"
        );
        let end = AtomicBool::new(false);
        let busy = || {
            while !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 * thread::available_parallelism().map_or(1, |count| count.get()) {
                scope.spawn(busy);
            }
            let start = Instant::now();
            while processor.all() < Duration::from_millis(5)
                && start.elapsed() < Duration::from_secs(20)
            {
                processor.read();
            }
            end.store(true, Ordering::Relaxed);
        });
        assert!(
            processor.all() >= Duration::from_millis(5),
            "{:?}",
            processor.all()
        );
    }
}
