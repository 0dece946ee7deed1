//! The [`Deferred`] type and [`Resolver`], its producing end.

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
    ChainError, Interrupted,
    node::{self, Link, Node, Origin, Step, Waiter},
};
use crate::share;

/// A result that is not available yet: a `T` or an `E`.
///
/// # Callbacks
///
/// Each `add_…` method consumes the Deferred and returns a new one for the callback's result. A
/// chain therefore reads from left to right and has a single reader. A callback returns a `Result`
/// or another Deferred; in the second case the chain waits for that Deferred. An error skips to the
/// next errback. A Deferred of the callback's own chain, which would wait for itself, is taken for
/// a panic.
///
/// Callbacks run as soon as the result is available: inside [`Resolver::resolve`], or inside
/// `add_…` if the chain has already fired. They run one after another, never nested, however
/// long the chain is. If a callback panics, the chain continues with the error
/// [`Interrupted::Panicked`].
///
/// # Unhandled errors
///
/// If a chain was dropped and ends in an error, the error is logged through `tracing`, once, with
/// the line that created the Deferred. If the thread has no `tracing` subscriber, it is written to
/// standard error. A producer that is dropped when nothing waits any more is no error.
///
/// # Cancelling
///
/// [`cancel`](Deferred::cancel) ends whatever the chain is waiting for at that moment.
///
/// # Dropping
///
/// Dropping a Deferred that is not awaited does not cancel it: the work goes on, and its callbacks
/// still run. So a Deferred that nothing else needs can be dropped at once.
///
/// Dropping one that is being awaited cancels it, as dropping any other future does: a task, a
/// [timeout](crate::Handle::timeout) or a handler that is dropped ends what it waited for. To stop
/// waiting without that, await `&mut deferred`.
pub struct Deferred<T, E: ChainError = Box<dyn Error>>
where
    T: 'static,
{
    /// `None` once the Deferred is consumed.
    node: Option<Rc<dyn Node<T, E>>>,
}

