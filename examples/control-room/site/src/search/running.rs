//! A search in progress.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use entwined::{deferred::Deferred, thread::Receiver};
use entwined_rusqlite::Error;
use futures_core::Stream;

use super::state::{Progress, State};

/// A search that runs on a thread: a stream of its states. A slow reader gets the newest state, and
/// always the last. Dropping it cancels the search.
pub struct Running {
    state: State,
    progress: Receiver<Progress>,
    result: Deferred<Progress, Error>,
}

impl Running {
    pub(super) fn new(
        pattern: String,
        progress: Receiver<Progress>,
        result: Deferred<Progress, Error>,
    ) -> Self {
        Running {
            state: State::waiting(pattern),
            progress,
            result,
        }
    }

    /// Returns the most recent state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the next state; `None` after the last one.
    pub async fn next(&mut self) -> Option<State> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Running {
    type Item = State;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<State>> {
        let this = self.get_mut();
        if !this.state.is_running() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(progress)) = Pin::new(&mut this.progress).poll_next(cx) {
            this.state.advance(progress);
        } else if let Poll::Ready(result) = Pin::new(&mut this.result).poll(cx) {
            this.state.end(result);
        } else {
            return Poll::Pending;
        }
        Poll::Ready(Some(this.state.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.result.cancel();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
