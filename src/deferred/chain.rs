//! Deferreds and their producing end.

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    panic::Location,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use super::{
    ChainError, Interrupted, Outcome,
    node::{self, Link, Node, Origin, Step, Waiter},
};

/// A result that has not come yet: a `T`, or an `E`.
///
/// # Callbacks
///
/// Each `add_…` method takes the Deferred and gives one for the callback's result, so a chain is
/// written from left to right and has one reader. A callback returns a `Result`, or another
/// Deferred whose result the chain then waits for. An error skips to the next errback.
///
/// Callbacks run as soon as the result is there: within [`Resolver::resolve`], or within `add_…` if
/// the chain has fired already. They run one after the other and never inside each other, however
/// long the chain is. A callback that panics gives the error [`Interrupted::Panicked`].
///
/// # Errors that nobody handles
///
/// An error at the end of a chain that was dropped is reported through `tracing`, once, with the
/// line where the Deferred was made.
///
/// # Cancelling
///
/// [`cancel`](Deferred::cancel) ends what the chain waits for at the time. To drop a Deferred does
/// not cancel it: its callbacks still run.
#[must_use = "an error that nobody handles is only reported; say that this is meant with `detach`"]
pub struct Deferred<T, E: ChainError = Box<dyn Error>>
where
    T: 'static,
{
    /// There until the Deferred is used up.
    node: Option<Rc<dyn Node<T, E>>>,
}

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// A Deferred and its producing end.
    #[track_caller]
    pub fn new() -> (Resolver<T, E>, Self) {
        Deferred::born(Location::caller())
    }

    pub(crate) fn born(birth: &'static Location<'static>) -> (Resolver<T, E>, Self) {
        let origin = Origin::new(birth);
        (
            Resolver {
                origin: Some(origin.clone()),
            },
            Deferred::of(origin),
        )
    }

    /// As [`new`](Deferred::new), with a function that is called, once, when the Deferred is
    /// cancelled: to stop what would give the result. It may resolve the Deferred itself; otherwise
    /// the chain gets the error.
    #[track_caller]
    pub fn with_canceller(canceller: impl FnOnce() + 'static) -> (Resolver<T, E>, Self) {
        let (resolver, deferred) = Deferred::born(Location::caller());
        resolver.set_canceller(canceller);
        (resolver, deferred)
    }

    /// A Deferred that has fired.
    #[track_caller]
    pub fn ready(result: Result<T, E>) -> Self {
        let origin = Origin::new(Location::caller());
        let _ = origin.clone().settle(result, false);
        Deferred::of(origin)
    }

    pub(super) fn of(node: Rc<dyn Node<T, E>>) -> Self {
        Deferred { node: Some(node) }
    }

    fn node(&self) -> &Rc<dyn Node<T, E>> {
        self.node
            .as_ref()
            .expect("it is there until the Deferred is used up")
    }

    /// The node, for whoever takes the Deferred's place.
    pub(super) fn into_node(mut self) -> Rc<dyn Node<T, E>> {
        self.node
            .take()
            .expect("it is there until the Deferred is used up")
    }

    fn link<U: 'static, V: ChainError>(
        self,
        function: impl FnOnce(Result<T, E>) -> Outcome<U, V> + 'static,
    ) -> Deferred<U, V> {
        Deferred::of(Link::behind(&self.into_node(), function))
    }

    /// Calls `callback` with a value; an error passes by.
    pub fn add_callback<R>(self, callback: impl FnOnce(T) -> R + 'static) -> Deferred<R::Value, E>
    where
        R: IntoOutcome<Error = E>,
    {
        self.link(|result| match result {
            Ok(value) => callback(value).into_outcome(),
            Err(error) => Outcome::Passed(error),
        })
    }

    /// Calls `errback` with an error; a value passes by. The value that it gives, if any, takes the
    /// error's place; its error may be of another type.
    pub fn add_errback<R>(self, errback: impl FnOnce(E) -> R + 'static) -> Deferred<T, R::Error>
    where
        R: IntoOutcome<Value = T>,
    {
        self.link(|result| match result {
            Ok(value) => Outcome::Done(Ok(value)),
            Err(error) => errback(error).into_outcome(),
        })
    }

    /// Calls one of two functions: neither hears of what the other returns.
    pub fn add_callbacks<R, S>(
        self,
        callback: impl FnOnce(T) -> R + 'static,
        errback: impl FnOnce(E) -> S + 'static,
    ) -> Deferred<R::Value, R::Error>
    where
        R: IntoOutcome,
        S: IntoOutcome<Value = R::Value, Error = R::Error>,
    {
        self.link(|result| match result {
            Ok(value) => callback(value).into_outcome(),
            Err(error) => errback(error).into_outcome(),
        })
    }

    /// Calls `callback` with either.
    pub fn add_both<R: IntoOutcome>(
        self,
        callback: impl FnOnce(Result<T, E>) -> R + 'static,
    ) -> Deferred<R::Value, R::Error> {
        self.link(|result| callback(result).into_outcome())
    }

    /// Makes another value of the value.
    pub fn map<U: 'static>(self, function: impl FnOnce(T) -> U + 'static) -> Deferred<U, E> {
        self.add_callback(|value| Ok(function(value)))
    }

    /// Makes another error of the error.
    pub fn map_err<F: ChainError>(self, function: impl FnOnce(E) -> F + 'static) -> Deferred<T, F> {
        self.add_errback(|error| Err(function(error)))
    }

    /// Lets the chain go on by itself. An error at its end is reported.
    pub fn detach(self) {}

    /// Whether the result is there.
    pub fn is_ready(&self) -> bool {
        self.node().slot().is_ready()
    }

    /// The result, if it is there.
    ///
    /// # Errors
    /// Gives the Deferred back when it is not.
    pub fn take(mut self) -> Result<Result<T, E>, Self> {
        let slot = self.node().slot();
        match slot.is_ready().then(|| slot.take()).flatten() {
            Some((result, _)) => {
                // So nothing is left for `drop` to look after.
                self.node = None;
                Ok(result)
            }
            None => Err(self),
        }
    }

    /// Ends what the chain waits for: the Deferred that a callback returned, or the producer, whose
    /// canceller is called once. What waits for it gets the error [`Interrupted::Cancelled`], and
    /// its callbacks run before this returns. A result that comes later is dropped. Does nothing
    /// when the chain has fired.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    /// A handle to cancel the chain with, when the Deferred itself is elsewhere. It keeps nothing
    /// alive.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            step: Rc::<dyn Node<T, E>>::downgrade(self.node()),
        }
    }

    /// Holds the result back as long as the [`Pause`] lives. Pauses may overlap.
    pub fn pause(&self) -> Pause<T, E> {
        let node = self.node().clone();
        let pauses = &node.slot().pauses;
        pauses.set(pauses.get() + 1);
        Pause { node }
    }

    /// Has `sink` take the result, now or later.
    pub(super) fn finish(self, sink: Box<node::Sink<T, E>>) {
        let node = self.into_node();
        let slot = node.slot();
        match slot.is_ready().then(|| slot.take()).flatten() {
            Some((result, _)) => node::run(sink(result)),
            None => slot.wait(Waiter::Sink(sink)),
        }
    }
}

