//! The life of a reactor: behaviours 1 to 9.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::rig::{
    Count, Log, Rig, Scripted, dial, ms, peer, read_exactly, read_to_end, serve_on, stopper,
};
use entwined::{
    Handle,
    protocol::{self, Connection, Echo},
    reactor::{Gone, LifeError, Phase, Report},
    transport::tcp,
};

pub(super) fn b01_stop_before_run_is_refused() {
    let rig = Rig::new();
    assert_eq!(rig.handle.try_stop(), Err(LifeError::NotRunning));
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    assert_eq!(rig.handle.try_stop(), Err(LifeError::NotRunning));
}

pub(super) fn b01_run_while_running_is_refused() {
    let rig = Rig::new();
    let (harness, handle) = (rig.harness.clone(), rig.handle.clone());
    rig.complete(async move {
        assert_eq!(harness.run(), Err(LifeError::AlreadyRunning));
        assert!(handle.is_running());
    });
}

pub(super) fn b01_a_second_stop_is_refused() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.handle.call_soon(move || {
        assert_eq!(handle.try_stop(), Ok(()));
        assert!(handle.is_stopping());
        assert_eq!(handle.try_stop(), Err(LifeError::AlreadyStopping));
    });
    rig.run();
}

pub(super) fn b02_a_reactor_that_has_stopped_runs_again() {
    let rig = Rig::new();
    for round in 0..3 {
        assert!(
            !rig.handle.is_running() && !rig.handle.is_stopping(),
            "round {round}"
        );
        assert_works(&rig);
    }
}

/// Checks that a timer, a call from another thread and an exchange with a peer work.
fn assert_works(rig: &Rig) {
    let (_server, address) = rig.serve_each(|| Echo);
    let (remote, count) = (rig.handle.remote(), Count::default());
    let echoed = peer(address, move |mut stream| {
        stream.write_all(b"ping").expect("written");
        assert_eq!(read_exactly(&stream, 4).expect("an echo"), b"ping");
        remote.post(|handle| handle.stop()).expect("there");
    });
    rig.handle.call_later(ms(1), count.adder());
    rig.handle
        .on_shutdown(Phase::Before, {
            let count = count.clone();
            move || async move {
                count.reached(1).await;
                Ok(())
            }
        })
        .keep();
    rig.run();
    echoed.join().expect("the peer");
    assert_eq!(count.get(), 1);
}

pub(super) fn b02_one_reactor_after_another() {
    for _ in 0..3 {
        assert_works(&Rig::new());
    }
}

pub(super) fn b02_two_reactors_beside_each_other() {
    let (outer, done) = (Rig::new(), Count::default());
    let (inner, timer) = (done.clone(), done.adder());
    outer.handle.call_soon(move || {
        // A whole run inside a callback of the other reactor. Where a thread has only one loop, it
        // carries both, and the timer may run in here.
        assert_works(&Rig::new());
        inner.add(1);
    });
    outer.handle.call_later(ms(20), timer);
    outer.complete(done.reached(2));
}

pub(super) fn b03_calls_made_before_run_happen_in_order() {
    let (rig, log) = (Rig::new(), Log::default());
    for number in 0..100 {
        rig.handle.call_soon(log.adder(&number.to_string()));
    }
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    assert_eq!(
        log.entries(),
        (0..100)
            .map(|number: u32| number.to_string())
            .collect::<Vec<_>>()
    );
}

pub(super) fn b03_nothing_runs_before_run() {
    let (rig, count) = (Rig::new(), Count::default());
    rig.handle.call_soon(count.adder());
    rig.handle.call_later(Duration::ZERO, count.adder());
    rig.handle.remote().post(|_| {}).expect("there");
    let (spawned, served) = (count.clone(), count.clone());
    rig.handle.spawn(async move { spawned.add(1) });
    let (_server, address) = rig.serve(move |_| {
        served.add(1);
        None::<Echo>
    });
    let waiting = dial(address);
    let rested = Rc::new(Cell::new(false));
    rig.host_call(ms(20), {
        let rested = rested.clone();
        move || rested.set(true)
    });
    rig.host_until(|| rested.get());
    assert_eq!(count.get(), 0, "something ran before the run");
    let handle = rig.handle.clone();
    let all = count.clone();
    rig.complete(async move {
        all.reached(4).await;
        drop(handle);
    });
    drop(waiting);
}

