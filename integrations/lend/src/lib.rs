//! Lends a mutable reference to callbacks for the duration of one call.
//!
//! Many loops own the program's state, or receive it for each iteration, and pass it to their
//! callbacks as `&mut State`. If there is a layer in between (a network library, for example), its
//! callbacks do not get the state as an argument; passing it through would put its type into every
//! type on the way. A [`Lent`] bridges the gap: the code that has the reference [lends](Lent::lend)
//! it while the callbacks run, and a callback [borrows](Lent::with) it through a handle that it
//! captured.
//!
//! ```
//! use entwined_lend::Lent;
//!
//! struct State {
//!     count: u32,
//! }
//!
//! let state = Lent::<State>::new();
//! // A callback, created long before the state exists.
//! let callback = {
//!     let state = state.clone();
//!     move || state.with(|state| state.count += 1)
//! };
//!
//! let mut owned = State { count: 0 };
//! assert!(state.try_with(|_| ()).is_err(), "nothing is lent yet");
//! state.lend(&mut owned, || {
//!     callback();
//!     callback();
//! });
//! assert_eq!(owned.count, 2);
//! ```
//!
//! Code that switches stacks, such as a coroutine crate, must not do so inside a loan or a borrow.
//! If that makes one end before another inside of it, the process is aborted.
//!
//! A borrow cannot be held across an `await`, kept after the loan ends, or made twice at a time:
//! borrows are closures, and a borrow inside a borrow is refused.
#![warn(missing_debug_implementations)]

mod sys;

use std::{error::Error, fmt, rc::Rc};

/// A handle to a value that other code owns and lends for the duration of a call. Clones share the
/// loan. Bound to its thread.
pub struct Lent<T> {
    place: Rc<sys::Place<T>>,
}

impl<T> Lent<T> {
    /// Creates a handle with nothing lent.
    pub fn new() -> Self {
        Lent {
            place: Rc::new(sys::Place::new()),
        }
    }

    /// Makes `value` available to [`with`](Lent::with) while `function` runs, and returns what
    /// `function` returns.
    ///
    /// Loans nest: a loan inside another loan, or inside a borrow, hides the outer value and
    /// restores it at the end, even if `function` panics.
    pub fn lend<R>(&self, value: &mut T, function: impl FnOnce() -> R) -> R {
        self.place.lend(value, function)
    }

    /// Borrows the lent value while `function` runs, and returns what `function` returns.
    ///
    /// # Panics
    /// If the value is not lent, or is borrowed further up the stack; see
    /// [`try_with`](Lent::try_with).
    #[track_caller]
    pub fn with<R>(&self, function: impl FnOnce(&mut T) -> R) -> R {
        match self.try_with(function) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Like [`with`](Lent::with), but returns an error where that panics.
    ///
    /// # Errors
    /// Returns [`NotLent::Nothing`] outside a [`lend`](Lent::lend), and [`NotLent::Borrowed`]
    /// inside another borrow, which is exclusive. `function` is not called in either case.
    pub fn try_with<R>(&self, function: impl FnOnce(&mut T) -> R) -> Result<R, NotLent> {
        self.place.with(function)
    }
}

impl<T> Clone for Lent<T> {
    fn clone(&self) -> Self {
        Lent {
            place: self.place.clone(),
        }
    }
}

impl<T> Default for Lent<T> {
    fn default() -> Self {
        Lent::new()
    }
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.place.check() {
            Ok(()) => "lent",
            Err(NotLent::Nothing) => "nothing lent",
            Err(NotLent::Borrowed) => "lent and borrowed",
        };
        f.debug_tuple("Lent")
            .field(&format_args!("{state}"))
            .finish()
    }
}

/// Why a value cannot be borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLent {
    /// The value is not lent: the call is outside every [`Lent::lend`].
    Nothing,
    /// The value is lent, but a [`Lent::with`] further up the stack has borrowed it.
    Borrowed,
}

impl fmt::Display for NotLent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotLent::Nothing => "the value is not lent at the moment",
            NotLent::Borrowed => "the value is already borrowed further up the stack",
        })
    }
}

impl Error for NotLent {}
