//! State shared by all connections of a server.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

use entwined::{Handle, reactor::ShutdownHook};

use super::config::Config;

/// State shared by all connections of a server.
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) config: Config,
    /// Whether connections should close as soon as they have answered.
    pub(super) closing: Cell<bool>,
    pub(super) connections: Connections,
    pub(super) requests: Cell<u64>,
    /// What ends the connections in order when the run ends, once the server is dropped. It owns
    /// this, and goes with the last connection.
    pub(super) left: RefCell<Option<ShutdownHook>>,
}

impl Shared {
    /// The time of the current turn, which is precise enough for deadlines of seconds.
    pub(super) fn time(&self) -> std::time::Instant {
        self.handle.turn_time()
    }

    /// A shutdown no longer waits for the connection of this slot, if it is in one.
    pub(super) fn remove(&self, slot: &mut Option<usize>) {
        let Some(slot) = slot.take() else {
            return;
        };
        self.connections.remove(slot);
        if self.connections.is_empty() {
            let hook = self.left.take();
            drop(hook);
        }
    }

    /// Shuts down every connection gracefully. Returns when all are closed or the grace period is
    /// over.
    pub(super) async fn close(&self) {
        self.closing.set(true);
        self.connections.wake_all();
        let empty = poll_fn(|cx| self.connections.poll_empty(cx));
        if self
            .handle
            .timeout(self.config.shutdown_grace, empty)
            .await
            .is_err()
        {
            tracing::warn!("the shutdown grace period is over; requests in flight are dropped");
        }
    }
}

/// The connections of a server. Wakes each of them, and reports when all are gone.
#[derive(Default)]
pub(super) struct Connections {
    slots: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    empty: RefCell<Option<Waker>>,
}

impl Connections {
    pub(super) fn add(&self, waker: Waker) -> usize {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some(waker);
        slot
    }

    pub(super) fn remove(&self, slot: usize) {
        let waker = self.slots.borrow_mut()[slot].take();
        drop(waker);
        self.free.borrow_mut().push(slot);
        if self.is_empty() {
            let waker = self.empty.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.borrow().len() == self.slots.borrow().len()
    }

    fn wake_all(&self) {
        let wakers: Vec<_> = self.slots.borrow().iter().flatten().cloned().collect();
        for waker in wakers {
            waker.wake();
        }
    }

    fn poll_empty(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        drop(self.empty.replace(Some(cx.waker().clone())));
        Poll::Pending
    }
}