/// Runs a reactor and checks that it stops as `arrange` has planned.
fn assert_stops(arrange: impl FnOnce(&Rig)) {
    let rig = Rig::new();
    arrange(&rig);
    rig.run();
    assert!(!rig.handle.is_running());
}

pub(super) fn b04_stop_from_a_timer() {
    assert_stops(|rig| drop(rig.handle.call_later(ms(1), stopper(&rig.handle))));
}

pub(super) fn b04_stop_from_a_posted_call() {
    assert_stops(|rig| {
        let remote = rig.handle.remote();
        thread::spawn(move || remote.post(|handle| handle.stop()).expect("there"));
    });
}

pub(super) fn b04_stop_from_a_connection_callback() {
    assert_stops(|rig| {
        let stop = stopper(&rig.handle);
        let (server, address) = rig.serve_each(move || {
            let stop = stop.clone();
            Scripted::new().data(move |_, _| stop())
        });
        rig.handle
            .on_shutdown(Phase::After, move || {
                drop(server);
                async { Ok(()) }
            })
            .keep();
        drop(peer(address, |mut stream| {
            stream.write_all(b"stop").expect("written");
            // Wait until the end of the run closes the connection.
            let _ = read_to_end(&stream);
        }));
    });
}

pub(super) fn b04_stop_from_a_failed_connect() {
    assert_stops(|rig| {
        let handle = rig.handle.clone();
        rig.handle.spawn(async move {
            let nobody = nobody_listens(&handle);
            protocol::connect(&handle, nobody, || Echo)
                .await
                .expect_err("nobody listens there");
            handle.stop();
        });
    });
}

