//! Work on other threads, with its results on the loop's own.
//!
//! ```
//! use std::error::Error;
//!
//! use entwined::Standalone;
//!
//! type Failed = Box<dyn Error + Send + Sync>;
//!
//! # fn main() -> Result<(), Box<dyn Error>> {
//! let reactor = Standalone::new()?;
//! let handle = reactor.handle();
//!
//! handle
//!     .defer_to_thread(|_| Ok(std::fs::read_to_string("/proc/version")?))
//!     // From here on everything is on the loop's thread again, and may touch a label.
//!     .map(|text| println!("{text}"))
//!     .add_errback(|error: Failed| {
//!         eprintln!("{error}");
//!         Ok::<(), Failed>(())
//!     })
//!     .add_both({
//!         let handle = handle.clone();
//!         move |_| Ok::<(), Failed>(handle.stop()?)
//!     })
//!     .detach();
//! reactor.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # The way there, and the way back
//!
//! | | |
//! |---|---|
//! | a job on a thread, its result here (Twisted's `deferToThread`) | [`Handle::defer_to_thread`], [`ThreadPool::defer`] |
//! | values from a job while it runs | [`channel`] |
//! | a call from another thread (`callFromThread`) | [`Remote::post`](crate::Remote::post) |
//! | a call from another thread, waiting for its result (`blockingCallFromThread`) | [`Remote::call`](crate::Remote::call), for a plain function |
//! | the same, of something that takes its time | [`Remote::call_async`](crate::Remote::call_async), for a future or a Deferred |
//!
//! # Cancelling
//!
//! A thread cannot be stopped from outside. A job that has not begun is taken back; one that runs
//! is told through its [`Job`], and what it does about it is up to it. Whatever it gives then is
//! dropped.
//!
//! # The end of a run
//!
//! When the run of a reactor ends, the jobs that it has not heard from are cancelled like its
//! tasks, and nobody waits for them. A job whose result matters even then is waited for in a
//! shutdown hook of [`Phase::Before`](crate::reactor::Phase::Before):
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
//! # handle.call_soon({ let handle = handle.clone(); move || handle.stop().unwrap() });
//! # reactor.run()?;
//! # assert!(saved.get());
//! # Ok(())
//! # }
//! ```

mod channel;
mod job;
mod pool;

use std::rc::Rc;

pub use channel::{Receiver, SendError, Sender, WhenFull, channel};
pub use job::Job;
pub use pool::{Limits, ThreadPool};

use crate::{
    deferred::{ChainError, Deferred, Full, Interrupted},
    reactor::Handle,
};

impl Handle {
    /// Runs `job` on a thread of this reactor's own pool, and fires the Deferred with its result,
    /// on this thread; see [`ThreadPool::defer`]. The pool has the [default limits](Limits), starts
    /// with the first job and ends with the reactor.
    ///
    /// `Box<dyn Error>` does not go from thread to thread: the error of a job may be `Box<dyn
    /// Error + Send + Sync>`, a `String`, or one of your own.
    ///
    /// # Errors
    /// The Deferred's, besides the job's own: [`Interrupted::Refused`] when as many jobs wait as
    /// may; the job is dropped then.
    #[track_caller]
    pub fn defer_to_thread<T, E, F>(&self, job: F) -> Deferred<T, E>
    where
        F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + Send,
    {
        match default_pool(self).defer(self, job) {
            Ok(deferred) => deferred,
            Err(Full(_)) => Deferred::ready(Err(Interrupted::Refused.into())),
        }
    }
}

/// The reactor keeps its pool without knowing what it is.
fn default_pool(handle: &Handle) -> Rc<ThreadPool> {
    handle.extension(|| Rc::new(ThreadPool::new("entwined", Limits::default())))
}
