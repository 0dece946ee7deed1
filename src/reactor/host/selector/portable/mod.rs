//! All sources behind a [`mio::Poll`], on systems whose poll cannot contain a timer.
//!
//! The loop's thread waits in the poll, or a [`Waiter`] does so for it. There is one poll, so the
//! two take turns: the one that waits holds the lock `turn`. What a waiter fetches is kept for the
//! loop's thread.
//!
//! The loop's thread comes first. It holds `gate` while it selects, wakes a waiter that has the
//! turn, and the waiter then waits for the gate. That is nothing to report, because the loop runs.
//! So a waiter has to tell why it woke: what other threads ask for is in a flag.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use self::unix::Sources;
#[cfg(windows)]
use self::windows::Sources;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{EVENTS, FETCHES, MioNotify, WAKER, event};
use crate::reactor::backend::{Event, Interest, Key, Notify, Source};

/// A [`mio::Poll`] with what a reactor needs: the watched sources, a deadline and a notifier.
///
/// On this system the selector is not one file descriptor: the deadline bounds the wait instead. A
/// host's loop that cannot call [`select`](Selector::select) itself uses a
/// [`Watcher`](crate::reactor::Watcher), a thread that waits for it.
///
/// A shared selector (`Rc<Selector>`) is a [`Reactor`](crate::reactor::Reactor). Keep a clone of it
/// for the loop.
pub struct Selector {
    shared: Arc<Shared>,
    registry: mio::Registry,
}

/// What the loop's thread and a waiter share.
struct Shared {
    gate: Mutex<()>,
    turn: Mutex<Turn>,
    /// Written on the loop's thread only. Read before each wait.
    deadline: Mutex<Option<Instant>>,
    wake: Arc<Wake>,
    sources: Sources,
}

/// Other threads have this.
struct Wake {
    waker: MioNotify,
    /// Whether one of them has asked for a turn since the last one.
    asked: AtomicBool,
}

impl Notify for Wake {
    fn notify(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.waker.notify();
    }
}

struct Turn {
    poll: mio::Poll,
    events: mio::Events,
    /// Fetched by a waiter, for the loop's thread.
    fetched: Vec<Event>,
}

impl Selector {
    /// On Windows, a source is reported again only after `WouldBlock`; others do not know of marks.
    pub(super) const REPORTS_PRIORITY: bool = false;

    /// Makes an empty selector.
    ///
    /// # Errors
    /// Fails if the process or the system is out of file descriptors or handles.
    pub fn new() -> io::Result<Self> {
        let sources = Sources::new()?;
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let wake = Arc::new(Wake {
            waker: MioNotify(mio::Waker::new(&registry, WAKER)?),
            asked: AtomicBool::new(false),
        });
        let turn = Mutex::new(Turn {
            poll,
            events: mio::Events::with_capacity(EVENTS),
            fetched: Vec::new(),
        });
        let shared = Arc::new(Shared {
            gate: Mutex::default(),
            turn,
            deadline: Mutex::default(),
            wake,
            sources,
        });
        Ok(Selector { shared, registry })
    }

    /// See [`Reactor::watch`](crate::reactor::Reactor::watch).
    pub fn watch(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        self.shared
            .sources
            .watch(&self.registry, source, key, interest)
    }

    /// See [`Reactor::rearm`](crate::reactor::Reactor::rearm).
    pub fn rearm(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()> {
        self.shared
            .sources
            .rearm(&self.registry, source, key, interest)
    }

    /// See [`Reactor::unwatch`](crate::reactor::Reactor::unwatch).
    pub fn unwatch(&self, source: Source<'_>, key: Key) -> io::Result<()> {
        self.shared.sources.unwatch(&self.registry, source, key)
    }

    /// See [`Reactor::select`](crate::reactor::Reactor::select).
    pub fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let _gate = lock(&self.shared.gate);
        let mut turn = match self.shared.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.shared.wake.waker.notify();
                lock(&self.shared.turn)
            }
        };
        // What was asked for before this is done in the turn that follows.
        self.shared.wake.asked.store(false, Ordering::SeqCst);
        self.shared.wait(&mut turn, timeout)?;
        events.append(&mut turn.fetched);
        Ok(())
    }

    /// See [`Reactor::set_deadline`](crate::reactor::Reactor::set_deadline).
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *lock(&self.shared.deadline) = deadline;
        // A waiter that has the turn may have read the one before.
        if let Err(TryLockError::WouldBlock) = self.shared.turn.try_lock() {
            self.shared.wake.waker.notify();
        }
    }

    /// See [`Reactor::notifier`](crate::reactor::Reactor::notifier).
    pub fn notifier(&self) -> Arc<dyn Notify> {
        self.shared.wake.clone()
    }
}

impl Shared {
    /// Whether there is something to do for the loop's thread.
    fn has_reason(&self, turn: &Turn) -> bool {
        !turn.fetched.is_empty()
            || self.wake.asked.load(Ordering::SeqCst)
            || lock(&self.deadline).is_some_and(|at| at <= Instant::now())
    }

    /// Waits, and appends to what is fetched. Returns at once if something is there already.
    fn wait(&self, turn: &mut Turn, timeout: Option<Duration>) -> io::Result<()> {
        let due = lock(&self.deadline).map(|at| at.saturating_duration_since(Instant::now()));
        let mut timeout = match turn.fetched.is_empty() {
            true => [timeout, due].into_iter().flatten().min(),
            false => Some(Duration::ZERO),
        };
        // Fetch everything now, because deadlines are checked afterwards: data whose event is still
        // in the kernel would count as not received.
        for _ in 0..FETCHES {
            match turn.poll.poll(&mut turn.events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                result => result?,
            }
            let sources = turn.events.iter().filter(|event| event.token() != WAKER);
            for event in sources.map(event) {
                self.sources.reported(&event);
                turn.fetched.push(event);
            }
            if turn.events.iter().count() < EVENTS {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(())
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").finish_non_exhaustive()
    }
}

/// What a thread other than the loop's waits for.
pub(in crate::reactor::host) struct Waiter(Arc<Shared>);

impl Waiter {
    // It is fallible on Linux.
    pub(in crate::reactor::host) fn new(selector: &Selector) -> io::Result<Self> {
        Ok(Waiter(selector.shared.clone()))
    }

    /// Waits until the selector has events, the deadline has passed, or another thread has asked
    /// for a turn. Keeps the events for the loop's thread.
    pub(in crate::reactor::host) fn wait(&self) -> io::Result<()> {
        let shared = &*self.0;
        loop {
            drop(lock(&shared.gate));
            let mut turn = lock(&shared.turn);
            if !shared.has_reason(&turn) {
                shared.wait(&mut turn, None)?;
            }
            let has_reason = shared.has_reason(&turn);
            drop(turn);
            // If the loop's thread is here, it sees the reason itself.
            let is_alone = !matches!(shared.gate.try_lock(), Err(TryLockError::WouldBlock));
            if has_reason && is_alone {
                return Ok(());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic and leave something half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
