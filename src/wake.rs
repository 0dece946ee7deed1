//! The wakers of waiting tasks.

use std::{
    cell::{Cell, RefCell},
    fmt, mem,
    task::Waker,
};

use slotmap::{DefaultKey, SlotMap};

use crate::{log, panic::catch};

/// Wakes a task. The waker of another executor may panic: that is not for whoever wakes it, who may
/// have others to wake.
pub(crate) fn wake(waker: Waker) {
    contain(|| waker.wake());
}

pub(crate) fn wake_by_ref(waker: &Waker) {
    contain(|| waker.wake_by_ref());
}

/// Drops a waker that nobody is to wake.
pub(crate) fn discard(waker: Waker) {
    contain(|| drop(waker));
}

fn contain(function: impl FnOnce()) {
    if let Err(message) = catch(function) {
        log::error(format_args!("a waker panicked: {message}"));
    }
}

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
            wake(waker);
        }
    }

    /// Wakes the task. It stays registered unless another task registers meanwhile, so the waker of
    /// a task that waits again and again is cloned only once.
    pub(crate) fn wake_and_keep(&self) {
        if let Some(waker) = self.0.take() {
            wake_by_ref(&waker);
            match self.0.take() {
                None => self.0.set(Some(waker)),
                later => {
                    self.0.set(later);
                    discard(waker);
                }
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

/// Holds the wakers of any number of tasks. Each has a [`WakePlace`].
///
/// As in a [`WakeSlot`], nothing is borrowed while a waker runs code.
#[derive(Debug, Default)]
pub(crate) struct WakeList(RefCell<SlotMap<DefaultKey, Waker>>);

impl WakeList {
    /// Wakes all tasks and forgets them.
    pub(crate) fn wake(&self) {
        // Not taken as a whole: a key must never fit again.
        let wakers: Vec<_> = self
            .0
            .borrow_mut()
            .drain()
            .map(|(_, waker)| waker)
            .collect();
        wakers.into_iter().for_each(wake);
    }
}

/// The place of a task in a [`WakeList`]; `None` before it waits. To be given up with
/// [`leave`](WakePlace::leave).
#[derive(Debug, Default)]
pub(crate) struct WakePlace(Option<DefaultKey>);

impl WakePlace {
    /// Registers the task, or its new waker.
    pub(crate) fn register(&mut self, list: &WakeList, waker: &Waker) {
        let waker = waker.clone();
        let before = {
            let mut wakers = list.0.borrow_mut();
            match self.0.and_then(|key| wakers.get_mut(key)) {
                Some(present) => Some(mem::replace(present, waker)),
                None => {
                    self.0 = Some(wakers.insert(waker));
                    None
                }
            }
        };
        drop(before);
    }

    /// Forgets the task.
    pub(crate) fn leave(&mut self, list: &WakeList) {
        let waker = self
            .0
            .take()
            .and_then(|key| list.0.borrow_mut().remove(key));
        drop(waker);
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
    fn each_task_of_a_list_is_woken_unless_it_has_left() {
        let counts: [Arc<Count>; 3] = Default::default();
        let list = WakeList::default();
        let mut places: [WakePlace; 3] = Default::default();
        let mut register = |number: usize| {
            places[number].register(&list, &counts[number].clone().into());
        };
        // The second time it takes its own place.
        [0, 1, 0, 2].into_iter().for_each(&mut register);
        list.wake();
        // Nobody has another's place because of a former one.
        [2, 0].into_iter().for_each(&mut register);
        places[2].leave(&list);
        list.wake();
        list.wake();
        let woken = counts
            .each_ref()
            .map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [2, 1, 1]);
        assert!(counts.iter().all(|count| Arc::strong_count(count) == 1));
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
