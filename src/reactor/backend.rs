//! The two traits that a backend implements, and their types.

use std::{
    fmt, io,
    ops::BitOr,
    sync::Arc,
    time::{Duration, Instant},
};

pub use crate::sys::{AsSource, Source};

/// The half of a backend that waits: reports readiness, keeps time, and can be woken.
///
/// A shared [`Selector`](crate::reactor::Selector) is the implementation for every loop that can
/// watch one file descriptor, or be woken by a thread that waits. Write another only for a loop
/// that must watch each socket itself. What is watched is a [`Source`]: a borrowed file descriptor
/// on Unix, a borrowed socket on Windows. The other half is a [`Host`]. Everything else (timers,
/// queues, tasks, budgets, streams) belongs to the core and is the same on every backend.
///
/// The core calls these methods only on the loop's thread, never from inside `select`, and without
/// holding a borrow of its own.
pub trait Reactor {
    /// Starts to report the readiness of `source` under `key`.
    ///
    /// Reports are edges: the core treats a direction as ready until the source returns
    /// [`WouldBlock`](io::ErrorKind::WouldBlock), and then calls [`rearm`](Reactor::rearm). The
    /// core never watches the same source twice at the same time, and never reuses a key.
    ///
    /// # Errors
    /// The operating system's error: a bad source, a kind of file that cannot be watched, or a
    /// limit.
    fn watch(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()>;

    /// Reports the directions in `interest` again when they are next ready. They would block now.
    ///
    /// An edge-triggered backend does nothing here. A level-triggered backend suspends a direction
    /// when it reports it, and resumes it here. A backend that wraps another passes it on, or
    /// nothing is reported a second time on some systems.
    ///
    /// # Errors
    /// The operating system's. The source then counts as failed, and the next operation on it says
    /// why.
    fn rearm(&self, source: Source<'_>, key: Key, interest: Interest) -> io::Result<()>;

    /// Stops reporting `source`. Events that were already fetched are harmless: the core drops
    /// events with a stale key.
    fn unwatch(&self, source: Source<'_>, key: Key) -> io::Result<()>;

    /// Waits, and appends the sources that have become ready to `events`. Waits for at most
    /// `timeout` (without limit if `None`), or until the deadline passes or the notifier is called.
    /// With a zero timeout it never waits. An interrupted wait (`EINTR`) counts as a wait without
    /// events, not as an error.
    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Requests a turn at `deadline`, measured by the backend's [clock](Reactor::now), or cancels
    /// the request if `None`. Replaces the previous deadline. The turn comes as precisely as the
    /// backend can manage, and never earlier than the deadline by more than the clock's resolution.
    fn set_deadline(&self, deadline: Option<Instant>);

    /// Returns the object with which other threads request a turn. Called once, when the reactor is
    /// made.
    fn notifier(&self) -> Arc<dyn Notify>;

    /// Returns whether events say [`Readiness::PRIORITY`] too. Then the core takes a short read
    /// from a TCP socket as the last one until the next event, unless that was said: a read stops
    /// at the mark of urgent data, with more behind it (tcp(7), SIOCATMARK). This saves a system
    /// call for each burst that arrives. The backend must then report a source again when more
    /// arrives, although no operation has returned `WouldBlock` since.
    fn reports_priority(&self) -> bool {
        false
    }

    /// The clock that timers use. It is monotonic.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The other half of a backend: the loop that owns the thread, as far as the reactor asks anything
/// of it.
///
/// The core calls these methods on the loop's thread, without holding a borrow of its own. `()` is
/// the host for a loop that needs none of them: it calls
/// [`Driver::next_turn`](crate::reactor::Driver::next_turn) each time before it sleeps, nothing
/// runs between that call and the sleep, and it cannot be iterated from inside a callback.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// use entwined::reactor::{Driver, Host, Selector};
///
/// /// A loop that posts an event to itself when the reactor asks for a turn.
/// #[derive(Clone, Default)]
/// struct Events(Rc<Cell<bool>>);
///
/// impl Host for Events {
///     fn request_turn(&self) {
///         self.0.set(true);
///     }
/// }
///
/// let (selector, events) = (Rc::new(Selector::new()?), Events::default());
/// let driver = Driver::new(selector, events.clone());
/// driver.start()?;
/// let handle = driver.handle();
/// handle.call_soon({
///     let handle = handle.clone();
///     move || handle.stop()
/// });
/// // The host's loop. This one has nothing to do but the events of the reactor.
/// while events.0.take() || driver.is_running() {
///     driver.slice(driver.budget())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Host {
    /// Asks for a slice soon, because work came up on the loop's own thread.
    ///
    /// The loop may be about to sleep, so the implementation makes it come back: it posts an event
    /// to itself, or wakes itself. A loop that calls
    /// [`Driver::next_turn`](crate::reactor::Driver::next_turn) after all other code that can run
    /// before it sleeps needs to do nothing.
    ///
    /// - It is called from the host's callbacks (a button that writes to a connection), between
    ///   turns, before a run begins, and also **inside** a slice, when a callback schedules work.
    ///   Most of what is asked for inside a slice is done by the same slice. So when the event that
    ///   was posted here arrives, look at `next_turn` first, and drop the event if there is nothing
    ///   to do. The event is not useless: if the callback opens a dialog, it arrives in the
    ///   dialog's loop, and the work is done there.
    /// - It is called at most once from the beginning of one turn to that of the next, however much
    ///   work comes up.
    /// - It is **not** called for work that was queued before and that a turn leaves behind,
    ///   because its budget is used up or because one of its callbacks runs a nested loop. Only
    ///   `next_turn` tells of that work. So a backend asks `next_turn` when a slice has ended, and
    ///   also before each sleep of a nested loop, where the slice has not ended.
    /// - It must not make a turn itself.
    fn request_turn(&self);

    /// Runs one iteration of the host's loop from inside one of its callbacks, and waits for an
    /// event if `may_block`. Returns false if this loop cannot be iterated from inside. The core
    /// then makes a turn of its own, and the host's other sources wait.
    fn iterate(&self, may_block: bool) -> bool {
        let _ = may_block;
        false
    }

    /// The run is over: every shutdown phase is done, and no user code runs until the next start.
    ///
    /// Called at the end of the turn that ended the run, inside the slice, or inside
    /// [`Driver::close`](crate::reactor::Driver::close). Also called by `close` if there was no
    /// run, so it may be called twice. The implementation
    ///
    /// - stops watching the selector, or its events, which nobody fetches any more, would keep a
    ///   level-triggered loop from sleeping;
    /// - wakes the loop: somebody may wait in it for the end of the run, and nothing else may
    ///   happen any more that would return control to them. If the run ends in a nested loop, that
    ///   loop takes the wake-up. So wake the loop also when a slice returns and the run is over.
    fn ended(&self) {}
}

impl Host for () {
    fn request_turn(&self) {}
}

/// Wakes the loop from any thread. Notifications that arrive before the loop runs are merged into
/// one.
pub trait Notify: Send + Sync {
    /// Requests a turn. Never blocks. Does nothing if the loop is gone.
    fn notify(&self);
}

/// Identifies a watched source. It contains a generation, so the key of a dropped source is never
/// reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl Key {
    /// Returns the key as a number, for a backend that stores it with the operating system. Never
    /// `u64::MAX` or `u64::MAX - 1`.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// Returns the key that [`to_u64`](Key::to_u64) was called on. Any other number makes a key
    /// that matches no source, which is harmless.
    pub fn from_u64(number: u64) -> Self {
        Key(number)
    }
}

/// Reports that a source has become ready.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The source.
    pub key: Key,
    /// How it is ready.
    pub readiness: Readiness,
}

/// What the host must do next: the answer of
/// [`Driver::next_turn`](crate::reactor::Driver::next_turn).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextTurn {
    /// Make a slice as soon as the host's own work allows: something is queued, or a timer is due.
    ///
    /// The selector's fd may be readable as well, for a timer that is due or for anything else, and
    /// then the loop hears of the same work twice: from the fd, and from this answer. Make one
    /// slice in an iteration of the loop, or the second finds nothing to do. The fd alone is not
    /// enough: a turn has fetched the timer's event from it, and may then leave the timer behind.
    Now,
    /// Make a turn at this instant, or earlier if the selector has events.
    At(Instant),
    /// Make a turn when the selector has events. Outside a run, the answer is always this one, and
    /// nothing needs to be done until the next start.
    OnEvents,
}

