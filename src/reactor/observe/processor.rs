//! How long this thread was ready to run but had to wait for a processor. The program is not to
//! blame for that time.

use std::{cell::Cell, time::Duration};

use super::Moment;
use crate::sys::ProcessorWait;

/// Maximum age of a reading. Wait time since the last reading cannot be told apart from wait time
/// during the callback that is being checked.
const FRESH: Duration = Duration::from_millis(4);

/// The readings of a thread. If the system does not say, the wait time is always zero.
pub(super) struct Processor {
    wait: ProcessorWait,
    fresh: Cell<Moment>,
    at_first: Duration,
    waited: Cell<Duration>,
}

impl Processor {
    pub(super) fn new(now: Moment) -> Self {
        let mut processor = Processor {
            wait: ProcessorWait::of_this_thread(),
            fresh: Cell::new(now),
            at_first: Duration::ZERO,
            waited: Cell::default(),
        };
        processor.read();
        processor.at_first = processor.waited.get();
        processor
    }

    /// Reads it unless the last reading is recent. Takes a microsecond.
    pub(super) fn freshen(&self, now: Moment) {
        if now.since(self.fresh.get()) >= FRESH {
            self.fresh.set(now);
            self.read();
        }
    }

    pub(super) fn read(&self) {
        if let Some(waited) = self.wait.read() {
            self.waited.set(waited);
        }
    }

    /// The wait time since this was made, as of the last reading.
    pub(super) fn all(&self) -> Duration {
        self.waited.get().saturating_sub(self.at_first)
    }
}

#[cfg(all(test, target_os = "linux"))]
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
