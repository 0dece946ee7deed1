//! The handle that other threads may use.

use std::{
    fmt,
    future::Future,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
};

use super::{Core, Handle, tasks::Runnable};
use crate::{deferred::Interrupted, panic::catch, reactor::backend::Notify};

pub(crate) type PostedCall = Box<dyn FnOnce(&Handle) + Send>;

/// Posts calls to a reactor from any thread. It is `Clone` and `Send`, and does not keep the
/// reactor alive.
#[derive(Clone)]
pub struct Remote {
    inbox: Arc<Inbox>,
}

impl Remote {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Remote { inbox }
    }

    /// Runs `call` on the reactor's thread, in one of its next turns. Calls from one thread run in
    /// the order in which they were posted. If posted on the reactor's own thread, even from inside
    /// a callback, the call runs in the next turn.
    ///
    /// Calls that have not run when the reactor's run ends are dropped, on the reactor's thread.
    /// A call that another thread posts while the run ends is dropped, or waits for the next run.
    ///
    /// # Errors
    /// [`Gone`], which contains the call, if the reactor was dropped.
    #[track_caller]
    pub fn post<F>(&self, call: F) -> Result<(), Gone<F>>
    where
        F: FnOnce(&Handle) + Send + 'static,
    {
        let own = self.inbox.is_own();
        let mut content = self.inbox.lock();
        if content.closed {
            return Err(Gone(call));
        }
        content.own_calls |= own;
        content.calls.push((Box::new(call), Location::caller()));
        self.inbox.notify(content);
        Ok(())
    }

    /// Runs `call` on the reactor's thread and waits for its result.
    ///
    /// # Errors
    /// [`RemoteError::SameThread`] if called on the reactor's own thread, where the wait would
    /// never end. [`RemoteError::Gone`] if the reactor was dropped. [`RemoteError::Dropped`] if its
    /// run ended before the call ran. [`RemoteError::Panicked`] if the call panicked.
    #[track_caller]
    pub fn call<R, F>(&self, call: F) -> Result<R, RemoteError>
    where
        F: FnOnce(&Handle) -> R + Send + 'static,
        R: Send + 'static,
    {
        self.wait_for(|reply| {
            move |handle: &Handle| {
                // The caller may be gone; then the reply is not needed.
                let _ = reply.send(catch(|| call(handle)));
            }
        })
    }

    /// Calls `call` on the reactor's thread, runs the future that it returns as a task there, and
    /// waits for the result. The future does not have to be `Send`.
    ///
    /// # Errors
    /// As for [`call`](Remote::call).
    #[track_caller]
    pub fn call_async<R, F, Fut>(&self, call: F) -> Result<R, RemoteError>
    where
        F: FnOnce(&Handle) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        self.wait_for(|reply| {
            move |handle: &Handle| {
                let future = match catch(|| call(handle)) {
                    Ok(future) => future,
                    Err(message) => return drop(reply.send(Err(message))),
                };
                handle.spawn(future).add_both(move |result| {
                    match result {
                        Ok(value) => drop(reply.send(Ok(value))),
                        Err(Interrupted::Panicked(message)) => drop(reply.send(Err(message))),
                        // Dropping `reply` reports this case.
                        Err(_) => {}
                    }
                    Ok::<_, Interrupted>(())
                });
            }
        })
    }

    #[track_caller]
    fn wait_for<R, F>(
        &self,
        make: impl FnOnce(mpsc::SyncSender<Result<R, String>>) -> F,
    ) -> Result<R, RemoteError>
    where
        F: FnOnce(&Handle) + Send + 'static,
    {
        if thread::current().id() == self.inbox.thread {
            return Err(RemoteError::SameThread);
        }
        let (reply, result) = mpsc::sync_channel(1);
        self.post(make(reply)).map_err(|_| RemoteError::Gone)?;
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(RemoteError::Panicked(message)),
            Err(mpsc::RecvError) => Err(RemoteError::Dropped),
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("reactor", &self.inbox.id)
            .finish_non_exhaustive()
    }
}

/// The reactor is gone. Contains the call that was not posted.
pub struct Gone<F>(pub F);

impl<F> fmt::Debug for Gone<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gone")
    }
}

impl<F> fmt::Display for Gone<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor that should make the call is gone")
    }
}

impl<F> std::error::Error for Gone<F> {}

/// Why a blocking call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteError {
    /// The call was made on the reactor's own thread, which would wait for itself.
    SameThread,
    /// The reactor is gone.
    Gone,
    /// The reactor's run ended before the call did.
    Dropped,
    /// The call panicked, with this message.
    Panicked(String),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteError::SameThread => f.write_str(
                "a blocking call on the reactor's own thread would wait for itself; \
                 call the function directly, or use Handle::wait",
            ),
            RemoteError::Gone => f.write_str("the reactor is gone"),
            RemoteError::Dropped => f.write_str("the reactor's run ended before the call did"),
            RemoteError::Panicked(message) => write!(f, "the call panicked: {message}"),
        }
    }
}

impl std::error::Error for RemoteError {}

/// Calls and wake-ups from other threads, for the loop.
pub(crate) struct Inbox {
    /// The reactor's number in this process.
    pub(crate) id: u64,
    thread: ThreadId,
    content: Mutex<Content>,
    /// Whether `content` may hold anything. Saves the loop taking a lock in each turn.
    filled: AtomicBool,
    notifier: Arc<dyn Notify>,
}

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) calls: Vec<(PostedCall, &'static Location<'static>)>,
    pub(crate) woken: Vec<Runnable>,
    /// Whether some of the calls were posted on the loop's thread.
    own_calls: bool,
    /// Nothing can be posted any more.
    closed: bool,
    /// All tasks have ended as well.
    ended: bool,
}

impl Inbox {
    pub(crate) fn new(id: u64, notifier: Arc<dyn Notify>) -> Arc<Self> {
        Arc::new(Inbox {
            id,
            thread: thread::current().id(),
            content: Mutex::default(),
            filled: AtomicBool::new(false),
            notifier,
        })
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Queues a task that was woken on another thread.
    pub(crate) fn wake(&self, runnable: Runnable) {
        let mut content = self.lock();
        if content.ended {
            // Only the loop's thread may drop the task's future, and it is gone. It has waited
            // until each of its tasks had ended, so this cannot be one.
            drop(content);
            std::mem::forget(runnable);
            return;
        }
        content.woken.push(runnable);
        self.notify(content);
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Content {
        let mut content = self.lock();
        self.filled.store(false, Ordering::Release);
        Content {
            calls: std::mem::take(&mut content.calls),
            woken: std::mem::take(&mut content.woken),
            own_calls: std::mem::take(&mut content.own_calls),
            closed: content.closed,
            ended: content.ended,
        }
    }

    /// Whether a call waits that was posted on the loop's thread.
    pub(crate) fn has_own_calls(&self) -> bool {
        self.lock().own_calls
    }

    /// Whether this is the loop's thread.
    fn is_own(&self) -> bool {
        // `thread::current` may panic in a destructor at the end of a thread.
        Core::local(self.id).is_some()
    }

    /// Takes only the woken tasks.
    pub(crate) fn take_woken(&self) -> Vec<Runnable> {
        std::mem::take(&mut self.lock().woken)
    }

    /// Makes posting fail from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// From now on no task is woken: there are none.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
    }

    /// Wakes the loop, unless it was already woken since it last took the content.
    fn notify(&self, content: MutexGuard<'_, Content>) {
        let first = !self.filled.swap(true, Ordering::AcqRel);
        drop(content);
        if first {
            self.notifier.notify();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        // Nothing under the lock can panic.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
