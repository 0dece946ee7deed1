//! What a backend owes the reactor, and what it must not waste: behaviours 58 to 60.

use std::{
    cell::Cell,
    future::Future,
    io::Write,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use entwined::Handle;

use super::{
    backend::HostLoop,
    rig::{Count, Rig, Scripted, dial, hold, ms},
};

/// A kind of work: queues it, and counts when it is done.
type Queue = fn(&Handle, &Count);

fn a_call(handle: &Handle, done: &Count) {
    handle.call_soon(done.adder());
}

fn a_task(handle: &Handle, done: &Count) {
    let add = done.adder();
    handle.spawn(async move { add() });
}

fn a_timer(handle: &Handle, done: &Count) {
    handle.call_later(ms(1), done.adder());
}

/// Runs the host's loop inside a callback until the host's own timer ends it, as a dialog does that
/// closes by itself. The reactor is asked for nothing. Returns whether the work was done in there.
fn dialog(harness: &HostLoop, length: Duration, done: &Count) -> bool {
    let (closed, in_time) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (close, seen, done) = (closed.clone(), in_time.clone(), done.clone());
    let on_time = move || {
        close.set(true);
        seen.set(done.get() > 0);
    };
    harness.host_call(length, Box::new(on_time));
    while !closed.get() {
        harness.iterate(Some(Duration::from_secs(10)));
    }
    in_time.get()
}

/// Checks that a dialog shows the work done before it closes. Each attempt gives it more time,
/// because a busy machine may be slow.
fn assert_done_in_the_dialog(
    kind: &str,
    hint: &str,
    arrange: impl Fn(&Rig, &Count, Box<dyn FnOnce()>),
) {
    let attempt = |length| {
        let (rig, done, in_time) = (Rig::new(), Count::default(), Rc::new(Cell::new(false)));
        let (harness, handle) = (rig.harness.clone(), rig.handle.clone());
        let (count, seen) = (done.clone(), in_time.clone());
        let open = move || {
            seen.set(dialog(&harness, length, &count));
            handle.stop();
        };
        arrange(&rig, &done, Box::new(open));
        rig.run();
        in_time.get()
    };
    let shown = [50, 200, 1_000]
        .into_iter()
        .any(|length| attempt(ms(length)));
    assert!(shown, "{kind} waited until the dialog had closed: {hint}");
}

pub(super) fn b58_what_a_callback_queues_is_done_in_the_dialog_that_it_opens() {
    let kinds: [(&str, Queue); 3] = [("a call", a_call), ("a task", a_task), ("a timer", a_timer)];
    for (kind, queue) in kinds {
        let hint = "the host was asked for a turn (`Host::request_turn`) before the dialog opened";
        assert_done_in_the_dialog(kind, hint, |rig, done, open| {
            let (handle, done) = (rig.handle.clone(), done.clone());
            rig.handle.call_soon(move || {
                queue(&handle, &done);
                open();
            });
        });
    }
}

pub(super) fn b58_what_waits_behind_a_callback_is_done_in_the_dialog_that_it_opens() {
    let hint = "its turn is on the stack, and only `Driver::next_turn` tells of what is left in \
                it: ask before each sleep, also in nested loops";
    assert_done_in_the_dialog("a call", hint, |rig, done, open| {
        rig.handle.call_soon(open);
        a_call(&rig.handle, done);
    });
    assert_done_in_the_dialog("a task", hint, |rig, done, open| {
        rig.handle.spawn(async { open() });
        a_task(&rig.handle, done);
    });
    assert_done_in_the_dialog("a timer that is due", hint, |rig, done, open| {
        let (handle, done) = (rig.handle.clone(), done.clone());
        rig.handle.call_soon(move || {
            handle.call_later(ms(1), open);
            a_timer(&handle, &done);
            // Both are due in the same turn. It takes the event that announces them.
            hold(ms(5));
        });
    });
}

/// Attaches the reactor, makes `arrange` end its run, and waits in the host's loop for the end.
fn assert_woken_at_the_end(how: &str, arrange: impl Fn(&Rig)) {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.harness.attach().expect("a run");
        arrange(&rig);
        let slept = Rc::new(Cell::new(false));
        let late = slept.clone();
        rig.host_call(ms(5_000), move || late.set(true));
        while rig.handle.is_running() {
            // Without a limit: nothing but the reactor wakes it.
            rig.harness.iterate(None);
        }
        assert!(
            !slept.get(),
            "the run was ended by {how}, and the host's loop slept on: see `Host::ended`"
        );
    }
}

pub(super) fn b59_who_waits_in_the_hosts_loop_for_the_end_is_woken() {
    assert_woken_at_the_end("a timer", |rig| {
        let handle = rig.handle.clone();
        rig.handle.call_later(ms(5), move || handle.stop());
    });
    assert_woken_at_the_end("a call", |rig| {
        let handle = rig.handle.clone();
        rig.handle.call_soon(move || handle.stop());
    });
    assert_woken_at_the_end("a callback of the host", |rig| {
        let handle = rig.handle.clone();
        rig.host_call(ms(5), move || handle.stop());
    });
}