/// An address where nobody listens any more.
pub(super) fn nobody_listens(handle: &Handle) -> SocketAddr {
    let listener = tcp::listen(handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_address().tcp().expect("it listens on TCP")
}

pub(super) fn b04_stop_from_a_task() {
    assert_stops(|rig| {
        let handle = rig.handle.clone();
        rig.handle.spawn(async move {
            handle.sleep(ms(1)).await;
            handle.stop();
        });
    });
}

/// Records in `log` that this phase of the shutdown was reached.
pub(super) fn note_phase(handle: &Handle, phase: Phase, log: &Log, name: &'static str) {
    let log = log.clone();
    let hook = handle.on_shutdown(phase, move || async move {
        log.add(name);
        Ok(())
    });
    hook.keep();
}

pub(super) fn b05_phases_run_in_order_and_before_may_wait() {
    let (rig, log) = (Rig::new(), Log::default());
    for (phase, name) in [
        (Phase::After, "after"),
        (Phase::During, "during"),
        (Phase::Before, "before"),
    ] {
        let (log, handle) = (log.clone(), rig.handle.clone());
        rig.handle
            .on_shutdown(phase, move || async move {
                log.add(format!("{name} begins"));
                handle.sleep(ms(3)).await;
                log.add(format!("{name} ends"));
                Ok(())
            })
            .keep();
    }
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    log.assert(&[
        "before begins",
        "before ends",
        "during begins",
        "during ends",
        "after begins",
        "after ends",
    ]);
}

pub(super) fn b05_connections_are_lost_between_during_and_after() {
    let (rig, log, made) = (Rig::new(), Log::default(), Count::default());
    for (phase, name) in [
        (Phase::Before, "before"),
        (Phase::During, "during"),
        (Phase::After, "after"),
    ] {
        note_phase(&rig.handle, phase, &log, name);
    }
    let (noted, told) = (log.clone(), made.clone());
    let (_server, address) = rig.serve_each(move || {
        let (noted, told) = (noted.clone(), told.clone());
        Scripted::new()
            .made(move |_| told.add(1))
            .lost(move |_| noted.add("lost"))
    });
    let client = dial(address);
    rig.complete(made.reached(1));
    log.assert(&["before", "during", "lost", "after"]);
    drop(client);
}

pub(super) fn b05_a_failing_phase_is_reported_and_the_rest_still_run() {
    let (rig, log) = (Rig::new(), Log::default());
    let reports = log.clone();
    let _observer = rig.handle.observe(move |report| match report {
        Report::Failure { error, .. } => reports.add(format!("failure: {error}")),
        Report::Panic { message, .. } => reports.add(format!("panic: {message}")),
        _ => {}
    });
    let hook = |phase, action: fn() -> Result<(), Box<dyn Error>>| {
        rig.handle
            .on_shutdown(phase, move || async move { action() })
            .keep();
    };
    hook(Phase::Before, || Err("no time".into()));
    hook(Phase::Before, || panic!("in a hook"));
    rig.handle
        .on_shutdown(Phase::During, || -> std::future::Ready<_> {
            panic!("before the future")
        })
        .keep();
    for (phase, name) in [
        (Phase::Before, "before"),
        (Phase::During, "during"),
        (Phase::After, "after"),
    ] {
        note_phase(&rig.handle, phase, &log, name);
    }
    rig.handle.call_soon(stopper(&rig.handle));
    rig.harness.run().expect("a run");
    let mut panics = rig.take_panics();
    panics.sort();
    assert_eq!(panics.len(), 2, "{panics:?}");
    let mut entries = log.entries();
    let order: Vec<_> = entries
        .iter()
        .filter(|entry| !entry.contains(':'))
        .cloned()
        .collect();
    assert_eq!(order, ["before", "during", "after"]);
    entries.sort();
    assert_eq!(
        entries,
        [
            "after",
            "before",
            "during",
            "failure: no time",
            "panic: before the future",
            "panic: in a hook"
        ]
    );
}

pub(super) fn b05_each_hook_runs_once() {
    let (rig, count) = (Rig::new(), Count::default());
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let count = count.clone();
        rig.handle
            .on_shutdown(phase, move || async move {
                count.add(1);
                Ok(())
            })
            .keep();
    }
    for _ in 0..2 {
        rig.handle.call_soon(stopper(&rig.handle));
        rig.run();
        assert_eq!(count.get(), 3, "the hooks were for the first run");
    }
}

pub(super) fn b05_a_hook_can_be_removed_from_inside_another() {
    let (rig, log) = (Rig::new(), Log::default());
    let victims = Rc::new(RefCell::new(Vec::new()));
    let (taken, first) = (victims.clone(), log.clone());
    rig.handle
        .on_shutdown(Phase::Before, move || {
            first.add("first");
            taken.take();
            async { Ok(()) }
        })
        .keep();
    for phase in [Phase::Before, Phase::After] {
        let log = log.clone();
        let hook = rig.handle.on_shutdown(phase, move || {
            log.add("removed");
            async { Ok(()) }
        });
        victims.borrow_mut().push(hook);
    }
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    log.assert(&["first"]);
}

/// Connects a client in the same reactor, and waits until both ends exist. `build` makes the
/// protocol of each end.
async fn both_ends(
    handle: &Handle,
    made: &Count,
    build: impl Fn() -> Scripted + Clone + 'static,
) -> (protocol::Server, Connection) {
    let before = made.get();
    let count = made.clone();
    let of_server = build.clone();
    let (server, address) = serve_on(handle, move |_| {
        let count = count.clone();
        Some(of_server().made(move |_| count.add(1)))
    });
    let connection = protocol::connect(handle, address, build)
        .await
        .expect("a connection");
    made.reached(before + 1).await;
    (server, connection)
}

