//! The caller's side: a handle to call the peer.

use std::{cell::RefCell, fmt, rc::Rc};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    CallError, ItemStream,
    message::{self, Kind},
    shared::{Arrived, Finishing, Inner, Waiting},
};
use crate::{
    deferred::Deferred,
    panic::catch,
    transport::{Address, ByteStream},
};

/// A handle to call the peer. Cheap to clone. Dropping it does not end the connection: see
/// [`close`](Peer::close) and [`finish`](Peer::finish).
#[derive(Clone)]
pub struct Peer {
    inner: Rc<Inner>,
}

impl Peer {
    pub(super) fn from_inner(inner: Rc<Inner>) -> Self {
        Peer { inner }
    }

    /// Calls a method of the peer. Cancelling the `Deferred`, or dropping a task or a timeout
    /// that awaits it, cancels the call at the peer.
    ///
    /// For a timeout see [`Deferred::add_timeout`].
    ///
    /// # Errors
    /// The `Deferred` fails with a [`CallError`].
    pub fn call<R: DeserializeOwned + 'static>(
        &self,
        method: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> Deferred<R, CallError> {
        let (inner, id) = (&self.inner, self.inner.new_id());
        let frame = message::frame(inner.config.max_frame_size, Kind::Call, id, |bytes| {
            message::put(bytes, method)?;
            message::put(bytes, arguments)
        });
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Deferred::ready(Err(error.into())),
        };
        if let Some(why) = inner.refuses_call(frame.len()) {
            return Deferred::ready(Err(why));
        }
        let weak = Rc::downgrade(inner);
        let (resolver, deferred) = Deferred::with_canceller(move || {
            if let Some(inner) = weak.upgrade() {
                inner.cancel(id);
            }
        });
        let resolve = move |result: Result<&[u8], CallError>| {
            resolver.settle(result.and_then(|value| read(value).map_err(CallError::WrongResult)));
        };
        inner.make_call(id, &frame, Waiting::One(Box::new(resolve)));
        deferred
    }

    /// Calls a method of the peer that returns many results.
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> ItemStream<T> {
        let (inner, id) = (&self.inner, self.inner.new_id());
        let shared = Rc::new(RefCell::new(Arrived::default()));
        let frame = message::frame(inner.config.max_frame_size, Kind::Open, id, |bytes| {
            message::put(bytes, &inner.config.window)?;
            message::put(bytes, method)?;
            message::put(bytes, arguments)
        });
        let frame = frame.map_err(CallError::from);
        match frame.and_then(|frame| inner.refuses_call(frame.len()).map_or(Ok(frame), Err)) {
            Ok(frame) => inner.make_call(id, &frame, Waiting::Many(shared.clone())),
            Err(error) => shared.borrow_mut().end = Some(Err(error)),
        }
        ItemStream::new(id, inner.clone(), shared)
    }

    /// Shuts the connection down gracefully: calls that either side has started are answered, no
    /// new ones are started ([`CallError::Finishing`]), and then the connection is closed. The
    /// `Deferred` fires when the connection is over.
    ///
    /// A call that never ends keeps the connection open. To prevent that, put a timeout on the
    /// `Deferred` with [`Deferred::add_timeout`] and then call [`close`](Peer::close).
    ///
    /// # Errors
    /// [`CallError::Lost`] if the connection ended before all calls were answered.
    pub fn finish(&self) -> Deferred<(), CallError> {
        let inner = &self.inner;
        if let Some(why) = inner.is_lost() {
            return Deferred::ready(Err(why));
        }
        let (resolver, deferred) = Deferred::new();
        let mut finished = inner.finished.borrow_mut();
        finished.retain(|other| other.is_wanted());
        finished.push(resolver);
        drop(finished);
        let finishing = inner.finishing.get();
        if !finishing.here {
            inner.finishing.set(Finishing {
                here: true,
                ..finishing
            });
            inner.tell(Kind::Finish, 0, |_| Ok(()));
            inner.close_if_finished();
        }
        deferred
    }

    /// Closes the connection after sending what is queued. Open calls fail with
    /// [`CallError::Lost`].
    pub fn close(&self) {
        self.inner.connection().close();
    }

    /// Ends the connection at once. What is queued is dropped, and open calls fail with
    /// [`CallError::Lost`]. This is for a peer that does not answer any more.
    pub fn abort(&self) {
        self.inner.connection().abort();
    }

    /// Whether the connection is over or about to end.
    pub fn is_closing(&self) -> bool {
        self.inner.connection().is_closing()
    }

    /// The address of the peer.
    pub fn peer_address(&self) -> Address {
        self.inner.connection().peer_address().clone()
    }

    /// Calls `question` with the stream of type `S` below this connection; see
    /// [`Connection::ask`](crate::protocol::Connection::ask). A method can ask who calls it: with
    /// TLS, the certificates are known by then.
    pub fn ask<S: ByteStream, R>(&self, question: impl FnOnce(&S) -> R) -> Option<R> {
        self.inner.connection().ask(question)
    }

    /// Number of the peer's calls that are being answered.
    pub fn answering(&self) -> usize {
        self.inner.incoming.count()
    }

    /// Number of our calls that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.inner.waiting()
    }
}

/// Decodes the result of a call. A panic of the program's code would end the connection, and with
/// it the other calls.
fn read<R: DeserializeOwned>(value: &[u8]) -> Result<R, String> {
    let read = catch(|| message::read(value));
    read.unwrap_or_else(|message| Err(format!("it panicked: {message}")))
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.peer_address())
            .field("answering", &self.answering())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
