//! What the reactor noticed about the program that runs on it: panics, stalls, failures, and figures.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    panic::Location,
    rc::{Rc, Weak},
    time::Duration,
};

/// What kind of callback it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// One poll of a connection's HTTP exchange, its handlers included.
    Http,
    /// A step of the shutdown.
    Shutdown,
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
            Kind::Call => "call",
            Kind::Timer => "timer",
            Kind::Task => "task",
            Kind::Connection => "connection",
            Kind::Http => "http connection",
            Kind::Shutdown => "shutdown step",
        };
        write!(f, "{kind} from {}", self.location)
    }
}

/// Something the program should know. Each is also logged through `tracing`, as an error or (a stall) as a warning.
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
    /// A callback held the thread for longer than the threshold ([`Handle::set_stall_threshold`](super::Handle::set_stall_threshold)).
    Stall {
        /// Which.
        origin: Origin,
        /// For how long.
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
                write!(f, "a {origin} held the thread for {:.1} ms", duration.as_secs_f64() * 1e3)
            }
            Report::Failure { origin, error } => write!(f, "a {origin} failed: {error}"),
        }
    }
}

/// Figures since the reactor was made.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns made.
    pub turns: u64,
    /// Calls, timers and task polls run.
    pub callbacks: u64,
    /// The longest callback, without those that spun the host's loop.
    pub longest_callback: Option<(Duration, Origin)>,
    /// Sources watched at present.
    pub sources: usize,
    /// Timers pending at present.
    pub timers: usize,
    /// Tasks alive at present.
    pub tasks: usize,
}

type ObserverFn = dyn Fn(&Report<'_>);

/// Keeps a function that [`Handle::observe`](super::Handle::observe) was given; dropping it ends the observation.
#[must_use = "dropping it ends the observation"]
pub struct Observer {
    _function: Rc<ObserverFn>,
}

/// Counts, times and reports.
pub(crate) struct Meter {
    pub(crate) callbacks: Cell<u64>,
    pub(crate) longest: Cell<Option<(Duration, Origin)>>,
    pub(crate) threshold: Cell<Duration>,
    observers: RefCell<Vec<Weak<ObserverFn>>>,
}

/// From this on a callback is a stall: half a frame at 60 Hz.
const STALL: Duration = Duration::from_millis(8);

impl Default for Meter {
    fn default() -> Self {
        Meter {
            callbacks: Cell::new(0),
            longest: Cell::new(None),
            threshold: Cell::new(STALL),
            observers: RefCell::default(),
        }
    }
}

impl Meter {
    pub(crate) fn observe(&self, function: Rc<ObserverFn>) -> Observer {
        self.observers.borrow_mut().push(Rc::downgrade(&function));
        Observer { _function: function }
    }

    pub(crate) fn record(&self, origin: Origin, duration: Duration) {
        if self.longest.get().is_none_or(|(longest, _)| duration > longest) {
            self.longest.set(Some((duration, origin)));
        }
        if duration >= self.threshold.get() {
            self.report(&Report::Stall { origin, duration });
        }
    }

    pub(crate) fn report(&self, report: &Report<'_>) {
        match report {
            Report::Stall { .. } => tracing::warn!("{report}"),
            _ => tracing::error!("{report}"),
        }
        let observers: Vec<_> = {
            let mut observers = self.observers.borrow_mut();
            observers.retain(|observer| observer.strong_count() > 0);
            observers.iter().filter_map(Weak::upgrade).collect()
        };
        for observer in observers {
            observer(report);
        }
    }
}
