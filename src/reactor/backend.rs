//! What a backend implements.

use std::{
    fmt, io,
    ops::BitOr,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

/// A source of readiness and time, and a way to be called by the loop that owns the thread.
///
/// A backend lends the core its loop; everything else (timers, queues, tasks, budgets, streams) is
/// the core's and the same on every backend. A loop that can watch one file descriptor embeds a
/// [`Selector`](crate::reactor::Selector) and passes the first six methods on to it. The core calls
/// these methods from the loop's thread only, never from inside `select`, and holds no borrow of
/// its own while it does.
pub trait Reactor {
    /// Starts to report the readiness of `fd` under `key`.
    ///
    /// Reports are edges: the core remembers a direction as ready until the source has said
    /// [`WouldBlock`](io::ErrorKind::WouldBlock), and then calls [`rearm`](Reactor::rearm). The
    /// same fd is never watched twice at a time by the core; a key is never used again.
    ///
    /// # Errors
    /// What the operating system says: a bad fd, a kind of file that cannot be watched, a limit.
    fn watch(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()>;

    /// The directions in `interest` would block: report them when they are ready again.
    ///
    /// An edge-triggered backend has nothing to do. A level-triggered one suspends a direction when
    /// it reports it, and resumes it here.
    fn rearm(&self, fd: BorrowedFd<'_>, key: Key, interest: Interest) -> io::Result<()> {
        let _ = (fd, key, interest);
        Ok(())
    }

    /// Stops reporting `fd`. Events that were already taken are harmless: the core drops those with
    /// a stale key.
    fn unwatch(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()>;

    /// Appends what has become ready to `events`, after waiting for at most `timeout` (for ever
    /// with `None`) or until the deadline or the notifier. An interrupted wait (`EINTR`) is an
    /// empty one, not an error. With a zero timeout it never waits.
    fn select(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Asks for a turn at `deadline`, by the backend's [clock](Reactor::now), or for none at a
    /// certain time. Replaces the one asked for before. As precise as the backend can; never early
    /// by more than its clock's resolution.
    fn set_deadline(&self, deadline: Option<Instant>);

    /// The means by which other threads ask for a turn. Called once, when the reactor is made.
    fn notifier(&self) -> Arc<dyn Notify>;

    /// The clock that timers go by. Monotonic.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Work came up on the loop's own thread: a turn is wanted soon.
    ///
    /// Called at most once a turn. A backend whose loop asks
    /// [`Driver::next_turn`](crate::reactor::Driver::next_turn) each time before it sleeps has
    /// nothing to do here; any other makes its loop call for a turn, for example by its own
    /// notifier.
    fn request_turn(&self);

    /// Makes one iteration of the host's loop from inside one of its callbacks; waits for an event
    /// if `may_block`. False when this loop cannot be iterated from inside: then the core makes a
    /// turn of its own, and the host's other sources wait.
    fn iterate(&self, may_block: bool) -> bool {
        let _ = may_block;
        false
    }

    /// The run is over: every shutdown phase is done and nothing of the user's will be called until
    /// the next start.
    fn ended(&self) {}
}

/// Wakes the loop from any thread. Many notices before the loop gets to run count as one.
pub trait Notify: Send + Sync {
    /// Asks for a turn. Never blocks; does nothing when the loop is gone.
    fn notify(&self);
}

/// Names a watched source. It carries a generation: the key of a source that is gone is never given
/// to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl Key {
    /// The key as a number, for a backend that stores it with the operating system. Never
    /// `u64::MAX` or `u64::MAX - 1`.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The key that [`to_u64`](Key::to_u64) gave. Any other number makes a key that names nothing,
    /// which is harmless.
    pub fn from_u64(number: u64) -> Self {
        Key(number)
    }
}

/// A source has become ready.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Which source.
    pub key: Key,
    /// In which ways.
    pub readiness: Readiness,
}

/// What the host must do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextTurn {
    /// Make another turn as soon as its own work allows: something is queued.
    Now,
    /// Make one at this instant, or earlier if the selector has events.
    At(Instant),
    /// Make one when the selector has events.
    OnEvents,
}

macro_rules! bits {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(u8);

        impl $name {
            /// Nothing.
            pub const EMPTY: $name = $name(0);
            $($(#[$doc])* pub const $bit: $name = $name($value);)*

            /// Whether any of `other` is in it.
            pub fn intersects(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }

            /// Whether nothing is in it.
            pub fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// What is in this and not in `other`.
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
    /// Which directions of a source are wanted.
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
    /// In which ways a source is ready.
    Readiness {
        /// A read will not block.
        READABLE = 1;
        /// A write will not block.
        WRITABLE = 2;
        /// The peer has ended its direction: after what is left to read comes the end of input.
        READ_CLOSED = 4;
        /// Nobody reads what is written any more.
        WRITE_CLOSED = 8;
        /// There is an error to be fetched by the next read or write.
        ERROR = 16;
    }
}

impl Readiness {
    /// Whether a read will return at once, be it with an error or the end of input.
    pub fn is_readable(self) -> bool {
        self.intersects(Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR)
    }

    /// Whether a write will return at once, be it with an error.
    pub fn is_writable(self) -> bool {
        self.intersects(Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::ERROR)
    }
}
