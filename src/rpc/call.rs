//! The caller's side: results.

use std::{
    cell::RefCell,
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::{connection::Inner, message};
use crate::deferred::Interrupted;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The peer has no such method. The text lists its methods with similar names.
    NoSuchMethod(String),
    /// The peer cannot decode the arguments as the type that its method takes.
    WrongArguments(String),
    /// The peer is already answering its maximum number of calls.
    TooMany,
    /// The method returned an error.
    Failed(String),
    /// The method panicked.
    Panicked,
    /// The arguments or the result are longer than a frame may be, or cannot be serialized.
    TooLong(String),
    /// The result is not of the expected type.
    WrongResult(String),
    /// The connection is shutting down gracefully and this call was not started. It can be made on
    /// another connection.
    Finishing,
    /// The connection is over, and why.
    Lost(String),
    /// The call was cancelled or timed out.
    Interrupted(Interrupted),
}

impl CallError {
    pub(super) fn of_peer(code: u8, message: &str) -> Self {
        let message = message.to_owned();
        match code {
            1 => CallError::NoSuchMethod(message),
            2 => CallError::WrongArguments(message),
            3 => CallError::TooMany,
            4 => CallError::Panicked,
            5 => CallError::TooLong(message),
            6 => CallError::Finishing,
            _ => CallError::Failed(message),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoSuchMethod(what) => write!(f, "the peer has no method {what}"),
            CallError::WrongArguments(what) => {
                write!(f, "the peer cannot read the arguments: {what}")
            }
            CallError::TooMany => {
                f.write_str("the peer is already answering its maximum number of calls")
            }
            CallError::Failed(what) => f.write_str(what),
            CallError::Panicked => f.write_str("the peer's method panicked"),
            CallError::TooLong(what) => write!(f, "the value cannot be sent: {what}"),
            CallError::WrongResult(what) => {
                write!(f, "the result is not of the expected type: {what}")
            }
            CallError::Finishing => {
                f.write_str("the connection is shutting down and takes no more calls")
            }
            CallError::Lost(why) => write!(f, "the connection is over: {why}"),
            CallError::Interrupted(why) => why.fmt(f),
        }
    }
}

impl Error for CallError {}

impl From<Interrupted> for CallError {
    fn from(why: Interrupted) -> Self {
        CallError::Interrupted(why)
    }
}

/// The items of a call that has many results. Created by [`Peer::stream`](super::Peer::stream).
/// Dropping it cancels the call.
///
/// Items that are not taken exert backpressure on the peer's method: at most
/// [`Config::window`](super::Config::window) items are buffered or in flight.
pub struct ItemStream<T> {
    id: u64,
    inner: Rc<Inner>,
    shared: Rc<RefCell<Arrived>>,
    /// Items taken since credit was last sent to the peer.
    taken: u32,
    item: PhantomData<fn() -> T>,
}

/// The items of a stream that have arrived.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) items: VecDeque<Vec<u8>>,
    /// The end, if it has arrived.
    pub(super) end: Option<Result<(), CallError>>,
    pub(super) waiting: Option<Waker>,
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
        if let Some(item) = shared.items.pop_front() {
            let open = shared.end.is_none();
            drop(shared);
            this.taken += 1;
            // Not for each item: half a window at a time.
            if open && this.taken * 2 >= this.inner.config.window {
                this.inner.credit(this.id, std::mem::take(&mut this.taken));
            }
            return Poll::Ready(Some(message::read(&item).map_err(CallError::WrongResult)));
        }
        match &mut shared.end {
            None => {
                shared.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
        }
    }
}

impl<T> Drop for ItemStream<T> {
    fn drop(&mut self) {
        if self.shared.borrow().end.is_none() {
            self.inner.cancel(self.id);
        }
    }
}

impl<T> fmt::Debug for ItemStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemStream")
            .field("waiting", &self.shared.borrow().items.len())
            .finish_non_exhaustive()
    }
}