impl<T: 'static, E: ChainError> Drop for Deferred<T, E> {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let slot = node.slot();
            slot.held.set(false);
            slot.report_unless_held();
        }
    }
}

impl<T: 'static, E: ChainError> Future for Deferred<T, E> {
    type Output = Result<T, E>;

    /// # Panics
    /// When it is polled again after its result was taken.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self.node().slot();
        if !slot.is_ready() {
            slot.wait(Waiter::Task(cx.waker().clone()));
            return Poll::Pending;
        }
        let (result, _) = slot.take().expect("a future is not polled after its end");
        Poll::Ready(result)
    }
}

impl<T: 'static, E: ChainError> From<Result<T, E>> for Deferred<T, E> {
    #[track_caller]
    fn from(result: Result<T, E>) -> Self {
        Deferred::ready(result)
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Deferred<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.node().slot();
        f.debug_struct("Deferred")
            .field("made_at", &format_args!("{}", slot.birth))
            .field("fired", &slot.has_fired())
            .field("pauses", &slot.pauses.get())
            .finish()
    }
}

/// The producing end of a [`Deferred`]. Dropping it without a result fires the Deferred with
/// [`Interrupted::Abandoned`].
pub struct Resolver<T: 'static, E: ChainError = Box<dyn Error>> {
    /// There until it has fired.
    origin: Option<Rc<Origin<T, E>>>,
}

