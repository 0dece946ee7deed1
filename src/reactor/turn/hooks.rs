//! Functions that run in each turn, and at the end of turns.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::{Rc, Weak},
};

use super::{Core, Handle};
use crate::reactor::observe::{Label, ObserverFn, Origin};

/// A function, and where it was registered.
struct Hook {
    function: Weak<dyn Fn()>,
    origin: Origin,
}

/// The functions that run in each turn.
#[derive(Default)]
pub(super) struct TurnHooks {
    hooks: RefCell<Vec<Hook>>,
    /// The functions that stay for good.
    kept: RefCell<Vec<Kept>>,
}

type Kept = (Rc<dyn Fn()>, Origin);

/// A function that was passed to [`Handle::on_turn`](super::Handle::on_turn). Dropping this ends
/// the calls.
#[must_use = "dropping it ends the calls; use `keep` to let them continue"]
pub struct TurnHook {
    function: Rc<dyn Fn()>,
    origin: Origin,
    core: Weak<Core>,
}

impl TurnHook {
    #[track_caller]
    pub(super) fn new(core: &Rc<Core>, function: Rc<dyn Fn()>) -> Self {
        let origin = Origin::here(Label::CALL);
        let mut hooks = core.hooks.hooks.borrow_mut();
        // Those that are gone make room, also between turns.
        if hooks.len() == hooks.capacity() {
            hooks.retain(|hook| hook.function.strong_count() > 0);
        }
        hooks.push(Hook {
            function: Rc::downgrade(&function),
            origin,
        });
        drop(hooks);
        TurnHook {
            function,
            origin,
            core: Rc::downgrade(core),
        }
    }

    /// Lets the calls continue for as long as the reactor exists.
    pub fn keep(self) {
        if let Some(core) = self.core.upgrade().filter(|core| !core.is_closed()) {
            let kept = (self.function, self.origin);
            core.hooks.kept.borrow_mut().push(kept);
        }
    }
}

impl fmt::Debug for TurnHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnHook").finish_non_exhaustive()
    }
}

/// A function that was passed to [`Handle::observe`](super::Handle::observe). Dropping this ends
/// the observation.
#[must_use = "dropping it ends the observation; use `keep` to let it continue"]
pub struct Observer {
    function: Rc<ObserverFn>,
    core: Weak<Core>,
}

impl Observer {
    pub(super) fn new(core: &Rc<Core>, function: Rc<ObserverFn>) -> Self {
        core.meter.observe(&function);
        Observer {
            function,
            core: Rc::downgrade(core),
        }
    }

    /// Lets the observation continue for as long as the reactor exists.
    pub fn keep(self) {
        if let Some(core) = self.core.upgrade().filter(|core| !core.is_closed()) {
            core.kept_observers.borrow_mut().push(self.function);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// The functions that run at the end of turns that request them.
#[derive(Default)]
pub(super) struct EndHooks {
    /// The requested functions, each listed once, in order and with their numbers.
    wanted: RefCell<VecDeque<(u64, Rc<EndHook>)>>,
    /// The number of the next request.
    next: Cell<u64>,
    /// Whether one of them should run before the turn ends.
    urgent: Cell<bool>,
}

struct EndHook {
    function: Box<dyn Fn(&Handle)>,
    origin: Origin,
    wanted: Cell<bool>,
}

impl EndHooks {
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent.get()
    }

    fn push(&self, hook: Rc<EndHook>) {
        let number = self.next.get();
        self.next.set(number + 1);
        self.wanted.borrow_mut().push_back((number, hook));
    }

    /// Takes the first one that was requested before the request of this number.
    fn pop(&self, before: u64) -> Option<Rc<EndHook>> {
        let mut wanted = self.wanted.borrow_mut();
        let is_earlier = wanted.front().is_some_and(|(number, _)| *number < before);
        let (_, hook) = is_earlier.then(|| wanted.pop_front()).flatten()?;
        Some(hook)
    }
}

/// A function that runs at the end of the turns that request it. Made by
/// [`Handle::on_turn_end`](super::Handle::on_turn_end).
///
/// It is for work that is cheaper in a batch, such as sending the output of many connections.
/// Dropping this drops the function and cancels a pending request.
#[must_use = "dropping it drops the function"]
pub struct TurnEnd {
    core: Weak<Core>,
    hook: Rc<EndHook>,
}

impl TurnEnd {
    pub(super) fn new(core: Weak<Core>, origin: Origin, function: Box<dyn Fn(&Handle)>) -> Self {
        let hook = Rc::new(EndHook {
            function,
            origin,
            wanted: Cell::new(false),
        });
        TurnEnd { core, hook }
    }

    /// Requests a call at the end of this turn, or of the next turn if none is running. Further
    /// requests before that call have no effect.
    pub fn request(&self) {
        if self.hook.wanted.get() {
            return;
        }
        if let Some(core) = self.core.upgrade() {
            if !core.life.is_closed() {
                self.hook.wanted.set(true);
                core.ends.push(self.hook.clone());
                core.request_turn();
            }
        }
    }

    /// Requests a call as soon as the running callback returns. This bounds the work that collects
    /// until the end of the turn.
    pub fn request_now(&self) {
        self.request();
        if let Some(core) = self.core.upgrade() {
            core.ends.urgent.set(core.ends.is_wanted());
        }
    }
}

impl Drop for TurnEnd {
    fn drop(&mut self) {
        self.hook.wanted.set(false);
        if let Some(core) = self.core.upgrade() {
            let mut wanted = core.ends.wanted.borrow_mut();
            wanted.retain(|(_, hook)| !Rc::ptr_eq(hook, &self.hook));
        }
    }
}

impl fmt::Debug for TurnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnEnd")
            .field("requested", &self.hook.wanted.get())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Runs the turn hooks, at the end of step 1.
    pub(super) fn run_hooks(&self) {
        if self.hooks.hooks.borrow().is_empty() {
            return;
        }
        let hooks: Vec<_> = {
            let mut hooks = self.hooks.hooks.borrow_mut();
            hooks.retain(|hook| hook.function.strong_count() > 0);
            hooks
                .iter()
                .map(|hook| (hook.function.clone(), hook.origin))
                .collect()
        };
        for (function, origin) in hooks {
            // One that was dropped by another is not called.
            if let Some(function) = function.upgrade() {
                // One that drops itself goes here.
                self.contain(origin, move || function());
            }
        }
    }

    /// Drops the hooks that stay for good, because the reactor is gone.
    pub(super) fn drop_kept_hooks(&self) {
        for (function, origin) in self.hooks.kept.take() {
            self.dispose(origin, function);
        }
    }

    /// Cancels all requests at the end of a run: nothing is called after it.
    pub(super) fn drop_ends(&self) {
        for (_, hook) in self.ends.wanted.take() {
            hook.wanted.set(false);
        }
    }

    /// Step 5. If these hooks request further calls, those wait for the next turn; if one of them
    /// makes turns, the rest are called in these. Returns whether it called any.
    pub(super) fn run_ends(self: &Rc<Self>) -> bool {
        self.ends.urgent.set(false);
        if !self.ends.is_wanted() {
            return false;
        }
        let handle = Handle::new(self.clone());
        let mark = self.ends.next.get();
        while let Some(hook) = self.ends.pop(mark) {
            let origin = hook.origin;
            hook.wanted.set(false);
            self.measure(origin, || (hook.function)(&handle));
            // One that has dropped itself goes here.
            self.dispose(origin, hook);
        }
        true
    }
}
