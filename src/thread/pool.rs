//! Threads that take jobs from a queue.
//!
//! A thread without work is either *seeking* (it runs, and will check the queue before it rests) or
//! *resting* (it is parked). Adding a job wakes a resting thread only if there are more jobs than
//! seekers. The thread that started to rest last is woken first. The threads at the bottom of the
//! stack then reach their idle timeout, and the pool shrinks to the size that the work needs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{log, panic::catch, sys};

/// Threads for work that would block the event loop: long computations and blocking calls. Clones
/// refer to the same pool. `Send` and `Sync`.
///
/// If a job finds no idle thread, a new one is started, up to a limit. Above that limit jobs wait
/// in order, and above a second limit they are refused. A thread that has been idle for a while
/// ends.
///
/// The threads block the signals of the process: those are for the program's own threads. (What is
/// about the thread itself, such as SIGSEGV and SIGPROF, is not blocked.)
///
/// When the last clone is dropped, the queued jobs still run; then the threads end. Nothing waits
/// for them.
///
/// [`Handle::defer_to_thread`](crate::Handle::defer_to_thread) uses a pool that belongs to the
/// reactor. Create your own pool for work that must not wait behind other work (name lookups, a
/// database) or that needs other limits:
///
/// ```
/// use entwined::{Standalone, thread::{Config, ThreadPool}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config { max_threads: 2, ..Config::default() };
/// let pool = ThreadPool::new("thumbnails", config);
///
/// let reactor = Standalone::new()?;
/// let handle = reactor.handle();
/// let sum = pool.defer(&handle, |_| Ok::<u64, String>((1..=1_000).sum()));
/// sum.map({
///     let handle = handle.clone();
///     move |sum| {
///         assert_eq!(sum, 500_500);
///         handle.stop();
///     }
/// });
/// reactor.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owner: Arc<Owner>,
}

/// The limits of a [`ThreadPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum number of threads; zero counts as one. Default: 8.
    pub max_threads: usize,
    /// Maximum number of jobs that wait for a thread. Default: 16,384.
    pub max_queued: usize,
    /// How long a thread stays without work. Default: 10 s.
    pub idle_timeout: Duration,
    /// How much the threads give way to the program's other threads when there are too few
    /// processors: what is added to their nice value, which ends at 19 (sched(7), "The nice
    /// value"). Default: 0, not at all.
    ///
    /// A window's thread that draws sixty frames a second wants its processor at once. Work that
    /// may take a while can leave it: 10 is a good value. The threads then also give way to every
    /// other program, and processes that their jobs start inherit the value.
    ///
    /// Only Linux gives a thread a nice value of its own. Elsewhere this has no effect.
    pub nice: u8,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_threads: 8,
            max_queued: 16_384,
            idle_timeout: Duration::from_secs(10),
            nice: 0,
        }
    }
}

impl ThreadPool {
    /// Creates a pool. It has no threads yet. Their names will be `name`, a dash and a number;
    /// Linux shows the first 15 bytes.
    ///
    /// # Panics
    /// If `name` contains a NUL byte.
    pub fn new(name: &str, config: Config) -> Self {
        assert!(
            !name.contains('\0'),
            "a thread name cannot contain a NUL byte"
        );
        let inner = Inner {
            name: name.to_owned(),
            config,
            queue: Mutex::default(),
        };
        ThreadPool {
            owner: Arc::new(Owner(Arc::new(inner))),
        }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.owner.0
    }

    /// Returns the number of threads, busy or idle.
    pub fn threads(&self) -> usize {
        self.owner.0.lock().threads
    }

    /// Returns the number of jobs that wait for a thread.
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

/// Dropped with the last handle to the pool. The threads then see that no more jobs will come.
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
    /// Call this when the job's result is ready, before the waiting code is notified. From now on
    /// the thread counts as a seeker. If that code submits another job, the job then finds this
    /// thread instead of starting a new one.
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

/// The state that the threads share.
pub(super) struct Inner {
    name: String,
    config: Config,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Keyed by number: in order of arrival, and a cancelled job can be found.
    jobs: BTreeMap<u64, Work>,
    next: u64,
    threads: usize,
    /// The number of threads that will check `jobs` before they rest.
    seeking: usize,
    /// Parked threads. Whoever wakes one removes it from here.
    resting: Vec<Thread>,
    /// The number of threads ever started.
    started: u64,
    /// Whether the system refused the last one.
    refused: bool,
    closed: bool,
}

impl Queue {
    /// Returns whether a job would find an idle thread.
    fn has_idle(&self) -> bool {
        self.jobs.len() < self.seeking + self.resting.len()
    }

