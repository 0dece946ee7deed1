//! The backend for a loop that can do no more than run a closure on its thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
};

use super::{Driver, Event, Handle, Interest, Key, LifeError, Next, Notify, Reactor, Selector};

/// A closure for the host's thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// A reactor in any loop that can be asked, from another thread, to run a closure on its own: Slint's `invoke_from_event_loop`, egui's and
/// winit's proxies, Win32's `PostMessage`, Cocoa's `performSelectorOnMainThread`.
///
/// One thread waits for the reactor's one file descriptor, and does nothing else: every callback runs on the host's thread, in slices of 2 ms
/// that the host is asked for. A host that can watch a file descriptor itself is better off with a backend of its own, which saves the thread
/// and a switch to it for each wake-up.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
///
/// use entwined::reactor::{Interleave, Job};
///
/// // A host's loop: it runs what it is sent.
/// let (sender, jobs) = mpsc::channel::<Job>();
/// let network = Interleave::new(move |job| drop(sender.send(job)))?;
/// network.start()?;
/// let handle = network.handle();
/// handle.call_later(Duration::from_millis(5), {
///     let handle = handle.clone();
///     move || handle.stop().expect("it runs")
/// });
/// while handle.is_running() {
///     jobs.recv()?();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The reactor cannot iterate the host's loop from inside a callback: while [`Handle::wait`] waits, only the network goes on. A loop that the host
/// itself runs inside of one, such as a modal dialog's, is served like any other, from 10 ms after it has begun.
///
/// Dropping it [closes](Driver::close) the reactor and ends the thread. It stays on the thread that made it.
pub struct Interleave {
    hosted: Rc<Hosted>,
}

/// The reactor, where the closures that the host runs find it.
struct Hosted {
    driver: Driver,
    watch: Arc<Watch>,
}

thread_local! {
    /// The reactors of this thread, by number: a closure that other threads hand on cannot hold one.
    static HOSTED: RefCell<BTreeMap<u64, Weak<Hosted>>> = const { RefCell::new(BTreeMap::new()) };
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Interleave {
    /// A reactor that does not run yet. `post` has the host run a closure on this thread, soon and in any order with others, and returns at once; it
    /// is called from this thread, also from inside such a closure, and from another, and never runs the closure itself. Closures that are dropped
    /// instead of run are harmless once the loop has ended.
    ///
    /// # Errors
    /// When there are no file descriptors or no threads left.
    pub fn new(post: impl Fn(Job) + Send + Sync + 'static) -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        let watch = Arc::new(Watch {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            post: Box::new(post),
            asked: AtomicBool::new(false),
            state: Mutex::new(State::Resting),
            changed: Condvar::new(),
            selector: selector.as_fd().try_clone_to_owned()?,
            end: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let watching = watch.clone();
        thread::Builder::new().name("entwined-interleave".to_owned()).spawn(move || watching.run())?;
        let driver = Driver::new(Backend { selector, watch: watch.clone() });
        let hosted = Rc::new(Hosted { driver, watch });
        HOSTED.with_borrow_mut(|all| all.insert(hosted.watch.number, Rc::downgrade(&hosted)));
        Ok(Interleave { hosted })
    }

    /// The handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.hosted.driver.handle()
    }

    /// Begins a run. May be called before the host's loop runs, from inside its callbacks, and again after a run has ended.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`].
    pub fn start(&self) -> Result<(), LifeError> {
        self.hosted.driver.start()?;
        self.hosted.watch.ask();
        Ok(())
    }
}

impl fmt::Debug for Interleave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interleave").field("running", &self.hosted.driver.is_running()).finish_non_exhaustive()
    }
}

impl Drop for Interleave {
    fn drop(&mut self) {
        // On the stack there may be a slice that still holds it.
        self.hosted.driver.close();
        HOSTED.with_borrow_mut(|all| all.remove(&self.hosted.watch.number));
        self.hosted.watch.end();
    }
}

/// What the host runs.
fn slice(number: u64) {
    let hosted = HOSTED.with_borrow(|all| all.get(&number).and_then(Weak::upgrade));
    // It may have been dropped while the closure was on its way.
    let Some(hosted) = hosted else { return };
    if !hosted.driver.is_running() {
        hosted.watch.asked.store(false, Ordering::Release);
        return;
    }
    hosted.watch.begin();
    if let Err(error) = hosted.driver.slice(hosted.driver.budget()) {
        tracing::error!(%error, "the operating system refused to report events");
    }
    // The deadline is in the selector.
    hosted.watch.finish(hosted.driver.is_running() && hosted.driver.next() == Next::Now);
}

/// A slice that takes so long has a loop of the host's in it, such as a dialog's; that is to be served too.
const NESTED: Duration = Duration::from_millis(10);

/// What the thread knows.
struct Watch {
    number: u64,
    post: Box<dyn Fn(Job) + Send + Sync>,
    /// The host was asked for a slice, until that has ended: what comes up in it is looked for then.
    asked: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// The same epoll instance as the selector's.
    selector: OwnedFd,
    /// Readable at the end.
    end: OwnedFd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The host was asked for a slice.
    Resting,
    /// A slice is being run.
    Slicing,
    /// The thread waits for the selector, or is about to.
    Watching,
    Over,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, to: State) {
        let mut state = self.state();
        if *state != State::Over {
            *state = to;
            self.changed.notify_one();
        }
    }

    /// Asks the host for a slice.
    fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            let number = self.number;
            (self.post)(Box::new(move || slice(number)));
        }
    }

    fn begin(&self) {
        self.change(State::Slicing);
    }

    /// A slice has ended; whether there is more to do.
    fn finish(&self, more: bool) {
        self.asked.store(false, Ordering::Release);
        if more {
            self.change(State::Resting);
            self.ask();
        } else {
            self.change(State::Watching);
        }
    }

    fn end(&self) {
        self.change(State::Over);
        // The thread may be in poll(2).
        let _ = rustix::io::write(&self.end, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        while self.wait_to_watch() {
            let mut fds = [PollFd::new(&self.selector, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the operating system refused to wait for events");
                    return;
                }
            }
            let mut state = self.state();
            if *state == State::Watching {
                // Before it asks: who runs the slice changes it again.
                *state = State::Resting;
            }
            drop(state);
            self.ask();
        }
    }

    /// Waits until the selector is to be watched; false when it is over.
    fn wait_to_watch(&self) -> bool {
        let mut state = self.state();
        loop {
            match *state {
                State::Over => return false,
                State::Watching => return true,
                State::Resting => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                State::Slicing => {
                    let waited = self.changed.wait_timeout(state, NESTED).unwrap_or_else(PoisonError::into_inner);
                    state = waited.0;
                    if waited.1.timed_out() && *state == State::Slicing {
                        *state = State::Watching;
                        self.asked.store(false, Ordering::Release);
                    }
                }
            }
        }
    }
}

/// The selector, and the way to the host.
struct Backend {
    selector: Rc<Selector>,
    watch: Arc<Watch>,
}

impl Reactor for Backend {
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        self.selector.watch(fd, key, interest)
    }

    fn unwatch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        self.selector.unwatch(fd, key)
    }

    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.selector.select(timeout, events)
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        self.selector.set_deadline(deadline);
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.selector.notifier()
    }

    fn request_turn(&self) {
        self.watch.ask();
    }
}
