//! A time limit for a Deferred.

use std::time::Duration;

use super::looping::give_way;
use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    reactor::{Handle, Label, Origin},
};

/// How often the tasks that are awake are polled first: the one that reads, and the one that it
/// wakes.
const ROUNDS: u32 = 2;

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Cancels the Deferred if it has not fired after `delay`: then its error is
    /// [`Interrupted::TimedOut`]. The timer goes as soon as the result comes. A result that has
    /// come while something else held the thread is not late.
    ///
    /// For a future, and for a Deferred that is awaited, [`Handle::timeout`] does the same.
    #[track_caller]
    pub fn add_timeout(self, handle: &Handle, delay: Duration) -> Self {
        let canceller = self.canceller();
        let origin = Origin::here(Label::TIMER);
        let timer = handle.call_later_with(delay, move |handle| {
            handle.spawn_detached(origin, async move {
                for _ in 0..ROUNDS {
                    give_way().await;
                }
                canceller.interrupt(&Interrupted::TimedOut);
            });
        });
        self.finally(move || {
            // The timer was called if it is what ended the chain.
            let _ = timer.cancel();
        })
    }
}
