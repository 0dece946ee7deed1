//! What the reactor noticed about the program that runs on it: panics, stalls, failures.

use std::{error::Error, fmt, panic::Location, time::Duration};

use super::Label;

/// Where a callback comes from: what kind of work it is, and the line that registered it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// What kind of work it is.
    pub label: Label,
    /// Where it was registered or spawned.
    pub location: &'static Location<'static>,
}

impl Origin {
    /// Work of this kind, registered by the caller.
    #[track_caller]
    pub fn here(label: Label) -> Self {
        Origin {
            label,
            location: Location::caller(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.label, self.location)
    }
}

/// Something the program should know. Each one is also logged through `tracing`: a stall as a
/// warning, the others as errors. If the thread has no `tracing` subscriber, a line is written to
/// standard error instead; of stalls only the first one of each place.
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
    /// ([`Handle::set_stall_threshold`](crate::Handle::set_stall_threshold)).
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
