//! The nodes that make up a chain.
//!
//! A chain is a sequence of nodes, each with a slot for one result. The producer keeps it alive: a
//! node that has not fired holds a strong reference to whatever waits for it, while the references
//! back (for cancelling) are weak. A chain therefore lives exactly until it has fired, and no cycle
//! keeps it alive longer.
//!
//! A link needs one allocation: the node before it sees it as a [`Receive`], its own [`Deferred`]
//! sees it as a [`Node`].
//!
//! Nothing here recurses along a chain: [`run`] goes from node to node in a loop, and [`interrupt`]
//! walks back in a loop.

use std::{
    cell::{Cell, OnceCell},
    panic::Location,
    rc::{Rc, Weak},
    task::Waker,
};

use super::{ChainError, Interrupted};
use crate::{log, panic::catch};

/// A node of a chain, with its types erased.
pub(super) trait Step {
    /// Passes the result to whatever waits for it. Returns the node that fired as a consequence.
    fn advance(&self) -> Option<Rc<dyn Step>>;

    fn has_fired(&self) -> bool;

    /// Adds what this node waits for to `list`. Adds nothing if a producer fires this node.
    fn waits_for(&self, list: &mut Vec<Rc<dyn Step>>);

    /// Fires a node that waits for a producer, after calling its canceller. Returns the node if
    /// this fired it.
    fn interrupt(self: Rc<Self>, why: Interrupted) -> Option<Rc<dyn Step>>;
}

/// A node with a result of these types.
pub(super) trait Node<T, E>: Step {
    fn slot(&self) -> &Slot<T, E>;

    /// Takes back a value that nobody took before the Deferred was dropped.
    fn unclaimed(&self, value: T) {
        drop(value);
    }
}

/// A node that waits for a result of these types.
pub(super) trait Receive<T, E>: Step {
    /// Takes the result. Returns itself if that fired it.
    fn receive(self: Rc<Self>, result: Result<T, E>, quiet: bool) -> Option<Rc<dyn Step>>;
}

/// Holds a result, and what waits for it.
pub(super) struct Slot<T, E> {
    result: Cell<Option<Result<T, E>>>,
    waiter: Cell<Waiter<T, E>>,
    fired: Cell<bool>,
    /// The number of active pauses.
    pub(super) pauses: Cell<u32>,
    /// Whether a [`Deferred`] can still take the result.
    pub(super) held: Cell<bool>,
    /// Whether the error only says that the result was not wanted. Such an error is not logged.
    quiet: Cell<bool>,
    /// Where the chain was created.
    pub(super) birth: &'static Location<'static>,
}

#[derive(Default)]
pub(super) enum Waiter<T, E> {
    #[default]
    Nobody,
    /// The next link.
    Link(Rc<dyn Receive<T, E>>),
    /// A node whose callback returned this Deferred. It takes over the result.
    Outer(Rc<dyn Node<T, E>>),
    /// A combinator.
    Sink(Box<Sink<T, E>>),
    /// A task that awaits the result.
    Task(Waker),
}

/// Gets the result, and whether its error is quiet. There is none if it was taken before, or if no
/// error could be made.
pub(super) type Sink<T, E> = dyn FnOnce(Option<(Result<T, E>, bool)>) -> Option<Rc<dyn Step>>;

impl<T, E: ChainError> Slot<T, E> {
    pub(super) fn new(birth: &'static Location<'static>) -> Self {
        Slot {
            result: Cell::new(None),
            waiter: Cell::new(Waiter::Nobody),
            fired: Cell::new(false),
            pauses: Cell::new(0),
            held: Cell::new(true),
            quiet: Cell::new(false),
            birth,
        }
    }

