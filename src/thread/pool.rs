//! Threads that take jobs from a queue.
//!
//! A thread that has nothing to do is either *seeking* (it runs, and will look at the queue before
//! it rests) or *resting* (it is parked). Those who bring a job wake a resting thread only when
//! there are more jobs than seekers. The one that rested last is woken first, so that those at the
//! bottom of the stack reach the end of their idle time, and the pool shrinks to what the work
//! needs.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::job::{self, Job};
use crate::{
    deferred::{ChainError, Deferred, Full},
    panic::panic_message,
    reactor::Handle,
};

/// Threads for work that would hold up a loop: long computations, and calls that block. Clones are
/// the same pool, `Send` and `Sync`.
///
/// Threads are started when a job finds no idle one, up to a limit; beyond that jobs wait, in
/// order, and beyond a second limit they are refused. A thread that has had nothing to do for a
/// while ends.
///
/// When the last clone is dropped, what is queued still runs; then the threads end. Nobody waits
/// for them.
///
/// [`Handle::defer_to_thread`] uses a pool that belongs to the reactor. Make one of your own for
/// work that must not wait behind other work (look-ups of names, a database), or that needs other
/// limits:
///
/// ```
/// use entwined::{Standalone, thread::{Limits, ThreadPool}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut limits = Limits::default();
/// limits.threads = 2;
/// let pool = ThreadPool::new("thumbnails", limits);
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let sum = pool.defer(&handle, |_| Ok::<u64, String>((1..=1_000).sum())).map_err(|_| "the queue is full")?;
/// sum.add_callback({
///     let handle = handle.clone();
///     move |sum| {
///         assert_eq!(sum, 500_500);
///         handle.stop().map_err(|error| error.to_string())
///     }
/// })
/// .detach();
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owner: Arc<Owner>,
}

/// What a [`ThreadPool`] may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Threads at most; zero counts as one. 8.
    pub threads: usize,
    /// Jobs that wait for a thread at most. 16,384.
    pub queue: usize,
    /// How long a thread without work stays. 10 s.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            threads: 8,
            queue: 16_384,
            idle: Duration::from_secs(10),
        }
    }
}

impl ThreadPool {
    /// A pool without threads so far. They will be called `name`, a dash and a number; the system
    /// shows 15 bytes of that.
    ///
    /// # Panics
    /// When the name contains a zero byte.
    pub fn new(name: &str, limits: Limits) -> Self {
        assert!(!name.contains('\0'), "a zero byte in the name of a thread");
        let inner = Inner {
            name: name.to_owned(),
            limits,
            queue: Mutex::default(),
        };
        ThreadPool {
            owner: Arc::new(Owner(Arc::new(inner))),
        }
    }

    /// Runs `job` on one of the threads. The Deferred fires on the thread of `handle`'s reactor, in
    /// one of its turns; `job` never begins before this returns, nor does the Deferred fire.
    ///
    /// To cancel the Deferred takes back a job that has not begun; one that runs can ask its
    /// [`Job`], and its result is dropped. So it is with the end of the reactor's run, which
    /// cancels what has not been answered. To drop the Deferred lets the job go on. A job that
    /// panics gives [`Interrupted::Panicked`](crate::deferred::Interrupted::Panicked).
    ///
    /// A result that nobody wants any more is dropped on the reactor's thread; on the job's when
    /// the reactor is gone.
    ///
    /// # Errors
    /// [`Full`] gives the job back: as many wait as may, or there is no thread and the system
    /// refuses to start one (which is logged).
    #[track_caller]
    pub fn defer<T, E, F>(&self, handle: &Handle, job: F) -> Result<Deferred<T, E>, Full<F>>
    where
        F: FnOnce(&Job) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: ChainError + Send,
    {
        job::defer(&self.owner.0, handle, Location::caller(), job)
    }

    /// How many threads there are, busy or idle.
    pub fn threads(&self) -> usize {
        self.owner.0.lock().threads
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.owner.0.lock().jobs.len()
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.owner.0.name)
            .field("threads", &self.threads())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

/// Gone with the last handle on the pool; the threads then see that there will be no more jobs.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        let resting = std::mem::take(&mut queue.resting);
        queue.seeking += resting.len();
        drop(queue);
        for thread in resting {
            thread.unpark();
        }
    }
}

pub(super) type Work = Box<dyn FnOnce(&mut Seat<'_>) + Send>;

/// A thread's place in the pool while it runs a job.
pub(super) struct Seat<'a> {
    pool: &'a Inner,
    free: bool,
}

