//! The backend for a loop that can do no more than run a closure on its thread.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, io,
    os::fd::BorrowedFd,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Driver, Selector, Watcher};
use crate::{
    log,
    reactor::{
        backend::{Event, Interest, Key, NextTurn, Notify, Reactor},
        turn::{Handle, LifeError},
    },
};

/// A closure for the host's thread.
pub type HostCall = Box<dyn FnOnce() + Send>;

/// A reactor in any loop that can be asked, from another thread, to run a closure on its own:
/// Slint's `invoke_from_event_loop`, egui's and winit's proxies, Win32's `PostMessage`, Cocoa's
/// `performSelectorOnMainThread`.
///
/// One thread waits for the reactor's one file descriptor, and does nothing else: every callback
/// runs on the host's thread, in slices of 2 ms that the host is asked for. A host that can watch a
/// file descriptor itself is better off with a backend of its own, which saves the thread and a
/// switch to it for each wake-up.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
///
/// use entwined::reactor::{Interleave, HostCall};
///
/// // A host's loop: it runs what it is sent.
/// let (sender, jobs) = mpsc::channel::<HostCall>();
/// let network = Interleave::new(move |job| drop(sender.send(job)))?;
/// network.start()?;
/// let handle = network.handle();
/// handle.call_later(Duration::from_millis(5), {
///     let handle = handle.clone();
///     move || handle.stop()
/// });
/// while handle.is_running() {
///     jobs.recv()?();
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The reactor cannot iterate the host's loop from inside a callback: while [`Handle::wait`] waits,
/// only the network goes on. A loop that the host itself runs inside of one, such as a modal
/// dialog's, is served like any other, from 10 ms after it has begun.
///
/// Dropping it [closes](Driver::close) the reactor and ends the thread. It stays on the thread that
/// made it.
pub struct Interleave {
    hosted: Rc<Hosted>,
}

/// The reactor, where the closures that the host runs find it.
struct Hosted {
    driver: Driver,
    asking: Arc<Asking>,
    watcher: Watcher,
}

thread_local! {
    /// The reactors of this thread, by number: a closure that other threads hand on cannot hold
    /// one.
    static HOSTED: RefCell<BTreeMap<u64, Weak<Hosted>>> = const { RefCell::new(BTreeMap::new()) };
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Interleave {
    /// A reactor that does not run yet. `post` has the host run a closure on this thread, soon and
    /// in any order with others, and returns at once; it is called from this thread, also from
    /// inside such a closure, and from another, and never runs the closure itself. Closures that
    /// are dropped instead of run are harmless once the loop has ended.
    ///
    /// # Errors
    /// When there are no file descriptors or no threads left.
    pub fn new(post: impl Fn(HostCall) + Send + Sync + 'static) -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let asking = Arc::new(Asking {
            number,
            post: Box::new(post),
            asked: AtomicBool::new(false),
        });
        let watcher = Watcher::spawn(&selector, {
            let asking = asking.clone();
            move || {
                // Within a slice that takes long it is asked for another one.
                asking.answered();
                asking.ask();
                true
            }
        })?;
        let driver = Driver::new(Backend {
            selector,
            asking: asking.clone(),
        });
        let hosted = Rc::new(Hosted {
            driver,
            asking,
            watcher,
        });
        HOSTED.with_borrow_mut(|all| all.insert(number, Rc::downgrade(&hosted)));
        Ok(Interleave { hosted })
    }

    /// The handle that programs work with.
    pub fn handle(&self) -> Handle {
        self.hosted.driver.handle()
    }

    /// Begins a run. May be called before the host's loop runs, from inside its callbacks, and
    /// again after a run has ended.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`].
    pub fn start(&self) -> Result<(), LifeError> {
        self.hosted.driver.start()?;
        self.hosted.asking.ask();
        Ok(())
    }
}

impl fmt::Debug for Interleave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interleave")
            .field("running", &self.hosted.driver.is_running())
            .finish_non_exhaustive()
    }
}

impl Drop for Interleave {
    fn drop(&mut self) {
        // On the stack there may be a slice that still holds it.
        self.hosted.driver.close();
        HOSTED.with_borrow_mut(|all| all.remove(&self.hosted.asking.number));
    }
}

/// What the host runs.
fn slice(number: u64) {
    let hosted = HOSTED.with_borrow(|all| all.get(&number).and_then(Weak::upgrade));
    // It may have been dropped while the closure was on its way.
    let Some(hosted) = hosted else { return };
    let Hosted {
        driver,
        asking,
        watcher,
    } = &*hosted;
    if !driver.is_running() {
        asking.answered();
        return;
    }
    watcher.watch_in(NESTED);
    if let Err(error) = driver.slice(driver.budget()) {
        log::error(format_args!(
            "the operating system refused to report events: {error}"
        ));
    }
    asking.answered();
    // The deadline is in the selector.
    if driver.is_running() && driver.next_turn() == NextTurn::Now {
        watcher.rest();
        asking.ask();
    } else {
        watcher.watch();
    }
}

/// A slice that takes so long has a loop of the host's in it, such as a dialog's; that is to be
/// served too.
const NESTED: Duration = Duration::from_millis(10);

/// The way to the host, from each thread.
struct Asking {
    number: u64,
    post: Box<dyn Fn(HostCall) + Send + Sync>,
    /// The host was asked for a slice, until that has ended: what comes up in it is looked for
    /// then.
    asked: AtomicBool,
}

impl Asking {
    /// Asks the host for a slice.
    fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            let number = self.number;
            (self.post)(Box::new(move || slice(number)));
        }
    }

    fn answered(&self) {
        self.asked.store(false, Ordering::Release);
    }
}

/// The selector, and the way to the host.
struct Backend {
    selector: Rc<Selector>,
    asking: Arc<Asking>,
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
        self.asking.ask();
    }
}
