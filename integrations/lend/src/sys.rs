//! The pointer behind a loan: the only unsafe code of this crate.
//!
//! Loans and borrows are scopes of the stack: each is a call that leaves the place as it found it,
//! by a guard that also runs when the call unwinds. So they nest, the innermost decides what the
//! place holds, and a pointer is in it only while the call that was given the reference is on the
//! stack.

use std::{cell::Cell, ptr::NonNull};

use crate::NotLent;

pub(crate) struct Place<T> {
    state: Cell<State<T>>,
}

enum State<T> {
    /// No loan.
    Nothing,
    /// A loan, and nobody uses it. The pointer is valid, and the only way to the value, until the
    /// guard of this loan ends.
    Lent(NonNull<T>),
    /// A loan whose pointer the innermost `with` has taken.
    Borrowed,
}

impl<T> Place<T> {
    pub(crate) fn new() -> Self {
        Place {
            state: Cell::new(State::Nothing),
        }
    }

    pub(crate) fn lend<R>(&self, value: &mut T, function: impl FnOnce() -> R) -> R {
        // `value` is not used after this line, so until this call returns the pointer is the only
        // way to what it refers to.
        let _loan = self.put(State::Lent(NonNull::from(value)));
        function()
    }

    pub(crate) fn with<R>(&self, function: impl FnOnce(&mut T) -> R) -> Result<R, NotLent> {
        let pointer = match self.state.get() {
            State::Lent(pointer) => pointer,
            State::Nothing => return Err(NotLent::Nothing),
            State::Borrowed => return Err(NotLent::Borrowed),
        };
        let _borrow = self.put(State::Borrowed);
        // SAFETY: the pointer comes from a `&mut T` whose `lend` is on the stack above this call,
        // since its guard takes the pointer out. Nobody else uses it: the place holds `Borrowed`
        // until this call ends, except inside a further `lend`, which offers another pointer. (That
        // one may come from this very reference; then it is borrowed by that call.) `Place` is not
        // `Sync`, so all of this is on one thread. The reference cannot outlive the call:
        // `function` takes any lifetime.
        Ok(function(unsafe { &mut *pointer.as_ptr() }))
    }

    /// Whether `with` would work now.
    pub(crate) fn check(&self) -> Result<(), NotLent> {
        match self.state.get() {
            State::Lent(_) => Ok(()),
            State::Nothing => Err(NotLent::Nothing),
            State::Borrowed => Err(NotLent::Borrowed),
        }
    }

    fn put(&self, state: State<T>) -> Restore<'_, T> {
        Restore {
            place: self,
            before: self.state.replace(state),
        }
    }
}

/// Leaves the place as it was.
struct Restore<'a, T> {
    place: &'a Place<T>,
    before: State<T>,
}

impl<T> Drop for Restore<'_, T> {
    fn drop(&mut self) {
        self.place.state.set(self.before);
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for State<T> {}
