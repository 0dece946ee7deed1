//! What the reactor noticed about the program that runs on it: panics, stalls, failures.

use std::{error::Error, fmt, panic::Location, rc::Rc, time::Duration};

/// What kind of callback it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A call: posted by another thread or asked for soon.
    Call,
    /// A timer.
    Timer,
    /// One poll of a task.
    Task,
    /// Something of a connection: a callback of its protocol.
    Connection,
    /// One poll of a connection's HTTP exchange, or what is around all handlers; without the
    /// handlers.
    Http,
    /// A handler of HTTP requests: its call, or one poll of its future. It runs within another
    /// callback, and is timed for itself.
    Handler,
    /// A step of the shutdown.
    Shutdown,
}

impl Kind {
    pub(crate) const COUNT: usize = Kind::ALL.len();

    /// Each of them.
    pub const ALL: [Kind; 7] = [
        Kind::Call,
        Kind::Timer,
        Kind::Task,
        Kind::Connection,
        Kind::Http,
        Kind::Handler,
        Kind::Shutdown,
    ];

    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Timer => "timer",
            Kind::Task => "task",
            Kind::Connection => "connection",
            Kind::Http => "http",
            Kind::Handler => "handler",
            Kind::Shutdown => "shutdown",
        }
    }
}

/// Where a callback comes from: what it is and the line that registered it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// What it is.
    pub kind: Kind,
    /// Where it was registered or spawned.
    pub location: &'static Location<'static>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Http => "http connection",
            Kind::Shutdown => "shutdown step",
            kind => kind.name(),
        };
        write!(f, "{kind} from {}", self.location)
    }
}

/// Something the program should know. Each is also logged through `tracing`, as an error or (a
/// stall) as a warning.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// A callback panicked. It was ended; the reactor and the others go on.
    Panic {
        /// Which.
        origin: Origin,
        /// What it said.
        message: &'a str,
    },
    /// A callback held the thread for longer than the threshold
    /// ([`Handle::set_stall_threshold`](super::Handle::set_stall_threshold)).
    Stall {
        /// Which.
        origin: Origin,
        /// For how long, without what the thread waited meanwhile for a processor.
        duration: Duration,
    },
    /// Something that nobody waits for failed.
    Failure {
        /// What.
        origin: Origin,
        /// How.
        error: &'a (dyn Error + 'static),
    },
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Panic { origin, message } => write!(f, "a {origin} panicked: {message}"),
            Report::Stall { origin, duration } => {
                write!(
                    f,
                    "a {origin} held the thread for {:.1} ms",
                    duration.as_secs_f64() * 1e3
                )
            }
            Report::Failure { origin, error } => write!(f, "a {origin} failed: {error}"),
        }
    }
}

pub(crate) type ObserverFn = dyn Fn(&Report<'_>);

/// Keeps a function that [`Handle::observe`](super::Handle::observe) was given; dropping it ends
/// the observation.
#[must_use = "dropping it ends the observation"]
pub struct Observer {
    _function: Rc<ObserverFn>,
}

impl Observer {
    pub(crate) fn new(function: Rc<ObserverFn>) -> Self {
        Observer {
            _function: function,
        }
    }
}