pub(super) fn b06_each_open_connection_hears_connection_lost_once() {
    let (rig, log, made) = (Rig::new(), Log::default(), Count::default());
    let (handle, lost) = (rig.handle.clone(), log.clone());
    rig.complete(async move {
        for _ in 0..5 {
            let lost = lost.clone();
            let ends = both_ends(&handle, &made, move || {
                let lost = lost.clone();
                Scripted::new().lost(move |why| lost.add(why.to_string()))
            });
            // Keep the server until the run ends.
            std::mem::forget(ends.await.0);
        }
    });
    assert_eq!(log.entries(), vec!["the reactor stopped"; 10]);
}

pub(super) fn b06_no_user_code_runs_after_the_end() {
    let (rig, count) = (Rig::new(), Count::default());
    let handle = rig.handle.clone();
    let (timers, tasks, calls) = (count.clone(), count.clone(), count.clone());
    let at_the_end = rig.handle.clone();
    rig.handle
        .on_shutdown(Phase::After, move || {
            at_the_end.call_later(ms(1), timers.adder());
            at_the_end.clone().spawn(async move {
                at_the_end.sleep(ms(1)).await;
                tasks.add(1);
            });
            async { Ok(()) }
        })
        .keep();
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    let at_end = count.get();
    handle.call_soon(calls.adder());
    handle
        .remote()
        .post(|_| panic!("the run is over"))
        .expect("it may run again");
    let rested = Rc::new(Cell::new(false));
    rig.host_call(ms(20), {
        let rested = rested.clone();
        move || rested.set(true)
    });
    rig.host_until(|| rested.get());
    assert_eq!(count.get(), at_end, "user code ran after the end");
}

pub(super) fn b07_a_failing_connection_lost_does_not_keep_the_others_from_theirs() {
    let (rig, count, made) = (Rig::new(), Count::default(), Count::default());
    let (handle, lost) = (rig.handle.clone(), count.clone());
    rig.handle.spawn(async move {
        for _ in 0..5 {
            let lost = lost.clone();
            let ends = both_ends(&handle, &made, move || {
                let lost = lost.clone();
                Scripted::new().lost(move |_| {
                    lost.add(1);
                    panic!("in connection_lost");
                })
            });
            std::mem::forget(ends.await.0);
        }
        handle.stop();
    });
    rig.harness.run().expect("a run");
    assert_eq!(count.get(), 10);
    let panics = rig.take_panics();
    assert_eq!(panics.len(), 10, "{panics:?}");
    assert!(
        panics
            .iter()
            .all(|panic| panic.contains("in connection_lost")),
        "{panics:?}"
    );
}

pub(super) fn b08_a_turn_without_a_wait_returns_at_once() {
    let rig = Rig::new();
    rig.harness.attach().expect("a run");
    let best = (0..20).map(|_| {
        let start = Instant::now();
        rig.harness.iterate(Some(Duration::ZERO));
        start.elapsed()
    });
    let best = best.min().expect("some");
    assert!(best < ms(5), "a turn without a wait took {best:?}");
}

pub(super) fn b08_a_turn_with_a_wait_returns_when_something_happened() {
    let (rig, count) = (Rig::new(), Count::default());
    rig.harness.attach().expect("a run");
    let wait = Duration::from_secs(30);
    let iterate_until = |number| {
        let start = Instant::now();
        // A host may need an iteration or two. What matters is that none of them sleeps for the
        // whole wait.
        while count.get() < number {
            rig.harness.iterate(Some(wait));
        }
        assert!(
            start.elapsed() < wait / 2,
            "a turn slept through what happened"
        );
    };
    rig.handle.call_soon(count.adder());
    iterate_until(1);
    rig.handle.call_later(ms(5), count.adder());
    iterate_until(2);
    let accepted = count.clone();
    let (_server, address) = rig.serve(move |_| {
        accepted.add(1);
        None::<Echo>
    });
    let client = dial(address);
    iterate_until(3);
    drop(client);
    assert_eq!(count.get(), 3);
}