impl<T: 'static, E: ChainError> Deferred<T, E> {
    /// Creates a Deferred and its producing end.
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

    /// Like [`new`](Deferred::new), with a function that is called once if the Deferred is
    /// cancelled. It should stop the work that would produce the result. It may resolve the
    /// Deferred itself; otherwise the chain gets the error.
    #[track_caller]
    pub fn with_canceller(canceller: impl FnOnce() + 'static) -> (Resolver<T, E>, Self) {
        let (resolver, deferred) = Deferred::born(Location::caller());
        resolver.set_canceller(canceller);
        (resolver, deferred)
    }

    /// Creates a Deferred that has already fired.
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
            .expect("the node is present until the Deferred is consumed")
    }

    /// Returns the node, for code that takes the Deferred's place.
    pub(super) fn into_node(mut self) -> Rc<dyn Node<T, E>> {
        self.node
            .take()
            .expect("the node is present until the Deferred is consumed")
    }

    fn link<U: 'static, V: ChainError>(
        self,
        function: impl FnOnce(Result<T, E>) -> Outcome<U, V> + 'static,
    ) -> Deferred<U, V> {
        Deferred::of(Link::behind(&self.into_node(), |result| function(result).0))
    }

    /// Calls `callback` with the value. An error is passed on.
    pub fn add_callback<R>(self, callback: impl FnOnce(T) -> R + 'static) -> Deferred<R::Value, E>
    where
        R: IntoOutcome<Error = E>,
    {
        self.link(|result| match result {
            Ok(value) => callback(value).into_outcome(),
            Err(error) => Outcome(node::Outcome::Passed(error)),
        })
    }

    /// Calls `errback` with the error. A value is passed on. If `errback` returns a value, the
    /// value replaces the error; if it returns an error, that error may be of another type.
    pub fn add_errback<R>(self, errback: impl FnOnce(E) -> R + 'static) -> Deferred<T, R::Error>
    where
        R: IntoOutcome<Value = T>,
    {
        self.link(|result| match result {
            Ok(value) => Outcome(node::Outcome::Done(Ok(value))),
            Err(error) => errback(error).into_outcome(),
        })
    }

    /// Calls `callback` with the value or `errback` with the error. Neither sees the other's
    /// result.
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

    /// Calls `callback` with the result, whether it is a value or an error.
    pub fn add_both<R: IntoOutcome>(
        self,
        callback: impl FnOnce(Result<T, E>) -> R + 'static,
    ) -> Deferred<R::Value, R::Error> {
        self.link(|result| callback(result).into_outcome())
    }

    /// Converts the value with `function`.
    pub fn map<U: 'static>(self, function: impl FnOnce(T) -> U + 'static) -> Deferred<U, E> {
        self.add_callback(|value| Ok(function(value)))
    }

    /// Converts the error with `function`.
    pub fn map_err<F: ChainError>(self, function: impl FnOnce(E) -> F + 'static) -> Deferred<T, F> {
        self.link(|result| {
            Outcome(match result {
                Ok(value) => node::Outcome::Done(Ok(value)),
                Err(error) => node::Outcome::Passed(function(error)),
            })
        })
    }

    /// Calls `function` when it has fired, and passes the result on.
    pub(crate) fn finally(self, function: impl FnOnce() + 'static) -> Self {
        self.link(|result| {
            function();
            Outcome(match result {
                Ok(value) => node::Outcome::Done(Ok(value)),
                Err(error) => node::Outcome::Passed(error),
            })
        })
    }

    /// Replaces the value by this result, and converts an error.
    pub(crate) fn and_then<U: 'static, F: ChainError + From<E>>(
        self,
        function: impl FnOnce(T) -> Result<U, F> + 'static,
    ) -> Deferred<U, F> {
        self.link(|result| {
            Outcome(match result {
                Ok(value) => node::Outcome::Done(function(value)),
                Err(error) => node::Outcome::Passed(error.into()),
            })
        })
    }

    /// Returns whether the result is available.
    pub fn is_ready(&self) -> bool {
        self.node().slot().is_ready()
    }

    /// Takes the result if it is available.
    ///
    /// # Errors
    /// Returns the Deferred if the result is not available yet.
    pub fn take(mut self) -> Result<Result<T, E>, Self> {
        let slot = self.node().slot();
        match slot.is_ready().then(|| slot.take()).flatten() {
            Some((result, _)) => {
                // Leaves nothing for `drop` to check.
                self.node = None;
                Ok(result)
            }
            None => Err(self),
        }
    }

    /// Ends what the chain is waiting for: the Deferred that a callback returned, or the producer,
    /// whose canceller is called once. Whatever waits for it gets the error
    /// [`Interrupted::Cancelled`], and the callbacks run before this returns. A result that arrives
    /// later is dropped. Does nothing if the chain has fired. A panic of the canceller is logged.
    pub fn cancel(&self) {
        self.canceller().cancel();
    }

    /// Returns a handle that can cancel the chain while the Deferred itself is elsewhere. The
    /// handle keeps nothing alive.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            step: Rc::<dyn Node<T, E>>::downgrade(self.node()),
        }
    }

    /// Holds back the result for as long as the [`Pause`] lives. Pauses may overlap.
    pub fn pause(&self) -> Pause<T, E> {
        let node = self.node().clone();
        let pauses = &node.slot().pauses;
        pauses.set(pauses.get() + 1);
        Pause { node }
    }

    /// Drops this as if its value had not been asked for. Its error is not reported.
    pub(super) fn forgo(self) {
        let node = self.into_node();
        let slot = node.slot();
        slot.held.set(false);
        if let Some((Ok(value), _)) = slot.is_ready().then(|| slot.take()).flatten() {
            node.unclaimed(value);
        }
    }

    /// Where its value goes if nobody takes it, as long as it is there.
    pub(super) fn taker(&self) -> Weak<dyn Node<T, E>> {
        Rc::downgrade(self.node())
    }

    /// Passes the result to `sink`, now or later.
    pub(super) fn finish(self, sink: Box<node::Sink<T, E>>) {
        let node = self.into_node();
        let slot = node.slot();
        if slot.is_ready() {
            node::run(sink(slot.take()));
        } else {
            slot.wait(Waiter::Sink(sink));
        }
    }
}

impl<T: 'static, E: ChainError> Drop for Deferred<T, E> {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        let slot = node.slot();
        let awaited = slot.forget_task();
        if awaited && !slot.is_ready() {
            node::interrupt(node.clone(), &Interrupted::Cancelled);
            // The error says only what this drop has done.
            if let Some((Ok(value), _)) = slot.is_ready().then(|| slot.take()).flatten() {
                node.unclaimed(value);
            }
        }
        slot.held.set(false);
        match slot.is_ready().then(|| slot.take()).flatten() {
            Some((Ok(value), _)) => node.unclaimed(value),
            Some((Err(error), quiet)) => slot.report(&error, quiet),
            None => {}
        }
    }
}

impl<T: 'static, E: ChainError> Future for Deferred<T, E> {
    type Output = Result<T, E>;

    /// A result costs a task a unit of its budget ([`Handle::spend`](crate::Handle::spend)), so
    /// that a loop that never has to wait gives way to other tasks.
    ///
    /// # Panics
    /// If it is polled again after the result was taken.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self.node().slot();
        if !slot.is_ready() {
            slot.wait(Waiter::Task(cx.waker().clone()));
            return Poll::Pending;
        }
        if !share::spend(1) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (result, _) = slot
            .take()
            .expect("a future is not polled after it completes");
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
    /// `None` once it has fired.
    origin: Option<Rc<Origin<T, E>>>,
}

