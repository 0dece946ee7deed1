//! Who waits for a stream that reads when it is written to, or writes when it is read.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::wake::wake_by_ref;

/// The waiting tasks: the reader and the writer, usually the same task.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
pub(crate) enum Side {
    Reader,
    Writer,
}

impl Waiting {
    /// Calls `poll` for the reader or the writer of a stream whose place for those that wait is
    /// `place`. If they are two tasks, neither may replace the other's wake-up, because each may
    /// wait for either direction of the stream below.
    pub(crate) fn poll<S, T>(
        stream: &mut S,
        place: fn(&mut S) -> &mut Waiting,
        side: Side,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let polled = match place(stream).other(side, cx.waker()) {
            None => poll(stream, cx),
            Some(both) => poll(stream, &mut Context::from_waker(&both)),
        };
        place(stream).note(side, polled.is_pending().then_some(cx.waker()));
        polled
    }

    /// Returns a waker for this task and the other side's task, if that waits and is not the same.
    fn other(&self, side: Side, waker: &Waker) -> Option<Waker> {
        let other = match side {
            Side::Reader => &self.writer,
            Side::Writer => &self.reader,
        };
        let other = other.as_ref().filter(|other| !other.will_wake(waker))?;
        Some(Arc::new(Both(waker.clone(), other.clone())).into())
    }

    fn note(&mut self, side: Side, waiting: Option<&Waker>) {
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
        wake_by_ref(&self.0);
        wake_by_ref(&self.1);
    }
}