pub(super) fn b09_attach_to_a_loop_that_already_runs_and_again_after_a_stop() {
    let (rig, log, over) = (Rig::new(), Log::default(), Count::default());
    let harness = rig.harness.clone();
    let (handle, log2) = (rig.handle.clone(), log.clone());
    rig.host_call(ms(1), move || {
        harness.attach().expect("a first run");
        log2.add("attached");
        handle.call_later(ms(2), {
            let (log, stop) = (log2.clone(), stopper(&handle));
            move || {
                log.add("first run");
                stop();
            }
        });
    });
    rig.host_until(|| log.entries().len() == 2 && !rig.handle.is_running());
    // The host is alive, and the reactor is attached again.
    let (harness, handle, log2, over2) = (
        rig.harness.clone(),
        rig.handle.clone(),
        log.clone(),
        over.clone(),
    );
    rig.host_call(ms(1), move || {
        log2.add("host");
        harness.attach().expect("a second run");
        let (log, over, stop) = (log2.clone(), over2.clone(), stopper(&handle));
        handle.call_soon(move || {
            log.add("second run");
            over.add(1);
            stop();
        });
    });
    rig.host_until(|| over.get() == 1 && !rig.handle.is_running());
    log.assert(&["attached", "first run", "host", "second run"]);
}

pub(super) fn b09_detach_ends_the_reactor_and_leaves_the_host_to_another() {
    let (rig, log) = (Rig::new(), Log::default());
    rig.harness.attach().expect("a run");
    let (handle, made, lost) = (rig.handle.clone(), Count::default(), log.clone());
    let ready = Count::default();
    let (done, dropped) = (ready.clone(), log.clone());
    rig.handle.spawn(async move {
        let ends = both_ends(&handle, &made, move || {
            let lost = lost.clone();
            Scripted::new().lost(move |why| lost.add(why.to_string()))
        });
        let _ends = ends.await;
        done.add(1);
        let _noted = OnDrop(dropped);
        std::future::pending::<()>().await;
    });
    rig.host_until(|| ready.get() == 1);
    let remote = rig.handle.remote();
    let (harness, log2) = (rig.harness.clone(), log.clone());
    let detached = Rc::new(Cell::new(false));
    let noted = detached.clone();
    rig.host_call(ms(1), move || {
        harness.detach();
        log2.add("detached");
        noted.set(true);
    });
    rig.host_until(|| detached.get());
    let mut entries = log.entries();
    assert_eq!(entries.pop().as_deref(), Some("detached"));
    entries.sort();
    assert_eq!(
        entries,
        ["dropped", "the reactor stopped", "the reactor stopped"]
    );
    assert!(!rig.handle.is_running());
    let Gone(_closure) = remote.post(|_| {}).expect_err("the reactor is gone");
    assert_eq!(rig.harness.attach(), Err(LifeError::Closed));
    assert_works(&Rig::over(rig.harness.another()));
}

struct OnDrop(Log);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add("dropped");
    }
}

pub(super) fn b09_quitting_the_host_does_not_end_the_run() {
    let (rig, count) = (Rig::new(), Count::default());
    rig.harness.attach().expect("a run");
    let handle = rig.handle.clone();
    let (_server, address) = rig.serve_each(|| Echo);
    let told = count.clone();
    rig.handle.spawn(async move {
        tcp::connect(&handle, address).await.expect("a connection");
        told.add(1);
    });
    rig.host_until(|| count.get() == 1);
    // The host's loop has returned to its caller here. The reactor waits for the next iteration.
    assert!(rig.handle.is_running());
    rig.handle.call_soon(count.adder());
    rig.host_until(|| count.get() == 2);
    rig.handle.stop();
    rig.host_until(|| !rig.handle.is_running());
}
