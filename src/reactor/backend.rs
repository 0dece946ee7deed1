//! The trait that a backend implements, and its types.

use std::{
    fmt, io,
    ops::BitOr,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

/// A backend: reports readiness, keeps time, and gets its turns from the loop that owns the thread.
///
/// A backend lends its loop to the core. Everything else (timers, queues, tasks, budgets, streams)
/// belongs to the core and is the same on every backend. A loop that can watch one file descriptor
/// embeds a [`Selector`](crate::reactor::Selector) and forwards the first six methods to it. The
/// core calls these methods only on the loop's thread, never from inside `select`, and without
/// holding a borrow of its own.
pub trait Reactor {
    /// Starts to report the readiness of `fd` under `key`.
    ///
    /// Reports are edges: the core treats a direction as ready until the source returns
    /// [`WouldBlock`](io::ErrorKind::WouldBlock), and then calls [`rearm`](Reactor::rearm). The
    /// core never watches the same fd twice at the same time, and never reuses a key.
    ///
    /// # Errors
    /// The operating system's error: a bad fd, a kind of file that cannot be watched, or a limit.
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()>;

    /// Reports the directions in `interest` again when they are next ready. They would block now.
    ///
    /// An edge-triggered backend does nothing here. A level-triggered backend suspends a direction
    /// when it reports it, and resumes it here.
    fn rearm(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let _ = (fd, key, interest);
        Ok(())
    }

    /// Stops reporting `fd`. Events that were already fetched are harmless: the core drops events
    /// with a stale key.
    fn unwatch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()>;

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

    /// The clock that timers use. It is monotonic.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Requests a turn soon, because work came up on the loop's own thread.
    ///
    /// Called at most once per turn. A backend whose loop calls
    /// [`Driver::next_turn`](crate::reactor::Driver::next_turn) each time before it sleeps has
    /// nothing to do here. Any other backend makes its loop start a turn, for example through its
    /// own notifier.
    fn request_turn(&self);

    /// Runs one iteration of the host's loop from inside one of its callbacks, and waits for an
    /// event if `may_block`. Returns false if this loop cannot be iterated from inside. The core
    /// then makes a turn of its own, and the host's other sources wait.
    fn iterate(&self, may_block: bool) -> bool {
        let _ = may_block;
        false
    }

    /// Called when the run is over: every shutdown phase is done, and no user code runs until the
    /// next start.
    fn ended(&self) {}
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

/// What the host must do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextTurn {
    /// Make another turn as soon as the host's own work allows: something is queued.
    Now,
    /// Make a turn at this instant, or earlier if the selector has events.
    At(Instant),
    /// Make a turn when the selector has events.
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