    pub(super) fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Returns whether the result can be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.fired.get() && self.pauses.get() == 0
    }

    pub(super) fn fire(&self, result: Result<T, E>, quiet: bool) {
        self.fired.set(true);
        self.quiet.set(quiet);
        self.result.set(Some(result));
    }

    /// Fires with the reason why there is no result. The program's own code makes an error of it;
    /// if that panics there is none, and whatever waits is told that nothing comes.
    pub(super) fn fail(&self, why: Interrupted, quiet: bool) {
        match catch(|| E::from(why)) {
            Ok(error) => self.fire(Err(error), quiet),
            Err(message) => {
                let birth = self.birth;
                log::error(format_args!(
                    "making the error of a Deferred created at {birth} panicked: {message}"
                ));
                self.fired.set(true);
            }
        }
    }

    /// Takes the result and whether it is quiet. Returns `None` after the first time.
    pub(super) fn take(&self) -> Option<(Result<T, E>, bool)> {
        self.result.take().map(|result| (result, self.quiet.get()))
    }

    pub(super) fn wait(&self, waiter: Waiter<T, E>) {
        self.waiter.set(waiter);
    }

    pub(super) fn advance(&self) -> Option<Rc<dyn Step>> {
        if self.pauses.get() > 0 {
            return None;
        }
        let waiter = self.waiter.take();
        match waiter {
            Waiter::Nobody => {
                self.report_unless_held();
                None
            }
            Waiter::Task(waker) => {
                waker.wake();
                None
            }
            Waiter::Link(link) => match self.take() {
                Some((result, quiet)) => link.receive(result, quiet),
                None => link.interrupt(Interrupted::Abandoned),
            },
            Waiter::Sink(sink) => sink(self.take()),
            Waiter::Outer(node) => {
                match self.take() {
                    Some((result, quiet)) => node.slot().fire(result, quiet),
                    None => node.slot().fail(Interrupted::Abandoned, false),
                }
                Some(node)
            }
        }
    }

    /// Logs an error that nobody can take any more.
    pub(super) fn report_unless_held(&self) {
        if self.held.get() || !self.is_ready() {
            return;
        }
        match self.result.take() {
            Some(Err(error)) => self.report(&error, self.quiet.get()),
            // A value may have to go back.
            other => self.result.set(other),
        }
    }

    pub(super) fn report(&self, error: &E, quiet: bool) {
        if !quiet {
            let birth = self.birth;
            log::error(format_args!(
                "unhandled error in a Deferred created at {birth}: {error}"
            ));
        }
    }

    /// Returns whether anything will see the result.
    pub(super) fn is_wanted(&self) -> bool {
        self.held.get() || self.has_waiter()
    }

    fn has_waiter(&self) -> bool {
        let waiter = self.waiter.take();
        let some = !matches!(waiter, Waiter::Nobody);
        self.waiter.set(waiter);
        some
    }

    /// Forgets the task that awaits the result, if one does.
    pub(super) fn forget_task(&self) -> bool {
        match self.waiter.take() {
            Waiter::Task(waker) => {
                drop(waker);
                true
            }
            other => {
                self.waiter.set(other);
                false
            }
        }
    }
}

/// Runs a chain from a node that has fired, as far as possible. What panics when it is dropped on
/// the way is not for whoever has fired it, who may have others to tell.
pub(super) fn run(mut next: Option<Rc<dyn Step>>) {
    while let Some(step) = next {
        next = contained(|| {
            let next = step.advance();
            drop(step);
            next
        })
        .flatten();
    }
}

/// Calls what may drop the user's values. A panic is logged.
fn contained<R>(function: impl FnOnce() -> R) -> Option<R> {
    catch(function)
        .map_err(|message| log::error(format_args!("a Deferred's value panicked: {message}")))
        .ok()
}

/// Ends what a chain is waiting for.
pub(super) fn interrupt(step: Rc<dyn Step>, why: &Interrupted) {
    let mut list = vec![step];
    let mut circle = Circle::default();
    while let Some(step) = list.pop() {
        if step.has_fired() {
            continue;
        }
        if circle.is_closed_by(&step) {
            return;
        }
        let before = list.len();
        step.waits_for(&mut list);
        if list.len() == before {
            run(step.interrupt(why.clone()));
        }
    }
}

/// How far a callback's Deferred is followed, to see whether it waits for the callback itself. The
/// mistake is made within one chain, and few are longer.
const FOLLOWED: usize = 1_000;

/// Whether `step` waits for `end`, which has not fired.
fn leads_to(step: Rc<dyn Step>, end: *const ()) -> bool {
    let mut list = vec![step];
    for _ in 0..FOLLOWED {
        let Some(step) = list.pop() else { return false };
        if address(&step) == end {
            return true;
        }
        if !step.has_fired() {
            step.waits_for(&mut list);
        }
    }
    false
}

fn address(step: &Rc<dyn Step>) -> *const () {
    Rc::as_ptr(step).cast()
}

