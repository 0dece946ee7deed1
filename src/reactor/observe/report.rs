//! What the reactor reports about the program that runs on it: panics, stalls, failures.

use std::{error::Error, fmt, panic::Location, time::Duration};

use super::Label;

/// Where a callback comes from: its kind of work, and the line that registered it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The kind of work.
    pub label: Label,
    /// Where the callback was registered or spawned.
    pub location: &'static Location<'static>,
}

impl Origin {
    /// The origin of work of this kind that the caller registers.
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

/// Something that the program should know. Each report is also logged through `tracing`: a stall as
/// a warning, the others as errors. If the thread has no `tracing` subscriber, a line is written to
/// standard error instead; for stalls, only the first one of each origin.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// A callback panicked. Only that callback ended; the reactor and everything else continue.
    Panic {
        /// The callback.
        origin: Origin,
        /// The panic message.
        message: &'a str,
    },
    /// A callback held the thread for longer than the threshold
    /// ([`Handle::set_stall_threshold`](crate::Handle::set_stall_threshold)).
    Stall {
        /// The callback.
        origin: Origin,
        /// How long it took, not counting the time that the thread waited for a processor.
        duration: Duration,
    },
    /// Work failed, and nothing waits for its result.
    Failure {
        /// The work.
        origin: Origin,
        /// The error.
        error: &'a (dyn Error + 'static),
    },
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Panic { origin, message } => write!(f, "{origin} panicked: {message}"),
            Report::Stall { origin, duration } => {
                write!(
                    f,
                    "{origin} held the thread for {:.1} ms",
                    duration.as_secs_f64() * 1e3
                )
            }
            Report::Failure { origin, error } => write!(f, "{origin} failed: {error}"),
        }
    }
}

pub(crate) type ObserverFn = dyn Fn(&Report<'_>);
