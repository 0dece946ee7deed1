//! The calls of the peer that have no answer yet.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::Context,
};

use super::Config;
use crate::{
    deferred::Canceller,
    wake::{WakeList, WakePlace},
};

#[derive(Default)]
pub(super) struct Incoming {
    /// A call that has just arrived has no task yet.
    calls: RefCell<HashMap<u64, IncomingCall>>,
    /// The sum of the bytes of their arguments.
    bytes: Cell<usize>,
}

#[derive(Default)]
pub(super) struct IncomingCall {
    pub(super) task: Option<Canceller>,
    pub(super) credit: Option<Rc<Credit>>,
    /// How many bytes its arguments had.
    pub(super) bytes: usize,
}

impl IncomingCall {
    /// Wakes those that wait to send items: the call is over.
    fn wake(&self) {
        if let Some(credit) = &self.credit {
            credit.wake();
        }
    }
}

impl Incoming {
    pub(super) fn contains(&self, id: u64) -> bool {
        self.calls.borrow().contains_key(&id)
    }

    pub(super) fn count(&self) -> usize {
        self.calls.borrow().len()
    }

    /// Whether there is room for another call, whose arguments have this many bytes.
    pub(super) fn admits(&self, bytes: usize, config: &Config) -> bool {
        let (count, before) = (self.count(), self.bytes.get());
        let fits = count == 0 || before.saturating_add(bytes) <= config.max_call_bytes;
        count < config.max_calls && fits
    }

    /// Keeps a call that has just arrived. It must not be there yet.
    pub(super) fn insert(&self, id: u64, call: IncomingCall) {
        self.bytes.set(self.bytes.get() + call.bytes);
        self.calls.borrow_mut().insert(id, call);
    }

    /// The task that answers a call. It ends if the peer cancels the call.
    pub(super) fn set_task(&self, id: u64, task: Canceller) {
        if let Some(call) = self.calls.borrow_mut().get_mut(&id) {
            call.task = Some(task);
        }
    }

    pub(super) fn remove(&self, id: u64) -> Option<IncomingCall> {
        let call = self.calls.borrow_mut().remove(&id)?;
        self.bytes.set(self.bytes.get() - call.bytes);
        call.wake();
        Some(call)
    }

    /// Takes all calls, the oldest first.
    pub(super) fn take(&self) -> Vec<IncomingCall> {
        self.bytes.set(0);
        let calls = in_order(self.calls.take());
        calls.iter().for_each(IncomingCall::wake);
        calls
    }

    pub(super) fn credit_of(&self, id: u64) -> Option<Rc<Credit>> {
        self.calls.borrow().get(&id)?.credit.clone()
    }

    /// The credits of all streams that the peer has called, the oldest first.
    pub(super) fn credits(&self) -> Vec<Rc<Credit>> {
        let calls = self.calls.borrow();
        let streams = calls.iter();
        in_order(streams.filter_map(|(&id, call)| Some((id, call.credit.clone()?))))
    }
}

/// Calls by their numbers: a map has another order each time.
pub(super) fn in_order<T>(calls: impl IntoIterator<Item = (u64, T)>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().collect();
    calls.sort_unstable_by_key(|call| call.0);
    calls.into_iter().map(|(_, call)| call).collect()
}

/// How many more items the caller accepts.
#[derive(Default)]
pub(super) struct Credit {
    pub(super) left: Cell<u32>,
    waiting: WakeList,
}

impl Credit {
    pub(super) fn add(&self, more: u32) {
        self.left.set(self.left.get().saturating_add(more));
        self.wake();
    }

    /// A place among the tasks that wait for more.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            credit: self,
            place: WakePlace::default(),
        }
    }

    pub(super) fn wake(&self) {
        self.waiting.wake();
    }
}

/// The place of a task that waits for credit.
pub(super) struct Place<'a> {
    credit: &'a Credit,
    place: WakePlace,
}

impl Place<'_> {
    /// Wakes this task when there may be more.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        self.place.register(&self.credit.waiting, cx.waker());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.place.leave(&self.credit.waiting);
    }
}
