//! A slot for the waker of a waiting task.

use std::{cell::Cell, fmt, task::Waker};

/// Holds the waker of at most one task.
///
/// Wakers are cloned, woken and dropped without holding a borrow, because the wakers of other
/// executors may run user code.
#[derive(Default)]
pub(crate) struct WakeSlot(Cell<Option<Waker>>);

impl WakeSlot {
    /// Registers a task, replacing the previous one. If it is the same task, nothing is cloned.
    pub(crate) fn register(&self, waker: &Waker) {
        match self.0.take() {
            Some(present) if present.will_wake(waker) => self.0.set(Some(present)),
            before => {
                self.0.set(Some(waker.clone()));
                drop(before);
            }
        }
    }

    /// Wakes the task and forgets it.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// Wakes the task. It stays registered unless another task registers meanwhile, so the waker of
    /// a task that waits again and again is cloned only once.
    pub(crate) fn wake_and_keep(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake_by_ref();
            match self.0.take() {
                None => self.0.set(Some(waker)),
                later => self.0.set(later),
            }
        }
    }

    /// Forgets the task.
    pub(crate) fn clear(&self) {
        drop(self.0.take());
    }
}

impl fmt::Debug for WakeSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waker = self.0.take();
        let waits = waker.is_some();
        self.0.set(waker);
        f.debug_tuple("WakeSlot").field(&waits).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_once_or_each_time() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let counts = || [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        let slot = WakeSlot::default();
        slot.wake();
        slot.register(&first.clone().into());
        slot.register(&second.clone().into());
        slot.wake_and_keep();
        slot.wake_and_keep();
        assert_eq!(counts(), [0, 2]);
        slot.wake();
        slot.wake();
        assert_eq!(counts(), [0, 3]);
        slot.register(&first.clone().into());
        slot.clear();
        slot.wake();
        assert_eq!(counts(), [0, 3]);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