impl<T: 'static, E: ChainError> Resolver<T, E> {
    /// Fires the Deferred with a value. The callbacks run before this returns. The value is dropped
    /// if the Deferred was cancelled.
    pub fn resolve(self, value: T) {
        self.settle(Ok(value));
    }

    /// Fires the Deferred with an error; see [`resolve`](Resolver::resolve).
    pub fn reject(self, error: E) {
        self.settle(Err(error));
    }

    /// Fires the Deferred with a value or an error; see [`resolve`](Resolver::resolve).
    pub fn settle(mut self, result: Result<T, E>) {
        if let Some(origin) = self.origin.take() {
            node::run(origin.settle(result, false));
        }
    }

    /// Fires the Deferred with the reason why there is no result. If nobody handles it, it is not
    /// logged.
    pub(crate) fn interrupt(mut self, why: Interrupted) {
        if let Some(origin) = self.origin.take() {
            node::run(origin.fail(why, true));
        }
    }

    /// Returns whether anything will see the result: the Deferred still exists, or has callbacks.
    /// Check this before you pass on something of which there is only one, such as a place in a
    /// queue. Work with effects of its own asks [`is_cancelled`](Resolver::is_cancelled) instead.
    pub fn is_wanted(&self) -> bool {
        self.origin
            .as_ref()
            .is_some_and(|origin| !origin.slot.has_fired() && origin.slot.is_wanted())
    }

    /// Fires the Deferred with a value. If it is dropped before anybody has taken the value, `back`
    /// gets it.
    pub(super) fn lend(self, value: T, back: impl FnOnce(T) + 'static) {
        if let Some(origin) = &self.origin {
            origin.back.set(Some(Box::new(back)));
        }
        self.resolve(value);
    }

    /// Returns whether the Deferred was cancelled, so that a result would be dropped. Check this to
    /// stop the work early.
    pub fn is_cancelled(&self) -> bool {
        self.origin
            .as_ref()
            .is_none_or(|origin| origin.slot.has_fired())
    }

    /// Sets the function to call if the Deferred is cancelled. It replaces the previous one.
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
        // Nobody hears of the end of what nobody waits for.
        let quiet = !self.is_wanted();
        if let Some(origin) = self.origin.take() {
            node::run(origin.fail(Interrupted::Abandoned, quiet));
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

/// What a callback may return: a `Result` or a [`Deferred`].
pub trait IntoOutcome {
    /// The type of the value.
    type Value: 'static;
    /// The type of the error.
    type Error: ChainError;

    /// Converts it to an [`Outcome`].
    fn into_outcome(self) -> Outcome<Self::Value, Self::Error>;
}

/// What a callback returned. Made by [`IntoOutcome::into_outcome`].
pub struct Outcome<T: 'static, E: ChainError>(node::Outcome<T, E>);

impl<T: 'static, E: ChainError> fmt::Debug for Outcome<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            node::Outcome::Done(_) | node::Outcome::Passed(_) => "Outcome(now)",
            node::Outcome::Later(_) => "Outcome(later)",
        })
    }
}

impl<T: 'static, E: ChainError> IntoOutcome for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T, E> {
        Outcome(node::Outcome::Done(self))
    }
}

impl<T: 'static, E: ChainError> IntoOutcome for Deferred<T, E> {
    type Value = T;
    type Error = E;

    fn into_outcome(self) -> Outcome<T, E> {
        Outcome(node::Outcome::Later(self.into_node()))
    }
}

/// Cancels a chain. Created by [`Deferred::canceller`].
#[derive(Clone)]
pub struct Canceller {
    step: Weak<dyn Step>,
}

impl Canceller {
    /// See [`Deferred::cancel`].
    pub fn cancel(&self) {
        self.interrupt(&Interrupted::Cancelled);
    }

    /// Like [`cancel`](Canceller::cancel), with another reason.
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

/// Holds back a result. Created by [`Deferred::pause`]. Dropping it resumes the chain before the
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
            if !slot.is_wanted() {
                // Its Deferred was dropped meanwhile.
                if let Some((Ok(value), _)) = slot.take() {
                    self.node.unclaimed(value);
                }
            }
        }
    }
}

impl<T: 'static, E: ChainError> fmt::Debug for Pause<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

const _: () = assert!(mem::size_of::<Deferred<u8, String>>() == 2 * mem::size_of::<usize>());
