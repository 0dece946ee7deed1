//! The backend for a loop that can only run a closure on its thread.

use std::{
    cell::RefCell,
    fmt, io,
    rc::{Rc, Weak},
    sync::{
        self, Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Driver, Selector, Watcher, watcher::WatcherRemote};
use crate::{
    log,
    panic::catch,
    reactor::{
        backend::{Host, NextTurn},
        turn::{Handle, LifeError},
    },
    table::Table,
};

/// A closure to run on the host's thread.
pub type HostCall = Box<dyn FnOnce() + Send>;

/// A reactor for any loop that another thread can ask to run a closure on the loop's thread:
/// Slint's `invoke_from_event_loop`, the event loop proxies of egui and winit, Win32's
/// `PostMessage`, Cocoa's `performSelectorOnMainThread`.
///
/// One helper thread waits on the reactor's file descriptor, and does nothing else. Every callback
/// runs on the host's thread, in slices of 2 ms that the host is asked to run. If a host can watch
/// a file descriptor itself, write a backend for it instead: that saves the thread, and a thread
/// switch for each wake-up.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
///
/// use entwined::reactor::{Interleave, HostCall};
///
/// // A host's loop: it runs the closures that it receives.
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
/// only the network is served. If the host itself runs a nested loop inside a callback, for example
/// for a modal dialog, the reactor is served there too, starting 10 ms after the slice began.
///
/// Dropping it [closes](Driver::close) the reactor and ends the helper thread. It must stay on the
/// thread that made it.
pub struct Interleave {
    hosted: Rc<Hosted>,
}

/// The reactor, found by the closures that the host runs.
struct Hosted {
    driver: Driver,
    asking: Arc<Asking>,
    watcher: Watcher,
}

thread_local! {
    /// The reactors of this thread, by number: a closure that passes through other threads cannot
    /// hold a reactor.
    static HOSTED: RefCell<Table<u64, Weak<Hosted>>> = const { RefCell::new(Table::new()) };
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Interleave {
    /// Makes a reactor that is not running yet. `post` must make the host run a closure on this
    /// thread soon, in any order relative to others, and must return at once. It is called on this
    /// thread, also from inside such a closure, and on the helper thread. It must never run the
    /// closure itself.
    ///
    /// A closure that the host drops instead of running it, because its loop does not run yet or
    /// any more, is posted again: after 10 ms, then twice as long each time, up to a second. A log
    /// line says so. If `post` panics, the same happens.
    ///
    /// # Errors
    /// Fails if the process is out of file descriptors or threads.
    pub fn new(post: impl Fn(HostCall) + Send + Sync + 'static) -> io::Result<Self> {
        let selector = Rc::new(Selector::new()?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let asking = Arc::new(Asking {
            number,
            post: Box::new(post),
            asked: AtomicBool::new(false),
            running: AtomicBool::new(false),
            refused: AtomicU32::new(0),
            remote: OnceLock::new(),
        });
        let watcher = Watcher::spawn(&selector, {
            let asking = asking.clone();
            move || {
                // Reset first, so that another slice is requested even while a long slice is
                // running.
                asking.answered();
                asking.ask();
                true
            }
        })?;
        // It is set once.
        let _ = asking.remote.set(watcher.remote());
        let driver = Driver::new(selector, asking.clone());
        let hosted = Rc::new(Hosted {
            driver,
            asking,
            watcher,
        });
        HOSTED.with_borrow_mut(|all| all.insert(number, Rc::downgrade(&hosted)));
        Ok(Interleave { hosted })
    }

    /// The handle that the program uses.
    pub fn handle(&self) -> Handle {
        self.hosted.driver.handle()
    }

    /// Starts a run. May be called before the host's loop runs, from inside its callbacks, and
    /// again after a run has ended.
    ///
    /// # Errors
    /// [`LifeError::AlreadyRunning`].
    pub fn start(&self) -> Result<(), LifeError> {
        self.hosted.driver.start()?;
        self.hosted.asking.running.store(true, Ordering::Relaxed);
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
        self.hosted.asking.running.store(false, Ordering::Relaxed);
        // A slice on the stack may still hold the driver, so close it here.
        self.hosted.driver.close();
        // Fails if the thread is ending and the list is gone.
        let _ = HOSTED.try_with(|all| all.borrow_mut().remove(&self.hosted.asking.number));
    }
}

/// Runs one slice. This is the closure that the host runs.
fn slice(number: u64) {
    let hosted = HOSTED.try_with(|all| all.borrow().get(&number).and_then(Weak::upgrade));
    let hosted = hosted.ok().flatten();
    // The reactor may have been dropped while the closure was queued.
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
    asking.refused.store(0, Ordering::Relaxed);
    watcher.watch_in(NESTED);
    if let Err(error) = driver.slice(driver.budget()) {
        // Otherwise it would fail again at once, for ever.
        log::error(format_args!(
            "the operating system refused to report events, so the reactor closes: {error}"
        ));
        driver.close();
    }
    asking.running.store(driver.is_running(), Ordering::Relaxed);
    asking.answered();
    // The deadline is in the selector, so only queued work needs another request.
    if driver.next_turn() == NextTurn::Now {
        watcher.rest();
        asking.ask();
    } else {
        watcher.watch();
    }
}

/// If a slice takes this long, it contains a nested loop of the host, such as a dialog's. The
/// network is served in that loop too.
const NESTED: Duration = Duration::from_millis(10);

/// Requests slices from the host, from any thread.
struct Asking {
    number: u64,
    post: Box<dyn Fn(HostCall) + Send + Sync>,
    /// Set from the request until that slice has ended. Work that comes up in between is checked
    /// for at the end of the slice.
    asked: AtomicBool,
    /// Whether there is a run. Without one the host may drop what it likes.
    running: AtomicBool,
    /// How often in a row the host has dropped the closure.
    refused: AtomicU32,
    /// Wakes the helper thread.
    remote: OnceLock<WatcherRemote>,
}

impl Asking {
    /// Requests a slice from the host.
    fn ask(self: &Arc<Self>) {
        if self.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let request = Request {
            asking: Arc::downgrade(self),
            number: self.number,
        };
        if let Err(message) = catch(|| (self.post)(Box::new(move || request.run()))) {
            log::error(format_args!(
                "posting to the host's loop panicked: {message}"
            ));
        }
    }

    /// The host has dropped a request. Tries again later, or as soon as there is more to do.
    fn refused(&self) {
        self.answered();
        if !self.running.load(Ordering::Relaxed) {
            return;
        }
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            log::warning(format_args!(
                "the host's loop has dropped a closure of the network instead of running it; it is \
                 asked again until it does"
            ));
        }
        if let Some(remote) = self.remote.get() {
            remote.wake_in((REFUSED * (1 << before.min(10))).min(REFUSED_MAX));
        }
    }

    fn answered(&self) {
        self.asked.store(false, Ordering::Release);
    }
}

/// How long to wait before the host is asked again after it has dropped a closure, at first and at
/// most.
const REFUSED: Duration = Duration::from_millis(10);
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// A request that is with the host. If it is dropped, the host has refused it.
struct Request {
    /// Does not keep a reactor's helper alive that is gone.
    asking: sync::Weak<Asking>,
    number: u64,
}

impl Request {
    fn run(mut self) {
        self.asking = sync::Weak::new();
        slice(self.number);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.upgrade() {
            asking.refused();
        }
    }
}

impl Host for Arc<Asking> {
    fn request_turn(&self) {
        self.ask();
    }
}
