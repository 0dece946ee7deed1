//! What is scheduled before, while and after a run ends.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    deferred::Interrupted,
    reactor::{Label, Origin, Phase},
};

thread_local! {
    static HANDLE: RefCell<Option<Handle>> = const { RefCell::new(None) };
    /// How many destructors still schedule something.
    static LEFT: Cell<u32> = const { Cell::new(0) };
    static RAN: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

const KINDS: [&str; 4] = ["task", "timer", "call", "posted call"];

fn ran(kind: &'static str) {
    RAN.with_borrow_mut(|ran| ran.push(kind));
}

/// Schedules work of this kind, which holds a value that schedules more when it is dropped.
fn schedule(handle: &Handle, kind: &'static str) {
    let last_words = LastWords;
    let work = move || {
        let _last_words = &last_words;
        ran(kind);
    };
    match kind {
        "task" => drop(handle.spawn(async move { work() })),
        "timer" => drop(handle.call_later(Duration::ZERO, work)),
        "call" => handle.call_soon(work),
        _ => assert!(handle.remote().post(move |_| work()).is_ok()),
    }
}

struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        let Some(left) = LEFT.get().checked_sub(1) else {
            return;
        };
        LEFT.set(left);
        let handle = HANDLE.with_borrow(|handle| handle.clone().expect("a reactor"));
        KINDS.iter().for_each(|kind| schedule(&handle, kind));
    }
}

/// A run at whose end work of this kind is still queued.
fn run_with(reactor: &Standalone, kind: &'static str) {
    let handle = reactor.handle();
    handle
        .on_shutdown(Phase::After, {
            let handle = handle.clone();
            // The task that shuts down goes on first in the next turn, and ends the run.
            move || async move {
                schedule(&handle, kind);
                Ok(())
            }
        })
        .keep();
    handle.call_soon_with(Handle::stop);
    reactor.run().expect("a run");
}

/// A run in which everything that is due gets its turn.
fn run_empty(reactor: &Standalone) {
    let handle = reactor.handle();
    handle.call_later_with(Duration::from_millis(1), Handle::stop);
    reactor.run().expect("a run");
}

#[test]
fn what_is_scheduled_while_a_run_ends_goes_with_it() {
    for kind in KINDS {
        for generations in 1..10 {
            let reactor = Standalone::new().expect("a reactor");
            let handle = reactor.handle();
            HANDLE.set(Some(handle.clone()));
            LEFT.set(generations);
            run_with(&reactor, kind);
            let case = format!("{kind}, {generations}");
            assert_eq!(
                LEFT.get(),
                0,
                "{case}: all are dropped when the run has ended"
            );
            let census = handle.census();
            assert_eq!((census.tasks.len(), census.timers.len()), (0, 0), "{case}");
            run_empty(&reactor);
            assert_eq!(RAN.take(), <[&str; 0]>::default(), "{case}");
            HANDLE.set(None);
        }
    }
}

#[test]
fn what_is_scheduled_between_two_runs_waits_for_the_next() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let end = handle.on_turn_end(Origin::here(Label::CALL), |_| ran("end of a turn"));
    for _ in 0..2 {
        KINDS.iter().for_each(|kind| schedule(&handle, kind));
        end.request();
        run_empty(&reactor);
        let mut all = RAN.take();
        all.sort_unstable();
        assert_eq!(
            all,
            ["call", "end of a turn", "posted call", "task", "timer"]
        );
    }
}

/// So often something may begin anew while a run ends. It would do so for ever.
const MOST: u32 = 1_000;

/// Spawns a task, and another one whenever it ends.
fn supervise(handle: &Handle, left: &Rc<Cell<u32>>) {
    let Some(less) = left.get().checked_sub(1) else {
        return;
    };
    left.set(less);
    let (again, left) = (handle.clone(), left.clone());
    handle.spawn(pending::<()>()).add_both(move |_| {
        supervise(&again, &left);
        Ok::<_, Interrupted>(())
    });
}

/// Schedules itself again when it is dropped.
struct Stubborn {
    handle: Handle,
    kind: &'static str,
    left: Rc<Cell<u32>>,
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        let Some(less) = self.left.get().checked_sub(1) else {
            return;
        };
        self.left.set(less);
        let (handle, kind, left) = (self.handle.clone(), self.kind, self.left.clone());
        let again = Stubborn { handle, kind, left };
        match self.kind {
            "task" => drop(self.handle.spawn(async move {
                pending::<()>().await;
                drop(again)
            })),
            "timer" => {
                let hour = Duration::from_secs(3_600);
                drop(self.handle.call_later(hour, move || drop(again)));
            }
            _ => self.handle.call_soon(move || drop(again)),
        }
    }
}

#[test]
fn what_begins_anew_whenever_it_is_dropped_does_not_keep_a_run_from_its_end() {
    for kind in ["supervised task", "task", "timer", "call"] {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let left = Rc::new(Cell::new(MOST));
        if kind == "supervised task" {
            supervise(&handle, &left);
        } else {
            let (handle, left) = (handle.clone(), left.clone());
            drop(Stubborn { handle, kind, left });
        }
        for _ in 0..2 {
            left.set(MOST);
            handle.call_soon_with(Handle::stop);
            reactor.run().expect("a run");
            assert!(left.get() > 0, "{kind}: it began anew {MOST} times");
        }
        left.set(MOST);
        drop(reactor);
        assert!(left.get() > 0, "{kind}: closed, it began anew {MOST} times");
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a future's destructor");
    }
}

/// The whole program was aborted.
#[test]
fn a_future_that_panics_when_it_is_dropped_ends_nothing_but_its_task() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let panics = Rc::new(Cell::new(0));
    let _observer = handle.observe({
        let panics = panics.clone();
        move |report| {
            let is_panic = matches!(report, entwined::reactor::Report::Panic { .. });
            panics.set(panics.get() + u32::from(is_panic));
        }
    });
    struct Done(Bomb);
    impl std::future::Future for Done {
        type Output = ();
        fn poll(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<()> {
            let _ = &self.0;
            std::task::Poll::Ready(())
        }
    }
    // There before it is polled, which the last panic may have put off.
    let waits = || {
        let bomb = Bomb;
        async move {
            let _bomb = bomb;
            pending::<()>().await;
        }
    };
    let done = handle.spawn(Done(Bomb));
    let cancelled = handle.spawn(waits());
    let at_the_end = handle.spawn(waits());
    handle.spawn_detached(Origin::here(Label::TASK), waits());
    handle.call_soon({
        let handle = handle.clone();
        move || {
            cancelled.cancel();
            assert!(cancelled.is_ready());
            handle.call_later_with(Duration::from_millis(1), Handle::stop);
        }
    });
    reactor.run().expect("a run");
    assert_eq!(done.take().ok(), Some(Ok(())));
    assert_eq!(at_the_end.take().ok(), Some(Err(Interrupted::Cancelled)));
    assert_eq!(panics.get(), 4, "each is reported");
    // The next run is as usual.
    run_empty(&reactor);
}
