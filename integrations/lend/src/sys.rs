//! The pointer behind a loan: the only unsafe code of this crate.
//!
//! Loans and borrows are scopes of the stack. Each is a call that restores the place when it ends,
//! through a guard that also runs if the call unwinds. So they nest, the innermost one decides what
//! the place holds, and a pointer is stored only while the call that received the reference is on
//! the stack.

use std::{cell::Cell, ptr::NonNull};

use crate::NotLent;

pub(crate) struct Place<T> {
    state: Cell<State<T>>,
}

enum State<T> {
    /// Nothing is lent.
    Nothing,
    /// A value is lent and not borrowed. The pointer is valid, and is the only way to reach the
    /// value, until the guard of this loan ends.
    Lent(NonNull<T>),
    /// A value is lent, and the innermost `with` has taken its pointer.
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
        // way to reach the value.
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
        // because its guard takes the pointer out. Nothing else uses it: the place holds `Borrowed`
        // until this call ends, except inside a further `lend`, which offers another pointer. (That
        // pointer may derive from this very reference; then that call has reborrowed it.) `Place`
        // is not `Sync`, so all of this happens on one thread. The reference cannot outlive the
        // call, because `function` accepts any lifetime.
        Ok(function(unsafe { &mut *pointer.as_ptr() }))
    }

    /// Checks whether `with` would work now.
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

/// Restores the place to its earlier state.
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