/// Finds out that a walk never ends, because nodes wait for each other in a circle, without keeping
/// the nodes: those that come are compared with one of those before (Brent's algorithm).
#[derive(Default)]
struct Circle {
    mark: Option<*const ()>,
    count: usize,
}

impl Circle {
    fn is_closed_by(&mut self, step: &Rc<dyn Step>) -> bool {
        let address = address(step);
        if self.mark == Some(address) {
            return true;
        }
        self.count += 1;
        if self.count.is_power_of_two() {
            self.mark = Some(address);
        }
        false
    }
}

type Canceller = Box<dyn FnOnce()>;
type Back<T> = Box<dyn FnOnce(T)>;

/// The first node of a chain. Its producer fires it, or the combinator that created it.
pub(super) struct Origin<T, E> {
    pub(super) slot: Slot<T, E>,
    pub(super) canceller: Cell<Option<Canceller>>,
    /// Gets the value if nobody has taken it.
    pub(super) back: Cell<Option<Back<T>>>,
    /// What a combinator waits for.
    pub(super) parts: OnceCell<Box<[Weak<dyn Step>]>>,
}

impl<T: 'static, E: ChainError> Origin<T, E> {
    pub(super) fn new(birth: &'static Location<'static>) -> Rc<Self> {
        Rc::new(Origin {
            slot: Slot::new(birth),
            canceller: Cell::new(None),
            back: Cell::new(None),
            parts: OnceCell::new(),
        })
    }

    /// Takes the producer's result. Returns the node if that fired it. If the node was interrupted
    /// before, the result is dropped.
    pub(super) fn settle(
        self: Rc<Self>,
        result: Result<T, E>,
        quiet: bool,
    ) -> Option<Rc<dyn Step>> {
        if self.slot.has_fired() {
            return None;
        }
        self.slot.fire(result, quiet);
        Some(self.settled())
    }

    /// As [`settle`](Origin::settle), with the reason why there is no result.
    pub(super) fn fail(self: Rc<Self>, why: Interrupted, quiet: bool) -> Option<Rc<dyn Step>> {
        if self.slot.has_fired() {
            return None;
        }
        self.slot.fail(why, quiet);
        Some(self.settled())
    }

    fn settled(self: Rc<Self>) -> Rc<dyn Step> {
        let canceller = self.canceller.take();
        contained(|| drop(canceller));
        self
    }
}

impl<T: 'static, E: ChainError> Step for Origin<T, E> {
    fn advance(&self) -> Option<Rc<dyn Step>> {
        self.slot.advance()
    }

    fn has_fired(&self) -> bool {
        self.slot.has_fired()
    }

    fn waits_for(&self, list: &mut Vec<Rc<dyn Step>>) {
        let parts = self.parts.get().into_iter().flatten();
        list.extend(
            parts
                .filter_map(Weak::upgrade)
                .filter(|part| !part.has_fired()),
        );
    }

    fn interrupt(self: Rc<Self>, why: Interrupted) -> Option<Rc<dyn Step>> {
        if let Some(canceller) = self.canceller.take() {
            if let Err(message) = catch(canceller) {
                let birth = self.slot.birth;
                log::error(format_args!(
                    "the canceller of a Deferred created at {birth} panicked: {message}"
                ));
            }
        }
        // The canceller may have made the producer fire it.
        if self.slot.has_fired() {
            return None;
        }
        let quiet = is_quiet(&why);
        self.slot.fail(why, quiet);
        Some(self)
    }
}

/// Whether it says only that the result is not wanted.
fn is_quiet(why: &Interrupted) -> bool {
    matches!(why, Interrupted::Cancelled)
}

impl<T: 'static, E: ChainError> Node<T, E> for Origin<T, E> {
    fn slot(&self) -> &Slot<T, E> {
        &self.slot
    }

    fn unclaimed(&self, value: T) {
        match self.back.take() {
            Some(back) => back(value),
            None => drop(value),
        }
    }
}

/// What a callback returned.
pub(super) enum Outcome<T: 'static, E: ChainError> {
    /// A result.
    Done(Result<T, E>),
    /// The error that came in, passed on, perhaps as another type.
    Passed(E),
    /// A result that is not available yet.
    Later(Rc<dyn Node<T, E>>),
}

