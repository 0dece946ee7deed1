//! Combines several Deferreds into one.

use std::{
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::Rc,
};

use super::{
    Canceller, ChainError, Deferred, Interrupted,
    node::{self, Origin, Step},
};

/// Waits for all values and returns them in the order of `deferreds`. An empty input fires at once
/// with an empty list. The first error ends the wait; the other results are then dropped.
/// Cancelling the returned Deferred cancels all of them.
#[track_caller]
pub fn all<T: 'static, E: ChainError>(
    deferreds: impl IntoIterator<Item = Deferred<T, E>>,
) -> Deferred<Vec<T>, E> {
    collect(deferreds.into_iter().collect(), false, Location::caller())
}

/// Like [`all`], but the first error also cancels the Deferreds that have not fired yet.
#[track_caller]
pub fn all_or_cancel<T: 'static, E: ChainError>(
    deferreds: impl IntoIterator<Item = Deferred<T, E>>,
) -> Deferred<Vec<T>, E> {
    collect(deferreds.into_iter().collect(), true, Location::caller())
}

fn collect<T: 'static, E: ChainError>(
    deferreds: Vec<Deferred<T, E>>,
    cancel: bool,
    birth: &'static Location<'static>,
) -> Deferred<Vec<T>, E> {
    let origin = Origin::new(birth);
    let deferred = Deferred::of(origin.clone());
    let count = deferreds.len();
    let group = Group::new(origin, deferreds.iter().map(Deferred::canceller).collect());
    if count == 0 {
        node::run(group.settle(Ok(Vec::new()), false));
        return deferred;
    }
    let values = Rc::new(RefCell::new(
        (0..count).map(|_| None).collect::<Vec<Option<T>>>(),
    ));
    let left = Rc::new(Cell::new(count));
    for (index, part) in deferreds.into_iter().enumerate() {
        let (group, values, left) = (group.clone(), values.clone(), left.clone());
        part.finish(Box::new(move |result| match result {
            None => group.miss(cancel),
            Some((Err(error), quiet)) => group.fail(error, cancel, quiet),
            Some((Ok(value), _)) => {
                values.borrow_mut()[index] = Some(value);
                left.set(left.get() - 1);
                if left.get() > 0 {
                    return None;
                }
                group.settle(Ok(values.take().into_iter().flatten().collect()), false)
            }
        }));
    }
    deferred
}

/// Returns the first value and its index in `deferreds`, and cancels the others. Cancelling the
/// returned Deferred cancels all of them.
///
/// # Errors
/// [`RaceError::AllFailed`] with all errors, in order, if none succeeds; [`RaceError::Empty`], at
/// once, if `deferreds` is empty.
#[track_caller]
pub fn race<T: 'static, E: ChainError>(
    deferreds: impl IntoIterator<Item = Deferred<T, E>>,
) -> Deferred<(usize, T), RaceError<E>> {
    let pass_on = |index, value| (index, value);
    first(deferreds, Location::caller(), pass_on, |(_, value)| value)
}

/// Returns the first value as `make` has it. `value_of` is the way back, for a value that nobody
/// takes.
fn first<T: 'static, V: 'static, E: ChainError>(
    deferreds: impl IntoIterator<Item = Deferred<T, E>>,
    birth: &'static Location<'static>,
    make: fn(usize, T) -> V,
    value_of: fn(V) -> T,
) -> Deferred<V, RaceError<E>> {
    let deferreds: Vec<_> = deferreds.into_iter().collect();
    let origin = Origin::new(birth);
    let deferred = Deferred::of(origin.clone());
    let count = deferreds.len();
    let group = Group::new(origin, deferreds.iter().map(Deferred::canceller).collect());
    if count == 0 {
        node::run(group.settle(Err(RaceError::Empty), false));
        return deferred;
    }
    let errors = Rc::new(RefCell::new(
        (0..count).map(|_| None).collect::<Vec<Option<E>>>(),
    ));
    let left = Rc::new(Cell::new(count));
    // Whether all errors so far say only that the value is not wanted.
    let all_quiet = Rc::new(Cell::new(true));
    for (index, part) in deferreds.into_iter().enumerate() {
        if group.is_settled() {
            // A value that was lent goes back.
            part.forgo();
            continue;
        }
        let (group, errors, left) = (group.clone(), errors.clone(), left.clone());
        let all_quiet = all_quiet.clone();
        let taker = part.taker();
        part.finish(Box::new(move |result| match result {
            Some((Ok(value), _)) => {
                let node = taker.upgrade();
                if group.is_settled() {
                    // It lost, but has a value after all.
                    if let Some(node) = node {
                        node.unclaimed(value);
                    }
                    return None;
                }
                if let Some(node) = node {
                    let back = move |value| node.unclaimed(value_of(value));
                    group.origin.back.set(Some(Box::new(back)));
                }
                let next = group.settle(Ok(make(index, value)), false);
                if next.is_some() {
                    group.cancel();
                }
                next
            }
            failed => {
                let (error, quiet) = match failed {
                    Some((Err(error), quiet)) => (Some(error), quiet),
                    _ => (None, false),
                };
                errors.borrow_mut()[index] = error;
                all_quiet.set(all_quiet.get() && quiet);
                left.set(left.get() - 1);
                if left.get() > 0 {
                    return None;
                }
                let all = errors.take().into_iter().flatten().collect();
                group.settle(Err(RaceError::AllFailed(all)), all_quiet.get())
            }
        }));
    }
    deferred
}

