//! The bytes of bodies that wait for threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Error, StatusCode};

/// The most bytes of bodies that wait for threads or are worked on there, in the whole process. The
/// pool counts jobs, and its 16,384 jobs of 2 MiB each would be 32 GiB.
const MAX_HELD: usize = 128 * 1024 * 1024;

/// What a job has besides its body: a head of a usual size.
const JOB: usize = 4 * 1024;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// The bytes of one body, until it is dropped.
pub(super) struct Held(usize);

impl Held {
    /// Counts a body. It is 503 if there are too many already.
    pub(super) fn new(bytes: usize) -> Result<Self, Error> {
        let bytes = bytes.saturating_add(JOB);
        let before = HELD.fetch_add(bytes, Ordering::Relaxed);
        let held = Held(bytes);
        if before > 0 && before.saturating_add(bytes) > MAX_HELD {
            return Err(Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is too busy",
            ));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_wait_are_bounded_in_bytes() {
        // However large, one is always worked on.
        let all = Held::new(2 * MAX_HELD).expect("the first one");
        assert!(Held::new(1).is_err_and(|error| error.status() == 503));
        drop(all);
        let few: Vec<_> = (0..10).map(|_| Held::new(1_000).is_ok()).collect();
        assert_eq!(few, [true; 10]);
    }
}