impl<T: 'static, E: ChainError> Resolver<T, E> {
    /// Gives the value; the callbacks run before this returns. Dropped when the Deferred was
    /// cancelled.
    pub fn resolve(self, value: T) {
        self.settle(Ok(value));
    }

    /// Gives the error; see [`resolve`](Resolver::resolve).
    pub fn reject(self, error: E) {
        self.settle(Err(error));
    }

    /// Gives the one or the other; see [`resolve`](Resolver::resolve).
    pub fn settle(mut self, result: Result<T, E>) {
        if let Some(origin) = self.origin.take() {
            node::run(origin.settle(result, false));
        }
    }

    /// Says why there will be no result. Nobody is told of it who does not wait.
    pub(crate) fn interrupt(mut self, why: Interrupted) {
        if let Some(origin) = self.origin.take() {
            node::run(origin.settle(Err(why.into()), true));
        }
    }

    /// Whether a result would be dropped, since the Deferred was cancelled: a reason to stop
    /// working on it.
    pub fn is_cancelled(&self) -> bool {
        self.origin
            .as_ref()
            .is_none_or(|origin| origin.slot.has_fired())
    }

    /// Has `canceller` called when the Deferred is cancelled, in place of one that was there
    /// before.
    pub fn set_canceller(&self, canceller: impl FnOnce() + 'static) {
        if let Some(origin) = self
            .origin
            .as_ref()
            .filter(|origin| !origin.slot.has_fired())
        {
            drop(origin.canceller.replace(Some(Box::new(canceller))));
        }
    }
}

impl<T: 'static, E: ChainError> Drop for Resolver<T, E> {
    fn drop(&mut self) {
        if let Some(origin) = self.origin.take() {
            node::run(origin.settle(Err(Interrupted::Abandoned.into()), false));
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Resolver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

/// What a callback may return: a `Result`, or a [`Deferred`].
pub trait IntoOutcome {
    /// The type of the value.
    type Value: 'static;
    /// The type of the error.
    type Error: ChainError;

    /// What it came to.
    fn into_outcome(self) -> Outcome<Self::Value, Self::Error>;
}

impl<T: 'static, E: ChainError> IntoOutcome for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T, E> {
        Outcome::Done(self)
    }
}

impl<T: 'static, E: ChainError> IntoOutcome for Deferred<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T, E> {
        Outcome::Later(self)
    }
}

/// Cancels a chain. Made by [`Deferred::canceller`].
#[derive(Clone)]
pub struct Canceller {
    step: Weak<dyn Step>,
}

impl Canceller {
    /// See [`Deferred::cancel`].
    pub fn cancel(&self) {
        self.interrupt(&Interrupted::Cancelled);
    }

    /// As [`cancel`](Canceller::cancel), with another reason.
    pub fn interrupt(&self, why: &Interrupted) {
        if let Some(step) = self.step.upgrade() {
            node::interrupt(step, why);
        }
    }

    pub(super) fn step(&self) -> Weak<dyn Step> {
        self.step.clone()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canceller")
    }
}

/// Holds a result back. Made by [`Deferred::pause`]; dropping it lets the chain go on, before the
/// drop returns.
#[must_use = "dropping it ends the pause"]
pub struct Pause<T: 'static, E: ChainError> {
    node: Rc<dyn Node<T, E>>,
}

impl<T: 'static, E: ChainError> Drop for Pause<T, E> {
    fn drop(&mut self) {
        let slot = self.node.slot();
        slot.pauses.set(slot.pauses.get() - 1);
        if slot.is_ready() {
            node::run(Some(self.node.clone()));
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Pause<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

const _: () = assert!(mem::size_of::<Deferred<u8, String>>() == 2 * mem::size_of::<usize>());