/// Returns the first value; see [`race`].
///
/// # Errors
/// See [`race`].
#[track_caller]
pub fn any<T: 'static, E: ChainError>(
    deferreds: impl IntoIterator<Item = Deferred<T, E>>,
) -> Deferred<T, RaceError<E>> {
    first(
        deferreds,
        Location::caller(),
        |_, value| value,
        |value| value,
    )
}

/// Why a race has no winner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RaceError<E> {
    /// There were no Deferreds.
    Empty,
    /// All of them failed. Contains their errors, in order.
    AllFailed(Vec<E>),
    /// The race itself was interrupted.
    Interrupted(Interrupted),
}

impl<E> From<Interrupted> for RaceError<E> {
    fn from(why: Interrupted) -> Self {
        RaceError::Interrupted(why)
    }
}

impl<E: fmt::Display> fmt::Display for RaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RaceError::Empty => f.write_str("there was nothing to wait for"),
            RaceError::Interrupted(why) => why.fmt(f),
            RaceError::AllFailed(errors) => {
                f.write_str("all failed: ")?;
                for (index, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for RaceError<E> {}

/// The node of a combinator, and the means to cancel its parts.
struct Group<T, E> {
    origin: Rc<Origin<T, E>>,
    parts: RefCell<Vec<Canceller>>,
}

impl<T: 'static, E: ChainError> Group<T, E> {
    fn new(origin: Rc<Origin<T, E>>, parts: Vec<Canceller>) -> Rc<Self> {
        let set = origin
            .parts
            .set(parts.iter().map(Canceller::step).collect());
        debug_assert!(set.is_ok(), "an origin has one group");
        Rc::new(Group {
            origin,
            parts: RefCell::new(parts),
        })
    }

    fn is_settled(&self) -> bool {
        self.origin.has_fired()
    }

    fn settle(&self, result: Result<T, E>, quiet: bool) -> Option<Rc<dyn Step>> {
        self.origin.clone().settle(result, quiet)
    }

    fn fail(&self, error: E, cancel: bool, quiet: bool) -> Option<Rc<dyn Step>> {
        let next = self.settle(Err(error), quiet);
        if cancel && next.is_some() {
            self.cancel();
        }
        next
    }

    /// A part has no result, not even an error.
    fn miss(&self, cancel: bool) -> Option<Rc<dyn Step>> {
        let next = self.origin.clone().fail(Interrupted::Abandoned, false);
        if cancel && next.is_some() {
            self.cancel();
        }
        next
    }

    fn cancel(&self) {
        for part in self.parts.take() {
            part.cancel();
        }
    }
}

/// A tuple of Deferreds with values of different types; see [`gather`].
pub trait Gather<E> {
    /// The tuple of their values.
    type Values: 'static;

    /// See [`gather`].
    fn gather(self, birth: &'static Location<'static>) -> Deferred<Self::Values, E>
    where
        E: ChainError;
}

/// Waits for a tuple of two to six Deferreds and returns their values as a tuple. The first error
/// ends the wait, as in [`all`].
///
/// ```
/// use entwined::deferred::{Deferred, gather};
///
/// let (name, sent_name) = {
///     let (resolver, deferred) = Deferred::<&str>::new();
///     (deferred, resolver)
/// };
/// let both = gather((name, Deferred::<u32>::ready(Ok(7))));
/// sent_name.resolve("seven");
/// assert_eq!(both.take().unwrap().unwrap(), ("seven", 7));
/// ```
#[track_caller]
pub fn gather<G: Gather<E>, E: ChainError>(deferreds: G) -> Deferred<G::Values, E> {
    deferreds.gather(Location::caller())
}

macro_rules! tuple {
    ($($part:ident: $type:ident),*) => {
        impl<E: ChainError, $($type: 'static),*> Gather<E> for ($(Deferred<$type, E>,)*) {
            type Values = ($($type,)*);

            fn gather(self, birth: &'static Location<'static>) -> Deferred<Self::Values, E> {
                let ($($part,)*) = self;
                let origin = Origin::new(birth);
                let deferred = Deferred::of(origin.clone());
                let group = Group::new(origin, vec![$($part.canceller()),*]);
                struct Values<$($type),*> { $($part: Cell<Option<$type>>),* }
                let values = Rc::new(Values { $($part: Cell::new(None)),* });
                let left = Rc::new(Cell::new([$(stringify!($part)),*].len()));
                let finish: Rc<dyn Fn() -> Option<Rc<dyn Step>>> = Rc::new({
                    let (group, values) = (group.clone(), values.clone());
                    move || {
                        let all = || Some(($(values.$part.take()?,)*));
                        group.settle(Ok(all()?), false)
                    }
                });
                $({
                    let (group, values) = (group.clone(), values.clone());
                    let (left, finish) = (left.clone(), finish.clone());
                    $part.finish(Box::new(move |result| match result {
                        None => group.miss(false),
                        Some((Err(error), quiet)) => group.fail(error, false, quiet),
                        Some((Ok(value), _)) => {
                            values.$part.set(Some(value));
                            left.set(left.get() - 1);
                            if left.get() == 0 { finish() } else { None }
                        }
                    }));
                })*
                deferred
            }
        }
    };
}

tuple!(a: A, b: B);
tuple!(a: A, b: B, c: C);
tuple!(a: A, b: B, c: C, d: D);
tuple!(a: A, b: B, c: C, d: D, f: F);
tuple!(a: A, b: B, c: C, d: D, f: F, g: G);
