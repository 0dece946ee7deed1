//! Who waits for a TLS stream.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

/// The waiting tasks: the reader and the writer, usually the same task.
#[derive(Default)]
pub(super) struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    Reader,
    Writer,
}

impl Waiting {
    /// Returns a waker for this task and the other side's task, if that waits and is not the same.
    pub(super) fn other(&self, side: Side, waker: &Waker) -> Option<Waker> {
        let other = match side {
            Side::Reader => &self.writer,
            Side::Writer => &self.reader,
        };
        let other = other.as_ref().filter(|other| !other.will_wake(waker))?;
        Some(Arc::new(Both(waker.clone(), other.clone())).into())
    }

    pub(super) fn note(&mut self, side: Side, waiting: Option<&Waker>) {
        let place = match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
        };
        match (place.as_ref(), waiting) {
            (Some(old), Some(new)) if old.will_wake(new) => {}
            _ => *place = waiting.cloned(),
        }
    }
}

struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}