    /// Returns the number of jobs that wait for a busy thread.
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
    /// Adds the job. Returns its number, for [`Inner::remove`].
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
    /// Finds room for a job, and starts a thread if needed. Returns `None` if there is no room.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place<'_>> {
        let mut queue = self.lock();
        let mut may_start = true;
        while !queue.has_idle() {
            if may_start && queue.threads < self.config.max_threads.max(1) {
                may_start = self.start_thread(queue);
                queue = self.lock();
            } else if queue.threads > 0 && queue.waiting() < self.config.max_queued {
                break;
            } else {
                return None;
            }
        }
        Some(Place { queue })
    }

    /// Removes a job that has not started.
    pub(super) fn remove(&self, number: u64) -> Option<Work> {
        self.lock().jobs.remove(&number)
    }

    /// Counts the thread, and starts it without the lock, because that takes about 50 µs.
    fn start_thread(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) -> bool {
        queue.threads += 1;
        queue.seeking += 1;
        queue.started += 1;
        let number = queue.started;
        drop(queue);
        let inner = self.clone();
        let thread = thread::Builder::new().name(format!("{}-{number}", self.name));
        let work = move || {
            sys::take_no_signals();
            sys::give_way(inner.config.nice);
            inner.work()
        };
        match thread.spawn(work) {
            Ok(_) => {
                self.lock().refused = false;
                true
            }
            Err(error) => {
                // What peers ask for would fill the log.
                if !std::mem::replace(&mut self.lock().refused, true) {
                    let name = &self.name;
                    log::error(format_args!(
                        "the pool {name:?} cannot start a thread: {error}"
                    ));
                }
                self.did_not_start();
                false
            }
        }
    }

    /// Gives up a thread that was counted. Another reactor may have taken it for one that would do
    /// its job.
    fn did_not_start(&self) {
        let mut queue = self.lock();
        queue.threads -= 1;
        queue.seeking -= 1;
        // Without a thread nobody would ever do it. Its Deferred hears that it was dropped.
        let lost = match queue.threads {
            0 => std::mem::take(&mut queue.jobs),
            _ => BTreeMap::new(),
        };
        drop(queue);
        for work in lost.into_values() {
            if let Err(message) = catch(|| drop(work)) {
                log::error(format_args!(
                    "a job panicked when it was dropped: {message}"
                ));
            }
        }
    }

    /// The main loop of a thread. It starts as a seeker.
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

    /// The job catches its own panics. What remains are panics of destructors.
    fn run(&self, work: Work) {
        let mut seat = Seat {
            pool: self,
            free: false,
        };
        if let Err(message) = catch(|| work(&mut seat)) {
            log::error(format_args!("a destructor panicked after a job: {message}"));
        }
    }

    /// Rests until the thread is woken, which makes it a seeker. Returns `None` if the idle timeout
    /// has expired; the thread has then left the pool.
    fn rest<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> Option<MutexGuard<'a, Queue>> {
        let this = thread::current();
        let end = Instant::now().checked_add(self.config.idle_timeout);
        queue.seeking -= 1;
        queue.resting.push(this.clone());
        loop {
            drop(queue);
            match end {
                Some(end) => thread::park_timeout(end.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
            queue = self.lock();
            // Waking a thread removes it from the list. If it is still there, the wake-up was
            // spurious.
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
        // Nothing panics while the lock is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that the system does not start after another reactor has counted on it.
    #[test]
    fn a_job_does_not_wait_for_a_thread_that_did_not_start() {
        let pool = ThreadPool::new("none", Config::default());
        let inner = pool.inner();
        let mut queue = inner.lock();
        (queue.threads, queue.seeking) = (1, 1);
        drop(queue);
        let place = inner.place().expect("room");
        let (held, ended) = std::sync::mpsc::channel::<()>();
        place.put(Box::new(move |_| drop(held)));
        inner.did_not_start();
        assert_eq!(pool.queued(), 0);
        let error = ended.try_recv().expect_err("it was not done");
        assert_eq!(error, std::sync::mpsc::TryRecvError::Disconnected);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_was_lent_to_a_thread_that_did_not_start_comes_back() {
        let pool = ThreadPool::new("none", Config::default());
        let inner = pool.inner();
        let mut queue = inner.lock();
        (queue.threads, queue.seeking) = (1, 1);
        drop(queue);
        let mut loan = pool.lend(7, |value| *value += 1).expect("room");
        inner.did_not_start();
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(loan.poll(cx), std::task::Poll::Ready(Ok(7)));
    }
}
