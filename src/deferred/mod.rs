//! Results that have not come yet.
//!
//! A [`Deferred`] stands for a value of type `T` or an error of type `E` that a producer will give
//! once, through its [`Resolver`]. What is to be done with it is said beforehand, as a chain of
//! callbacks; or it is awaited, since it is a future too. This module knows no reactor and no
//! thread: a Deferred fires when its producer says so, on the thread that made it.
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

pub use chain::{Canceller, Deferred, IntoOutcome, Pause, Resolver};
pub use combine::{Gather, RaceError, all, all_or_cancel, any, gather, race};
pub use node::Outcome;
pub use sync::{DeferredLock, DeferredQueue, DeferredSemaphore, Full, Permit};

use std::{any::Any, fmt};

use crate::panic::panic_message;

/// Why a chain has no result of its producer.
///
/// Every error type of a chain can be made from it: `Box<dyn Error>` and `String` can already, one
/// of your own by `impl From<Interrupted>`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupted {
    /// It was cancelled.
    Cancelled,
    /// A time limit passed.
    TimedOut,
    /// The producer was dropped without a result.
    Abandoned,
    /// Whoever should have produced it had no room for the work.
    Refused,
    /// A callback, a task or a job on a thread panicked, with this message.
    Panicked(String),
}

impl Interrupted {
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        Interrupted::Panicked(panic_message(panic))
    }
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

impl From<Interrupted> for String {
    fn from(why: Interrupted) -> Self {
        why.to_string()
    }
}

/// What the error of a chain has to be: able to say that there was no result, and to be shown.
/// Implemented for every such type.
pub trait ChainError: From<Interrupted> + fmt::Display + 'static {}

impl<E: From<Interrupted> + fmt::Display + 'static> ChainError for E {}