/// A node with a callback: `F` computes its result from the result of the node before it.
pub(super) struct Link<F, U, V> {
    slot: Slot<U, V>,
    function: Cell<Option<F>>,
    /// The node before it; later the Deferred that the callback returned.
    waits_for: Cell<Option<Weak<dyn Step>>>,
}

impl<F, U: 'static, V: ChainError> Link<F, U, V> {
    /// Appends a link to `before`, which nothing waits for yet. If `before` has fired, the callback
    /// runs now.
    pub(super) fn behind<T, E>(before: &Rc<dyn Node<T, E>>, function: F) -> Rc<Self>
    where
        T: 'static,
        E: ChainError,
        F: FnOnce(Result<T, E>) -> Outcome<U, V> + 'static,
    {
        let slot = before.slot();
        let waits_for: Weak<dyn Step> = Rc::<dyn Node<T, E>>::downgrade(before);
        let link = Rc::new(Link {
            slot: Slot::new(slot.birth),
            function: Cell::new(Some(function)),
            waits_for: Cell::new(Some(waits_for)),
        });
        if slot.is_ready() {
            // Nothing waits for this link yet, so there is nothing to run.
            let _ = match slot.take() {
                Some((result, quiet)) => Receive::receive(link.clone(), result, quiet),
                None => link.clone().interrupt(Interrupted::Abandoned),
            };
        } else {
            slot.wait(Waiter::Link(link.clone()));
        }
        link
    }
}

impl<F: 'static, U: 'static, V: ChainError> Link<F, U, V> {
    /// Whether `inner` is this link, or waits for it.
    fn is_awaited_by(self: &Rc<Self>, inner: &Rc<dyn Node<U, V>>) -> bool {
        let own = Rc::as_ptr(self).cast();
        let inner: Rc<dyn Step> = inner.clone();
        address(&inner) == own || self.slot.has_waiter() && leads_to(inner, own)
    }
}

impl<F, T, E, U, V> Receive<T, E> for Link<F, U, V>
where
    F: FnOnce(Result<T, E>) -> Outcome<U, V> + 'static,
    U: 'static,
    V: ChainError,
{
    fn receive(self: Rc<Self>, result: Result<T, E>, quiet: bool) -> Option<Rc<dyn Step>> {
        let function = self.function.take()?;
        match catch(|| function(result)) {
            Ok(Outcome::Done(result)) => self.slot.fire(result, false),
            Ok(Outcome::Passed(error)) => self.slot.fire(Err(error), quiet),
            Ok(Outcome::Later(inner)) => {
                match inner.slot().is_ready().then(|| inner.slot().take()) {
                    Some(Some((result, quiet))) => self.slot.fire(result, quiet),
                    Some(None) => self.slot.fail(Interrupted::Abandoned, false),
                    None if self.is_awaited_by(&inner) => {
                        let why = "a callback returned a Deferred of its own chain";
                        let why = Interrupted::Panicked(why.to_owned());
                        self.slot.fail(why, false);
                    }
                    None => {
                        let step: Weak<dyn Step> = Rc::<dyn Node<U, V>>::downgrade(&inner);
                        self.waits_for.set(Some(step));
                        inner.slot().wait(Waiter::Outer(self));
                        return None;
                    }
                }
            }
            Err(message) => self.slot.fail(Interrupted::Panicked(message), false),
        }
        Some(self)
    }
}

impl<F: 'static, U: 'static, V: ChainError> Step for Link<F, U, V> {
    fn advance(&self) -> Option<Rc<dyn Step>> {
        self.slot.advance()
    }

    fn has_fired(&self) -> bool {
        self.slot.has_fired()
    }

    fn waits_for(&self, list: &mut Vec<Rc<dyn Step>>) {
        let before = self.waits_for.take();
        list.extend(before.as_ref().and_then(Weak::upgrade));
        self.waits_for.set(before);
    }

    fn interrupt(self: Rc<Self>, why: Interrupted) -> Option<Rc<dyn Step>> {
        let quiet = is_quiet(&why);
        self.slot.fail(why, quiet);
        Some(self)
    }
}

impl<F: 'static, U: 'static, V: ChainError> Node<U, V> for Link<F, U, V> {
    fn slot(&self) -> &Slot<U, V> {
        &self.slot
    }
}