impl Seat<'_> {
    /// The job's result is there, and who waits will now be told. From here on the thread counts as
    /// a seeker, so that whoever hears of the result and has a further job finds this thread, and
    /// does not start another.
    pub(super) fn vacate(&mut self) {
        if !std::mem::replace(&mut self.free, true) {
            self.pool.lock().seeking += 1;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.vacate();
    }
}

/// What the threads share.
pub(super) struct Inner {
    name: String,
    limits: Limits,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// By number: in order of arrival, and a job that is cancelled is found.
    jobs: BTreeMap<u64, Work>,
    next: u64,
    threads: usize,
    /// Threads that will look at `jobs` before they rest.
    seeking: usize,
    /// Threads that are parked until somebody takes them from here.
    resting: Vec<Thread>,
    /// Threads that ever were.
    started: u64,
    closed: bool,
}

impl Queue {
    /// Whether a job would find a thread with nothing else to do.
    fn has_idle(&self) -> bool {
        self.jobs.len() < self.seeking + self.resting.len()
    }

    /// How many jobs wait for a busy thread.
    fn waiting(&self) -> usize {
        self.jobs
            .len()
            .saturating_sub(self.seeking + self.resting.len())
    }
}

/// Room for one job.
pub(super) struct Place<'a> {
    queue: MutexGuard<'a, Queue>,
}

impl Place<'_> {
    /// Fills it; the number is for [`Inner::remove`].
    pub(super) fn put(mut self, work: Work) -> u64 {
        let number = self.queue.next;
        self.queue.next += 1;
        self.queue.jobs.insert(number, work);
        let woken = if self.queue.jobs.len() > self.queue.seeking {
            self.queue.resting.pop()
        } else {
            None
        };
        self.queue.seeking += usize::from(woken.is_some());
        drop(self.queue);
        if let Some(thread) = woken {
            thread.unpark();
        }
        number
    }
}

impl Inner {
    /// Room for a job, for which a thread is started if need be; `None` when there is none.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place<'_>> {
        let mut queue = self.lock();
        let mut may_start = true;
        while !queue.has_idle() {
            if may_start && queue.threads < self.limits.threads.max(1) {
                drop(queue);
                may_start = self.start_thread();
                queue = self.lock();
            } else if queue.threads > 0 && queue.waiting() < self.limits.queue {
                break;
            } else {
                return None;
            }
        }
        Some(Place { queue })
    }

    /// Takes a job back that has not begun.
    pub(super) fn remove(&self, number: u64) -> Option<Work> {
        self.lock().jobs.remove(&number)
    }

    /// Without the lock, since it takes the system some 50 µs.
    fn start_thread(self: &Arc<Self>) -> bool {
        let number = {
            let mut queue = self.lock();
            queue.threads += 1;
            queue.seeking += 1;
            queue.started += 1;
            queue.started
        };
        let inner = self.clone();
        let thread = thread::Builder::new().name(format!("{}-{number}", self.name));
        match thread.spawn(move || inner.work()) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, pool = self.name, "no thread could be started");
                let mut queue = self.lock();
                queue.threads -= 1;
                queue.seeking -= 1;
                false
            }
        }
    }

    /// The life of a thread. It begins as a seeker.
    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some((_, work)) = queue.jobs.pop_first() {
                queue.seeking -= 1;
                drop(queue);
                self.run(work);
                queue = self.lock();
            } else if queue.closed {
                queue.seeking -= 1;
                queue.threads -= 1;
                return;
            } else {
                match self.rest(queue) {
                    Some(woken) => queue = woken,
                    None => return,
                }
            }
        }
    }

    /// The job answers for its own panics; what is left are those of destructors.
    fn run(&self, work: Work) {
        let mut seat = Seat {
            pool: self,
            free: false,
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut seat))) {
            tracing::error!(
                "something that a job left behind panicked: {}",
                panic_message(&*panic)
            );
        }
    }

    /// Rests until somebody wakes this thread, which makes it a seeker; `None` when it has rested
    /// long enough and is out of the pool.
    fn rest<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> Option<MutexGuard<'a, Queue>> {
        let this = thread::current();
        let end = Instant::now().checked_add(self.limits.idle);
        queue.seeking -= 1;
        queue.resting.push(this.clone());
        loop {
            drop(queue);
            match end {
                Some(end) => thread::park_timeout(end.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
            queue = self.lock();
            // Whoever wakes a thread takes it from the list, so a wake-up that was not meant finds
            // it there.
            let Some(index) = queue
                .resting
                .iter()
                .position(|thread| thread.id() == this.id())
            else {
                return Some(queue);
            };
            if end.is_some_and(|end| end <= Instant::now()) {
                queue.resting.remove(index);
                queue.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic happens under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
