//! What a peer has sent and nobody has read. A deadline that has passed says nothing of the peer
//! while there is some: if the host held the thread, it may have come in time.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use entwined::{reactor::Handle, task::Sleep};

/// What is known of a connection that several tasks wait for.
#[derive(Default)]
pub(super) struct Unread {
    /// Whether the last read may have left some.
    some: Cell<bool>,
    /// The tasks that wait until a read has left none.
    waiting: RefCell<Vec<Waker>>,
}

impl Unread {
    /// Records the result of a read.
    pub(super) fn record(&self, handle: &Handle, result: &Poll<io::Result<usize>>) {
        let some = match result {
            Poll::Ready(Ok(count)) => *count > 0,
            Poll::Ready(Err(_)) => false,
            // It may only be the task that has no share left.
            Poll::Pending => !handle.spend(0),
        };
        self.some.set(some);
        if !some && !self.waiting.borrow().is_empty() {
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }
}

/// How long what has arrived may take to be read. A peer that sends without end is late after that.
const GRACE: Duration = Duration::from_secs(1);

/// The time after a deadline.
#[derive(Default)]
pub(super) struct Grace(Option<Sleep>);

impl Grace {
    /// Ready once nothing is unread, or after too long.
    pub(super) fn poll_late(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
        unread: &Unread,
    ) -> Poll<()> {
        if !unread.some.get() || self.poll_over(cx, handle).is_ready() {
            return Poll::Ready(());
        }
        let mut waiting = unread.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready once it is over. It begins with the first call.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, handle: &Handle) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| handle.sleep(GRACE));
        Pin::new(sleep).poll(cx)
    }

    /// The peer is not late any longer.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }
}