macro_rules! bits {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(u8);

        impl $name {
            /// The empty set.
            pub const EMPTY: $name = $name(0);
            $($(#[$doc])* pub const $bit: $name = $name($value);)*

            /// Returns whether the two sets have a flag in common.
            pub fn intersects(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }

            /// Returns whether no flag is set.
            pub fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Returns the flags of `self` that are not in `other`.
            #[must_use]
            pub fn without(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }
        }

        impl BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut set = f.debug_set();
                $(if self.0 & $value == $value { set.entry(&format_args!(stringify!($bit))); })*
                set.finish()
            }
        }
    };
}

bits! {
    /// The directions of a source to watch.
    Interest {
        /// Data, a connection to accept, or the end of input.
        READABLE = 1;
        /// Room to write.
        WRITABLE = 2;
        /// Both directions.
        BOTH = 3;
    }
}

bits! {
    /// How a source is ready.
    Readiness {
        /// A read will not block.
        READABLE = 1;
        /// A write will not block.
        WRITABLE = 2;
        /// The peer has closed its sending side: end of input follows the data that is left to
        /// read.
        READ_CLOSED = 4;
        /// The peer no longer reads what is written.
        WRITE_CLOSED = 8;
        /// An error is pending: the next read or write returns it.
        ERROR = 16;
        /// Urgent data is in the queue (EPOLLPRI in epoll_ctl(2)). Only said with
        /// [`Reactor::reports_priority`].
        PRIORITY = 32;
    }
}

impl Readiness {
    /// Returns whether a read will return at once, possibly with an error or the end of input.
    pub fn is_readable(self) -> bool {
        self.intersects(Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR)
    }

    /// Returns whether a write will return at once, possibly with an error.
    pub fn is_writable(self) -> bool {
        self.intersects(Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::ERROR)
    }
}
