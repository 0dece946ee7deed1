//! Results that are not available yet.
//!
//! A [`Deferred`] stands for a value of type `T` or an error of type `E` that a producer delivers
//! once, through its [`Resolver`]. Attach a chain of callbacks to it, or await it: it is also a
//! future. This module does not depend on a reactor or on threads. A Deferred fires when its
//! producer says so, on the thread that created it.
//!
//! ```
//! use entwined::deferred::Deferred;
//!
//! let (resolver, text) = Deferred::<String>::new();
//! let number = text
//!     .add_callback(|text| Ok(text.trim().parse::<i32>()?))
//!     .add_errback(|error| {
//!         eprintln!("{error}; taking 0");
//!         Ok::<_, Box<dyn std::error::Error>>(0)
//!     })
//!     .map(|number| number * 2);
//!
//! resolver.resolve(" 21 ".to_owned());
//! assert_eq!(number.take().unwrap().unwrap(), 42);
//! ```

mod chain;
mod combine;
mod node;
mod sync;

pub use chain::{Canceller, Deferred, IntoOutcome, Outcome, Pause, Resolver};
pub use combine::{Gather, RaceError, all, all_or_cancel, any, gather, race};
pub use sync::{DeferredLock, DeferredQueue, DeferredSemaphore, Full, SemaphorePermit};

use std::{fmt, io};

/// Why a chain did not get a result from its producer.
///
/// The error type of every chain must be convertible from this type. `Box<dyn Error>`,
/// [`io::Error`] and `String` are; for your own type, implement `From<Interrupted>`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupted {
    /// The Deferred was cancelled.
    Cancelled,
    /// A timeout expired.
    TimedOut,
    /// The producer was dropped without a result.
    Abandoned,
    /// The producer refused the work because it had no room for it.
    Refused,
    /// A callback, a task or a job on a thread panicked with this message.
    Panicked(String),
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interrupted::Cancelled => f.write_str("it was cancelled"),
            Interrupted::TimedOut => f.write_str("the time limit passed"),
            Interrupted::Abandoned => f.write_str("its producer was dropped without a result"),
            Interrupted::Refused => f.write_str("there was no room for it"),
            Interrupted::Panicked(message) => write!(f, "it panicked: {message}"),
        }
    }
}

impl std::error::Error for Interrupted {}

/// A timeout becomes [`TimedOut`](io::ErrorKind::TimedOut), a refusal
/// [`WouldBlock`](io::ErrorKind::WouldBlock), and the rest [`Other`](io::ErrorKind::Other).
impl From<Interrupted> for io::Error {
    fn from(why: Interrupted) -> Self {
        let kind = match why {
            Interrupted::TimedOut => io::ErrorKind::TimedOut,
            Interrupted::Refused => io::ErrorKind::WouldBlock,
            // `ErrorKind::Interrupted` asks the caller to try again, which would be wrong here.
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, why)
    }
}

impl From<Interrupted> for String {
    fn from(why: Interrupted) -> Self {
        why.to_string()
    }
}

/// The requirements for the error type of a chain: it can be created from [`Interrupted`], and it
/// can be displayed. Implemented for every such type.
pub trait ChainError: From<Interrupted> + fmt::Display + 'static {}

impl<E: From<Interrupted> + fmt::Display + 'static> ChainError for E {}