pub(super) fn b59_a_host_whose_run_is_over_sleeps() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move { handle.sleep(ms(1)).await });
    // Whoever posts to it now fills an inbox that nobody empties until the next run.
    rig.handle.remote().post(|_| ()).expect("it may run again");
    let (woken, over) = (Cell::new(0), Rc::new(Cell::new(false)));
    let end = over.clone();
    rig.host_call(ms(100), move || end.set(true));
    while !over.get() {
        rig.harness.iterate(Some(ms(1_000)));
        woken.set(woken.get() + 1);
    }
    assert!(
        woken.get() < 50,
        "{} iterations in 100 ms after the end of the run: the host still watches the selector",
        woken.get()
    );
}

/// The number of events in each test of behaviour 60.
const EVENTS: u64 = 20;

/// Slices in vain that are forgiven: a thread that waits for the selector in the host's place may
/// be early, and the start and the end of a run are not counted exactly.
const FORGIVEN: u64 = 6;

/// Runs `body`, in which `EVENTS` times something happens, and checks that hardly any slice was in
/// vain. The best of three runs counts, because threads race on a busy machine.
fn assert_none_in_vain<F>(event: &str, body: impl Fn(&Rig) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let idle = (0..3).map(|_| {
        let rig = Rig::new();
        let body = body(&rig);
        let handle = rig.handle.clone();
        // A host that has a callback to make runs its own loop, and makes those of the body too.
        rig.host_call(Duration::ZERO, || ());
        rig.complete(async move {
            let before = handle.metrics().idle_slices;
            body.await;
            handle.metrics().idle_slices - before
        })
    });
    let idle = idle.min().expect("three runs");
    assert!(
        idle <= FORGIVEN,
        "of the slices for {EVENTS} times {event}, {idle} found nothing to do. The host hears of \
         the same work in two ways and makes two slices, or it is woken for work that is done"
    );
}

pub(super) fn b60_a_timer_costs_one_slice() {
    assert_none_in_vain::<_>("a timer", |rig| {
        let handle = rig.handle.clone();
        async move {
            for _ in 0..EVENTS {
                handle.sleep(ms(2)).await;
            }
        }
    });
}

pub(super) fn b60_a_timer_that_is_overdue_costs_one_slice() {
    assert_none_in_vain::<_>("a timer that is overdue when the loop looks", |rig| {
        let (handle, harness) = (rig.handle.clone(), rig.harness.clone());
        async move {
            for _ in 0..EVENTS {
                // The fd is readable by then, and the look before the sleep finds the timer due.
                // On a busy machine the call may be late by milliseconds.
                let due = Instant::now() + ms(12);
                let wait = move || hold(due.saturating_duration_since(Instant::now()) + ms(1));
                harness.host_call(ms(1), Box::new(wait));
                handle.sleep(ms(12)).await;
            }
        }
    });
}

pub(super) fn b60_a_wake_up_costs_one_slice() {
    assert_none_in_vain::<_>("a post of another thread", |rig| {
        let (remote, posted) = (rig.handle.remote(), Count::default());
        POSTED.set(Some(posted.clone()));
        async move {
            let poster = thread::spawn(move || {
                for _ in 0..EVENTS {
                    thread::sleep(ms(2));
                    let count = |_: &Handle| {
                        let posted = POSTED.take().expect("it was put there");
                        posted.add(1);
                        POSTED.set(Some(posted));
                    };
                    remote.post(count).expect("it is there");
                }
            });
            posted.reached(EVENTS).await;
            poster.join().expect("no panic");
        }
    });
}

thread_local! {
    /// A counter that is not `Send`, for calls that are.
    static POSTED: Cell<Option<Count>> = const { Cell::new(None) };
}

pub(super) fn b60_a_readable_socket_costs_one_slice() {
    assert_none_in_vain::<_>("a byte on a socket", |rig| {
        let count = Count::default();
        let seen = count.clone();
        let (server, address) = rig.serve_each(move || {
            let seen = seen.clone();
            Scripted::new().data(move |_, _| seen.add(1))
        });
        async move {
            let _server = server;
            let mut peer = dial(address);
            for number in 1..=EVENTS {
                peer.write_all(b"x").expect("sent");
                count.reached(number).await;
            }
        }
    });
}

pub(super) fn b60_a_callback_of_the_host_costs_one_slice() {
    assert_none_in_vain::<_>("a call that a callback of the host asks for", |rig| {
        let (handle, harness, done) = (rig.handle.clone(), rig.harness.clone(), Count::default());
        async move {
            for number in 1..=EVENTS {
                let (handle, count) = (handle.clone(), done.clone());
                harness.host_call(ms(1), Box::new(move || a_call(&handle, &count)));
                done.reached(number).await;
            }
        }
    });
}

pub(super) fn b60_what_a_slice_asks_for_and_does_costs_no_slice() {
    assert_none_in_vain::<_>("a timer that asks for a call", |rig| {
        let (handle, done) = (rig.handle.clone(), Count::default());
        async move {
            for number in 1..=EVENTS {
                let (again, count) = (handle.clone(), done.clone());
                handle.call_later(ms(2), move || a_call(&again, &count));
                done.reached(number).await;
            }
        }
    });
}
