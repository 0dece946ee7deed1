//! One request of a connection.

use std::{rc::Rc, sync::atomic::Ordering, task::Context};

use bytes::Bytes;
use entwined::reactor::Origin;

use super::{
    Pace, Stage, Upgrade, Work,
    streams::{MIN_COUNTED, PIECE, StreamPace, Unsent},
};
use crate::labels::labels;

/// One request, until its whole response is sent.
pub(crate) struct Watch {
    pub(super) pace: Rc<Pace>,
    /// Counts the requests of the connection.
    pub(super) number: u64,
    pub(super) stream: Option<Rc<StreamPace>>,
}

impl Watch {
    /// The handler cannot answer yet.
    pub(crate) fn handler_waits(&self) {
        self.pace.enter(Stage::Busy(Work::Waiting));
    }

    /// The handler has answered. `live` is true if the body has no end of its own.
    pub(crate) fn response_begins(&self, live: bool) {
        self.pace.enter(Stage::Busy(if live {
            Work::Waiting
        } else {
            Work::Sending
        }));
        self.body_polled(Some(0));
    }

    /// Hands the connection to `take_over` when this response is sent.
    pub(crate) fn upgrade(&self, take_over: Upgrade) {
        *self.pace.upgrade.borrow_mut() = Some(take_over);
    }

    /// Calls code of the program. A panic in it ends there.
    pub(crate) fn contain(&self, function: impl FnOnce()) {
        let origin = Origin::here(labels().connection);
        let _ = self.pace.server.handle.contain(origin, function);
    }

    /// Takes from the share of the task that sends the body.
    pub(crate) fn spend(&self) -> bool {
        self.pace.server.handle.spend(1)
    }

    /// The most bytes of the body to give at a time, if there is a limit.
    pub(crate) fn max_piece(&self) -> Option<usize> {
        self.stream.as_ref().map(|_| PIECE)
    }

    /// Notices when a piece of the body has been sent, where hyper does not tell.
    pub(crate) fn count(&self, bytes: Bytes) -> Bytes {
        match self.pace.streams.get() {
            Some(streams) if bytes.len() >= MIN_COUNTED => {
                streams.unsent.fetch_add(1, Ordering::Relaxed);
                let all = streams.unsent.clone();
                Bytes::from_owner(Unsent { bytes, all })
            }
            _ => bytes,
        }
    }

    /// The peer is ready for a part of the body. `given` is its number of bytes, if there was one.
    pub(crate) fn body_polled(&self, given: Option<usize>) {
        match (&self.stream, given) {
            (Some(stream), Some(bytes)) => stream.give(self.pace.server.time(), bytes),
            (Some(stream), None) => stream.caught_up(),
            // The peer has taken everything so far.
            (None, None) => self.pace.behind.set(None),
            (None, Some(_)) => {}
        }
    }

    /// Whether the server is shutting down. If not, the task is woken when it does.
    pub(crate) fn is_closing(&self, cx: &Context<'_>) -> bool {
        if self.pace.server.closing.get() {
            return true;
        }
        if let Some(streams) = self.pace.streams.get() {
            let mut live = streams.live.borrow_mut();
            let known = live.get(&self.number);
            if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                live.insert(self.number, cx.waker().clone());
            }
        }
        false
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(streams) = self.pace.streams.get() {
            let waker = streams.live.borrow_mut().remove(&self.number);
            drop(waker);
        }
        self.pace.ends();
    }
}

#[cfg(feature = "http2")]
/// A stream of HTTP/2 that was handed over, for as long as it lasts.
pub(crate) struct Held(pub(super) Rc<Pace>);

#[cfg(feature = "http2")]
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(streams) = self.0.streams.get() {
            streams.taken.set(streams.taken.get() - 1);
        }
        self.0.ends();
    }
}
