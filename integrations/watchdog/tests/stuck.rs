//! A thread that is stuck is shown where it is, and one that is not is left alone.

use std::{
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use entwined::{Handle, Standalone};
use entwined_watchdog::{Stuck, Watchdog};

const LIMIT: Duration = Duration::from_millis(100);

#[inline(never)]
fn spins_for(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn sleeps_for(time: Duration) {
    thread::sleep(time);
}

/// What is reported while `work` runs in a callback.
fn watched(work: impl FnOnce(&Handle) + 'static) -> Receiver<Stuck> {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (tell, told) = channel();
    handle.call_soon({
        let handle = handle.clone();
        move || {
            let report = move |stuck: &Stuck| tell.send(stuck.clone()).expect("the test waits");
            let watchdog = Watchdog::start_with(&handle, LIMIT, report).expect("a thread");
            work(&handle);
            let _ = handle.clone().call_later(LIMIT, move || {
                drop(watchdog);
                handle.stop().expect("it runs");
            });
        }
    });
    reactor.run().expect("a run");
    told
}

#[test]
fn the_functions_that_hold_the_thread_are_named_again_and_again() {
    let cases = [(spins_for as fn(Duration), "spins_for"), (sleeps_for, "sleeps_for")];
    for (work, name) in cases {
        let told: Vec<_> = watched(move |_| work(Duration::from_millis(1_000))).iter().collect();
        // After 100, 200, 400 and 800 ms.
        assert!((2..=4).contains(&told.len()), "{told:?}");
        for (number, stuck) in told.iter().enumerate() {
            assert!(stuck.duration >= LIMIT * 2_u32.pow(number as u32), "{stuck}");
            let stack = stuck.stack.as_ref().expect("a stack");
            assert!(stack.contains(name) && stack.contains("stuck.rs:"), "{stuck}");
            assert!(!stack.contains("sys::handler"), "{stuck}");
        }
    }
}

#[test]
fn a_thread_that_comes_back_in_time_is_left_alone() {
    let told = watched(|handle| {
        let clock = handle.clone();
        handle
            .clone()
            .spawn(async move {
                for _ in 0..20 {
                    clock.sleep(Duration::from_millis(5)).await;
                    spins_for(Duration::from_millis(5));
                }
            })
            .detach();
    });
    let told: Vec<_> =
        told.iter().filter(|stuck| stuck.stack.as_ref().is_ok_and(|stack| stack.contains("spins_for"))).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_thread_that_waits_within_a_callback_is_not_stuck() {
    let told = watched(|handle| {
        let clock = handle.clone();
        handle.wait(async move { clock.sleep(LIMIT * 4).await }).expect("the run goes on");
    });
    assert_eq!(told.iter().count(), 0);
}

#[test]
fn it_ends_with_the_run_and_several_watch_at_a_time() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (tell, told) = channel();
    handle.call_soon({
        let handle = handle.clone();
        move || {
            for _ in 0..3 {
                let tell = tell.clone();
                let watchdog =
                    Watchdog::start_with(&handle, LIMIT, move |stuck| tell.send(stuck.clone()).expect("it waits"));
                std::mem::forget(watchdog.expect("a thread"));
            }
            sleeps_for(LIMIT * 3);
            handle.stop().expect("it runs");
        }
    });
    reactor.run().expect("a run");
    drop(reactor);
    // The channel ends with the last of the threads, and those end with the reactor.
    let told: Vec<_> = told.iter().collect();
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.iter().all(|stuck| stuck.to_string().contains("sleeps_for")), "{told:?}");
}
