//! The caller's side: the items of a call that has many results.

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::{
    CallError, message,
    shared::{Arrived, Inner},
};
use crate::share::spend_message;

/// The items of a call that has many results. Created by [`Peer::stream`](super::Peer::stream).
/// Dropping it cancels the call.
///
/// Items that are not taken exert backpressure on the peer's method: at most
/// [`Config::window`](super::Config::window) items are buffered or in flight. The bytes of all
/// streams have a limit as well: [`Config::max_item_bytes`](super::Config::max_item_bytes).
pub struct ItemStream<T> {
    id: u64,
    inner: Rc<Inner>,
    shared: Rc<RefCell<Arrived>>,
    /// Items taken since credit was last sent to the peer.
    taken: u32,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> ItemStream<T> {
    pub(super) fn new(id: u64, inner: Rc<Inner>, shared: Rc<RefCell<Arrived>>) -> Self {
        ItemStream {
            id,
            inner,
            shared,
            taken: 0,
            item: PhantomData,
        }
    }

    /// Waits for the next item. Returns `None` after the last one.
    ///
    /// # Errors
    /// Why the stream ended early; no more items follow.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: DeserializeOwned> Stream for ItemStream<T> {
    type Item = Result<T, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut shared = this.shared.borrow_mut();
        if !shared.items.is_empty() && !spend_message() {
            drop(shared);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(item) = shared.items.pop_front() {
            let open = shared.end.is_none();
            drop(shared);
            this.inner.taken(item.len());
            this.taken += 1;
            // Not for each item: half a window at a time.
            if open && this.taken * 2 >= this.inner.config.window {
                this.inner.credit(this.id, std::mem::take(&mut this.taken));
            }
            return Poll::Ready(Some(message::read(&item).map_err(CallError::WrongResult)));
        }
        match &mut shared.end {
            None => {
                drop(shared);
                // The waker of another executor may do anything when it is cloned or dropped.
                let waker = cx.waker().clone();
                let before = this.shared.borrow_mut().waiting.replace(waker);
                drop(before);
                Poll::Pending
            }
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
        }
    }
}

impl<T> Drop for ItemStream<T> {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        let (items, open) = (std::mem::take(&mut shared.items), shared.end.is_none());
        drop(shared);
        if open {
            self.inner.cancel(self.id);
        }
        self.inner.taken(items.iter().map(Vec::len).sum());
    }
}

impl<T> fmt::Debug for ItemStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemStream")
            .field("waiting", &self.shared.borrow().items.len())
            .finish_non_exhaustive()
    }
}
