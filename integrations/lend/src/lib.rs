//! A mutable reference within reach of callbacks for the time of one call.
//!
//! Many loops own the program's state, or are given it for each iteration, and hand it to their
//! callbacks as `&mut State`. Callbacks that are called by somebody between (a network library,
//! say) do not get it as an argument, and to hand it through would put its type into every type on
//! the way. A [`Lent`] bridges the gap: whoever has the reference [lends](Lent::lend) it while the
//! callbacks run, and a callback [borrows](Lent::with) it through a handle that it captured.
//!
//! ```
//! use entwined_lend::Lent;
//!
//! struct State {
//!     count: u32,
//! }
//!
//! let state = Lent::<State>::new();
//! // A callback, made long before the state is there.
//! let callback = {
//!     let state = state.clone();
//!     move || state.with(|state| state.count += 1)
//! };
//!
//! let mut owned = State { count: 0 };
//! assert!(callback().is_err(), "nothing is lent yet");
//! state.lend(&mut owned, || {
//!     callback().expect("the state is lent");
//!     callback().expect("the state is lent");
//! });
//! assert_eq!(owned.count, 2);
//! ```
//!
//! Nothing here can be held across an `await`, kept beyond the loan or used twice at a time:
//! borrows are closures, and a borrow inside a borrow is refused.

mod sys;

use std::{error::Error, fmt, rc::Rc};

/// A handle on a value that somebody else owns and lends for the time of a call. Clones share the
/// loan. Bound to its thread.
pub struct Lent<T> {
    place: Rc<sys::Place<T>>,
}

impl<T> Lent<T> {
    /// A handle with nothing lent.
    pub fn new() -> Self {
        Lent {
            place: Rc::new(sys::Place::new()),
        }
    }

    /// Puts `value` within reach of [`with`](Lent::with) while `function` runs, and returns what it
    /// returns.
    ///
    /// Loans nest: one inside another, or inside a borrow, hides the outer one and gives it back at
    /// its end, also when `function` panics.
    pub fn lend<R>(&self, value: &mut T, function: impl FnOnce() -> R) -> R {
        self.place.lend(value, function)
    }

    /// Borrows what is lent while `function` runs, and returns what it returns.
    ///
    /// # Errors
    /// [`NotLent::Nothing`] outside of a [`lend`](Lent::lend); [`NotLent::Borrowed`] inside of
    /// another `with`, whose borrow is exclusive. `function` was not called then.
    pub fn with<R>(&self, function: impl FnOnce(&mut T) -> R) -> Result<R, NotLent> {
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

/// Why a value is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLent {
    /// Nobody lends it now: this runs outside of every [`Lent::lend`].
    Nothing,
    /// It is lent, but a [`Lent::with`] further up the stack has borrowed it.
    Borrowed,
}

impl fmt::Display for NotLent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotLent::Nothing => "the value is not lent at this time",
            NotLent::Borrowed => "the value is borrowed already, further up the stack",
        })
    }
}

impl Error for NotLent {}
