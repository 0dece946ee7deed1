//! Runs work on other threads and delivers the results on the event loop's thread.
//!
//! ```
//! use std::fs;
//!
//! use entwined::Standalone;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//!
//! handle
//!     .defer_to_thread(|_| fs::read_to_string("/proc/version"))
//!     // From here on the chain runs on the event loop's thread and may touch a label.
//!     .map(|text| println!("{text}"))
//!     .add_both({
//!         let handle = handle.clone();
//!         move |result| {
//!             handle.stop();
//!             // An error that nobody handles is logged.
//!             result
//!         }
//!     });
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which call to use
//!
//! Twisted's names are in parentheses.
//!
//! | | |
//! |---|---|
//! | run a job on a thread (`deferToThread`) | [`Handle::defer_to_thread`], [`ThreadPool::defer`] |
//! | free a large value there | [`Handle::drop_on_thread`] |
//! | receive values from a job while it runs | [`channel`] |
//! | call from another thread (`callFromThread`) | [`Remote::post`] |
//! | the same, and wait (`blockingCallFromThread`) | [`Remote::call`], for a plain function |
//! | the same, for work that takes time | [`Remote::call_async`], for a future or a Deferred |
//!
//! [`Remote::post`]: crate::Remote::post
//! [`Remote::call`]: crate::Remote::call
//! [`Remote::call_async`]: crate::Remote::call_async
//!
//! # Cancelling
//!
//! A thread cannot be stopped from outside. A job that has not started is removed from the queue. A
//! running job can find out through its [`Job`] and decide what to do. Its result is dropped.
//!
//! # The end of a run
//!
//! When a reactor's run ends, its unfinished jobs are cancelled like its tasks, and the shutdown
//! does not wait for them. If a job's result still matters then, wait for it in a shutdown hook of
//! [`Phase::Before`](crate::reactor::Phase::Before):
//!
//! ```
//! # use std::{cell::Cell, rc::Rc};
//! # use entwined::{Standalone, deferred::Interrupted, reactor::Phase};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let reactor = Standalone::new()?;
//! # let handle = reactor.handle();
//! # let saved = Rc::new(Cell::new(false));
//! let saving = handle.defer_to_thread(|_| Ok::<_, Interrupted>("saved"));
//! # let saving = saving.map({ let saved = saved.clone(); move |_| saved.set(true) });
//! handle.on_shutdown(Phase::Before, || async move { Ok(drop(saving.await?)) }).keep();
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop() });
//! # reactor.run()?;
//! # assert!(saved.get());
//! # Ok(())
//! # }
//! ```

mod channel;
mod job;
#[cfg(feature = "tls")]
mod loan;
mod pool;

use std::rc::Rc;

pub use channel::{Receiver, SendError, Sender, WhenFull, channel};
pub use job::Job;
#[cfg(feature = "tls")]
pub(crate) use loan::Loan;
pub use pool::{Config, ThreadPool};

use crate::{
    deferred::{ChainError, Deferred, Interrupted},
    reactor::Handle,
};

impl Handle {
    /// Runs `job` on a thread of this reactor's own pool and fires the Deferred with its result, on
    /// this thread; see [`ThreadPool::defer`]. The pool has the [default limits](Config). It starts
    /// with the first job and ends with the reactor.
    ///
    /// `Box<dyn Error>` is not `Send`. Use [`std::io::Error`], `Box<dyn Error + Send + Sync>`,
    /// `String` or your own type as the job's error.
    ///
    /// # Errors
    /// The Deferred fails with the job's own error, or with [`Interrupted::Refused`] if the queue
    /// is full; the job is dropped in that case.
    #[track_caller]
    pub fn defer_to_thread<T, E, F>(&self, job: F) -> Deferred<T, E>
    where
        F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + Send,
    {
        default_pool(self).defer(self, job)
    }

    /// Drops `value` on a thread of this reactor's own pool: for values of many parts, whose memory
    /// takes long to free. A `Vec` of a hundred thousand texts takes some milliseconds.
    ///
    /// If the queue of the pool is full, or the run ends first, the value is dropped on this
    /// thread.
    #[track_caller]
    pub fn drop_on_thread<T: Send + 'static>(&self, value: T) {
        let dropping = self.defer_to_thread(move |_| {
            drop(value);
            Ok::<_, Interrupted>(())
        });
        // Whether it was dropped there or here, there is nothing to tell.
        dropping.add_both(|_| Ok::<_, Interrupted>(()));
    }
}

/// The reactor stores the pool without knowing its type.
fn default_pool(handle: &Handle) -> Rc<ThreadPool> {
    handle.extension(|| Rc::new(ThreadPool::new("entwined", Config::default())))
}
