//! One turn: the numbered steps of the [`reactor`](crate::reactor) documentation.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Call, Core, Handle, Timed, remote::Content};
use crate::{
    reactor::{
        backend::Event,
        observe::{Label, Moment, Origin, Report},
    },
    share::counts_time,
    wake::wake,
};

/// Budget of a turn if the backend does not set one. Two such turns fit into a frame at 60 Hz
/// besides the drawing.
pub(crate) const BUDGET: Duration = Duration::from_millis(2);

/// How many turns may be on the stack, each inside of a callback of the one before it that runs the
/// loop: in [`Handle::wait`], or in a dialog of the host. Peers may see to as many as they like,
/// and a stack must have room for them. One that serves HTTP takes 38 KB of it in release.
pub(super) const MAX_DEPTH: u32 = 16;

/// How many items of one kind run before the next kind gets its chance.
const BATCH: usize = 64;

/// The order of the kinds of work in a turn; see step 3.
const KINDS: usize = 3;
const TASKS: usize = 0;
const TIMERS: usize = 1;

impl Core {
    /// Makes one turn, and returns whether it ran anything. Does nothing outside a run. `wait`
    /// limits the wait for events, `budget` the work.
    pub(crate) fn turn(
        self: &Rc<Self>,
        wait: Option<Duration>,
        budget: Duration,
    ) -> io::Result<bool> {
        if !self.life.is_running() {
            return Ok(false);
        }
        let run = self.life.number();
        self.turn_begins();
        if self.is_deep() {
            return self.put_off();
        }
        let _level = Level::enter(&self.depth);
        let wait = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            wait
        };
        self.collect(wait)?;
        self.run_hooks();
        self.empty_inbox();
        let ran = self.run_queues(budget);
        let ended = self.run_ends();
        if !ran && !ended {
            self.idle_turns.set(self.idle_turns.get() + 1);
        }
        if ran && self.meter.on.get() {
            let took = self.meter.stamp().since(self.share.get().0);
            self.meter.turns.borrow_mut().record(took);
        }
        if self.life.take_finished() {
            self.end_run();
        }
        if self.life.number() != run {
            // A task that was on the stack when the run ended must end once it returns.
            self.end_late_tasks();
        }
        self.settle_deadline();
        Ok(ran)
    }

    /// The turn of a loop that runs inside of too many others. What the peers have sent is noted,
    /// or the loop would not sleep; the turns on the stack see to it when they go on.
    fn put_off(&self) -> io::Result<bool> {
        self.collect(Some(Duration::ZERO))?;
        self.arm(None);
        Ok(false)
    }

    /// Step 1.
    fn collect(&self, wait: Option<Duration>) -> io::Result<()> {
        let mut events = SPARE.take();
        let result = self.reactor.select(wait, &mut events);
        for Event { key, readiness } in events.drain(..) {
            // A stale key finds nothing: the source was dropped after the event was fetched.
            let source = self.sources.borrow().get(self.keys.slot(key)).cloned();
            if let Some(source) = source {
                source.became_ready(readiness);
            }
        }
        SPARE.set(events);
        result
    }

    /// Step 2.
    fn empty_inbox(self: &Rc<Self>) {
        if !self.inbox.is_filled() {
            return;
        }
        let Content { calls, woken, .. } = self.inbox.take();
        self.tasks.extend(woken);
        let mut queue = self.calls.borrow_mut();
        queue.extend(calls.into_iter().map(|(function, location)| Call {
            function,
            origin: Origin {
                label: Label::CALL,
                location,
            },
        }));
    }

    /// Steps 3 and 4. Returns whether anything ran.
    fn run_queues(self: &Rc<Self>, budget: Duration) -> bool {
        let budget = if counts_time() { budget } else { Duration::MAX };
        let start = Moment::now();
        let now = self.reactor.now();
        self.time.set(now);
        self.share.set((start, budget));
        let mark = self.timers.borrow().sequence();
        let run = self.life.number();
        // Only what is queued now. Work that is added meanwhile waits for the next turn.
        let mut left = [
            self.tasks.ready_len(),
            self.timers.borrow().len(),
            self.calls.borrow().len(),
        ];
        self.meter.begin(start);
        let mut ran = false;
        let first = self.first.replace(TASKS);
        while left != [0; KINDS] {
            for kind in (0..KINDS).map(|offset| (first + offset) % KINDS) {
                for _ in 0..left[kind].min(BATCH) {
                    let there = match kind {
                        TASKS => self.run_task(),
                        TIMERS => self.run_timer(now, mark),
                        _ => self.run_call(),
                    };
                    if !there {
                        left[kind] = 0;
                        break;
                    }
                    ran = true;
                    left[kind] -= 1;
                    if self.ends.is_urgent() {
                        self.run_ends();
                    }
                    // A callback that ran the loop may return after the run has ended. Work that it
                    // queued since then belongs to the next run.
                    if self.life.is_finished() || self.life.number() != run {
                        return ran;
                    }
                    if self.meter.stamp().since(start) >= budget {
                        self.first.set((kind + 1) % KINDS);
                        return ran;
                    }
                }
            }
        }
        ran
    }

    fn run_task(&self) -> bool {
        let Some(runnable) = self.tasks.pop() else {
            return false;
        };
        let origin = runnable.metadata().origin;
        self.guard(origin, || {
            if runnable.metadata().run == self.life.number() {
                self.tasks.run(runnable);
            }
            // Another thread has woken a task of an earlier run: dropping it ends it.
        });
        true
    }

    fn run_timer(self: &Rc<Self>, now: Instant, mark: u64) -> bool {
        let Some((at, timed)) = self.timers.borrow_mut().pop_due(now, mark) else {
            return false;
        };
        if self.meter.on.get() {
            self.meter
                .lateness
                .borrow_mut()
                .record(now.saturating_duration_since(at));
        }
        match timed {
            Timed::Call(call) => self.make(call),
            Timed::Wake(waker) => wake(waker),
        }
        true
    }

    fn run_call(self: &Rc<Self>) -> bool {
        let Some(call) = self.calls.borrow_mut().pop_front() else {
            return false;
        };
        self.make(call);
        true
    }

    fn make(self: &Rc<Self>, call: Call) {
        let handle = Handle::new(self.clone());
        self.guard(call.origin, || (call.function)(&handle));
    }

    /// Runs user code: catches panics, counts the call and measures its time.
    fn guard(&self, origin: Origin, function: impl FnOnce()) {
        let meter = &self.meter;
        let (turns, start, stalls, waited) = (
            self.turns.get(),
            meter.stamp(),
            meter.stall_count(),
            meter.waited(),
        );
        let outer = meter.enter(origin.label);
        self.contain(origin, function);
        meter.leave(outer, Moment::now());
        // A callback that made turns itself did not hold up anything. If a handler inside it
        // stalled, that handler was already reported.
        if self.turns.get() == turns && meter.stall_count() == stalls {
            meter.record(origin, meter.stamp().since(start), waited);
        }
        if let Some(message) = self.tasks.take_panic() {
            self.report_panic(origin, &message);
        }
    }

    /// Runs a separately timed part of a callback: catches panics, counts the part and measures its
    /// time. See [`Handle::measure`](super::Handle::measure).
    pub(crate) fn measure<T>(&self, origin: Origin, function: impl FnOnce() -> T) -> Option<T> {
        let meter = &self.meter;
        if !meter.on.get() {
            return self.contain(origin, function);
        }
        let (turns, waited) = (self.turns.get(), meter.waited());
        let outer = meter.enter_part(origin.label, Moment::now());
        let result = self.contain(origin, function);
        let duration = meter.leave_part(outer, Moment::now());
        // A part that made turns itself did not hold up anything.
        if self.turns.get() == turns {
            meter.record(origin, duration, waited);
        }
        result
    }

    pub(crate) fn report_panic(&self, origin: Origin, message: &str) {
        self.meter.report(&Report::Panic { origin, message });
    }
}

/// A turn on the stack.
struct Level<'a>(&'a Cell<u32>);

impl<'a> Level<'a> {
    fn enter(depth: &'a Cell<u32>) -> Self {
        depth.set(depth.get() + 1);
        Level(depth)
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

thread_local! {
    /// Memory for a turn's events. A nested turn finds it taken or handed back; either is fine.
    static SPARE: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}
