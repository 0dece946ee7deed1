//! A time limit for a Deferred.

use std::time::Duration;

use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    reactor::Handle,
};

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Cancels the Deferred if it has not fired after `delay`: then its error is
    /// [`Interrupted::TimedOut`]. The timer goes as soon as the result comes.
    ///
    /// For a future, and for a Deferred that is awaited, [`Handle::timeout`] does the same.
    #[track_caller]
    pub fn add_timeout(self, handle: &Handle, delay: Duration) -> Self {
        let canceller = self.canceller();
        let timer = handle.call_later(delay, move || canceller.interrupt(&Interrupted::TimedOut));
        self.finally(move || {
            // The timer was called if it is what ended the chain.
            let _ = timer.cancel();
        })
    }
}
