//! The caller's side.

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
    /// The peer has no such method; it says which it has that are called alike.
    NoSuchMethod(String),
    /// The peer cannot read the arguments as what its method wants.
    WrongArguments(String),
    /// The peer answers as many calls as it will at a time.
    TooMany,
    /// The method says that it has failed.
    Failed(String),
    /// The method panicked.
    Panicked,
    /// The arguments, or the result, are longer than a frame may be, or cannot be written.
    TooLong(String),
    /// The result is not of the type that was expected.
    WrongResult(String),
    /// The connection is about to end in order, and this call was not begun: it may be made
    /// elsewhere.
    Finishing,
    /// The connection is over, and why.
    Lost(String),
    /// It was cancelled, or its time was over.
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
                f.write_str("the peer answers as many calls as it will at a time")
            }
            CallError::Failed(what) => f.write_str(what),
            CallError::Panicked => f.write_str("the peer's method panicked"),
            CallError::TooLong(what) => write!(f, "it cannot be sent: {what}"),
            CallError::WrongResult(what) => {
                write!(f, "the result is not what was expected: {what}")
            }
            CallError::Finishing => {
                f.write_str("the connection is about to end, and takes no more calls")
            }
            CallError::Lost(why) => write!(f, "there is no connection any more: {why}"),
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

/// The items of a call that has many. Made by [`Peer::stream`](super::Peer::stream); dropping it
/// cancels the call.
///
/// What is not taken holds the peer's method: at most [`Limits::window`](super::Limits::window)
/// items are here or on their way.
pub struct ItemStream<T> {
    id: u64,
    inner: Rc<Inner>,
    shared: Rc<RefCell<Arrived>>,
    /// Items that were taken since the peer was given more credit.
    taken: u32,
    item: PhantomData<fn() -> T>,
}

/// What has come of a stream.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) items: VecDeque<Vec<u8>>,
    /// The end, if it has come.
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

    /// The next item; none after the last.
    ///
    /// # Errors
    /// Why there will be no more; nothing comes after that.
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
            // Not for each: half a window at a time.
            if open && this.taken * 2 >= this.inner.limits.window {
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
