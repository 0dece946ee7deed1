//! The pointer behind a loan: the only unsafe code of this crate.
//!
//! Loans and borrows are scopes of the stack. Each is a call that restores the place when it ends,
//! through a guard that also runs if the call unwinds. So they nest, the innermost one decides what
//! the place holds, and a pointer is stored only while the call that received the reference is on
//! the stack.
//!
//! A thread can have several stacks: a coroutine crate may switch to another one inside a loan, all
//! in safe code. Then scopes may end in another order than the reverse of their beginnings. Each
//! guard checks that, and ends the process if it is so.

use std::{
    cell::Cell,
    io::{self, Write},
    ptr::NonNull,
};

use crate::NotLent;

pub(crate) struct Place<T> {
    state: Cell<State<T>>,
    /// How many loans and borrows there are.
    depth: Cell<usize>,
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
            depth: Cell::new(0),
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
        let depth = self.depth.get() + 1;
        self.depth.set(depth);
        Restore {
            place: self,
            before: self.state.replace(state),
            depth,
        }
    }
}

/// Restores the place to its earlier state.
struct Restore<'a, T> {
    place: &'a Place<T>,
    before: State<T>,
    depth: usize,
}

impl<T> Drop for Restore<'_, T> {
    fn drop(&mut self) {
        if self.place.depth.get() != self.depth {
            // Going on would leave a pointer to a value whose loan has ended, or two references to
            // one value. A panic could be caught, also that of `eprintln` where nobody reads.
            let _ = io::stderr().write_all(
                b"entwined-lend: a loan or a borrow ended before one inside of it; they cannot be \
                 held across a switch of coroutines\n",
            );
            std::process::abort();
        }
        self.place.depth.set(self.depth - 1);
        self.place.state.set(self.before);
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for State<T> {}

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::OwnedFd,
            unix::{net::UnixStream, process::ExitStatusExt},
        },
        process::{Command, Stdio},
    };

    use super::*;

    /// What a coroutine crate can do in safe code: end the scopes of two stacks in any order.
    #[test]
    fn scopes_that_end_in_another_order_end_the_process() {
        const SIGABRT: i32 = 6;
        const VARIABLE: &str = "ENTWINED_TEST_SCOPES";
        if let Some(which) = std::env::var_os(VARIABLE) {
            let place = Place::<u8>::new();
            let (mut one, mut two) = (1, 2);
            let outer = place.put(State::Lent(NonNull::from(&mut one)));
            let inner = match which.to_str() {
                Some("lend") => place.put(State::Lent(NonNull::from(&mut two))),
                _ => place.put(State::Borrowed),
            };
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(outer)));
            drop(inner);
            return;
        }
        // Nobody reads what the process says in the second case: saying it fails.
        for which in ["lend", "borrow"] {
            let (_, unread) = UnixStream::pair().expect("two ends");
            for stderr in [Stdio::null(), OwnedFd::from(unread).into()] {
                let status = Command::new(std::env::current_exe().expect("this test"))
                    .args([
                        "--exact",
                        "sys::tests::scopes_that_end_in_another_order_end_the_process",
                        "--nocapture",
                    ])
                    .env(VARIABLE, which)
                    .stdout(Stdio::null())
                    .stderr(stderr)
                    .status()
                    .expect("it starts");
                assert_eq!(status.signal(), Some(SIGABRT), "{which}: {status}");
            }
        }
    }

    #[test]
    fn scopes_that_nest_are_counted_also_when_they_unwind() {
        let place = Place::new();
        let mut value = 1;
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            place.lend(&mut value, || place.with(|_| panic!("inside")))
        }));
        assert!(unwound.is_err());
        assert_eq!(place.depth.get(), 0);
        assert_eq!(place.with(|value: &mut i32| *value), Err(NotLent::Nothing));
    }
}
