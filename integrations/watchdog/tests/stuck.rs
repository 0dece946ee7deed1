//! The watchdog shows where a stuck thread is, and leaves other threads alone.

use std::{
    io,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
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

/// Runs a reactor until it is stopped, with `first` as its first callback, and returns what was
/// sent on the channel.
fn run(first: impl FnOnce(Handle, Sender<Stuck>) + 'static) -> Vec<Stuck> {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (tell, told) = channel();
    handle.clone().call_soon(move || first(handle, tell));
    reactor.run().expect("a run");
    drop(reactor);
    // The channel closes with the last watchdog.
    told.iter().collect()
}

/// Creates a watchdog that sends its reports on the channel.
fn watchdog(handle: &Handle, tell: &Sender<Stuck>) -> Watchdog {
    let tell = tell.clone();
    Watchdog::start_with(handle, LIMIT, move |stuck| {
        tell.send(stuck.clone()).expect("the test waits")
    })
    .expect("a thread")
}

/// Returns what is reported while `work` runs in a callback.
fn watched(work: impl FnOnce(&Handle) + 'static) -> Vec<Stuck> {
    run(move |handle, tell| {
        let watchdog = watchdog(&handle, &tell);
        work(&handle);
        let _ = handle.clone().call_later(LIMIT, move || {
            drop(watchdog);
            handle.stop();
        });
    })
}

#[test]
fn the_functions_that_hold_the_thread_are_named_again_and_again() {
    let cases = [
        (spins_for as fn(Duration), "spins_for"),
        (sleeps_for, "sleeps_for"),
    ];
    for (work, name) in cases {
        let told = watched(move |_| work(Duration::from_millis(1_000)));
        // After 100, 200, 400 and 800 ms.
        assert!((2..=4).contains(&told.len()), "{told:?}");
        for (number, stuck) in told.iter().enumerate() {
            assert!(
                stuck.duration >= LIMIT * 2_u32.pow(number as u32),
                "{stuck}"
            );
            let stack = stuck.stack.as_ref().expect("a stack");
            assert!(
                stack.contains(name) && stack.contains("stuck.rs:"),
                "{stuck}"
            );
            assert!(!stack.contains("sys::handler"), "{stuck}");
        }
    }
}

#[test]
fn a_thread_that_comes_back_in_time_is_left_alone() {
    let told = watched(|handle| {
        let clock = handle.clone();
        handle.clone().spawn(async move {
            for _ in 0..20 {
                clock.sleep(Duration::from_millis(5)).await;
                spins_for(Duration::from_millis(5));
            }
        });
    });
    let told: Vec<_> = told
        .iter()
        .filter(|stuck| {
            stuck
                .stack
                .as_ref()
                .is_ok_and(|stack| stack.contains("spins_for"))
        })
        .collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_thread_that_waits_within_a_callback_is_not_stuck() {
    let told = watched(|handle| {
        let clock = handle.clone();
        handle
            .wait(async move { clock.sleep(LIMIT * 4).await })
            .expect("the run goes on");
    });
    assert!(told.is_empty(), "{told:?}");
}

/// The report asks the reactor's thread for something, such as a dialog, and that thread drops the
/// watchdog before it gets to it.
#[test]
fn a_watchdog_that_reports_is_not_waited_for() {
    let (over, waits) = channel();
    thread::spawn(move || {
        let told = run(|handle, tell| {
            let (remote, (reports, reported)) = (handle.remote(), channel());
            let watchdog = Watchdog::start_with(&handle, LIMIT, move |stuck| {
                reports.send(()).expect("the callback waits");
                let _ = remote.call(|_| ());
                tell.send(stuck.clone()).expect("the test waits");
            })
            .expect("a thread");
            reported.recv().expect("a report");
            drop(watchdog);
            handle.call_soon({
                let handle = handle.clone();
                move || handle.stop()
            });
        });
        over.send(told.len()).expect("the test waits");
    });
    assert_eq!(waits.recv_timeout(Duration::from_secs(20)), Ok(1));
}

#[test]
fn it_ends_with_the_run_and_several_watch_at_a_time() {
    let told = run(|handle, tell| {
        for _ in 0..3 {
            std::mem::forget(watchdog(&handle, &tell));
        }
        sleeps_for(LIMIT * 3);
        handle.stop();
    });
    assert!(told.len() >= 3, "{told:?}");
    assert!(
        told.iter()
            .all(|stuck| stuck.to_string().contains("sleeps_for")),
        "{told:?}"
    );
}

#[test]
fn a_thread_is_not_watched_before_the_run() {
    let reactor = Standalone::new().expect("a reactor");
    let (tell, told) = channel();
    let watchdog = watchdog(&reactor.handle(), &tell);
    let before = told.recv_timeout(LIMIT * 10);
    assert!(
        matches!(before, Err(RecvTimeoutError::Timeout)),
        "{before:?}"
    );
    drop(watchdog);
}

#[test]
fn a_thread_is_not_watched_after_the_run() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (tell, told) = channel::<Stuck>();
    let limit = LIMIT * 10;
    handle.clone().call_soon(move || {
        let report = move |stuck: &Stuck| tell.send(stuck.clone()).expect("the test waits");
        std::mem::forget(Watchdog::start_with(&handle, limit, report).expect("a thread"));
        // A sign of life is not on its way then.
        handle.call_later_with(LIMIT, Handle::stop);
    });
    reactor.run().expect("a run");
    // It ends, though the reactor is kept.
    let after = told.recv_timeout(limit * 10);
    assert!(
        matches!(after, Err(RecvTimeoutError::Disconnected)),
        "{after:?}"
    );
    drop(reactor);
}

#[test]
fn a_watchdog_that_is_dropped_leaves_nothing_in_the_reactor() {
    let told = run(|handle, tell| {
        let before = handle.census().tasks;
        let watchdog = watchdog(&handle, &tell);
        drop((watchdog, tell));
        handle.clone().call_later_with(LIMIT / 2, move |handle| {
            assert_eq!(handle.census().tasks, before);
            handle.stop();
        });
    });
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_thread_that_blocks_the_signal_is_not_said_to_be_in_the_kernel() {
    // SAFETY: the sets are plain data, and the mask is this thread's own.
    let mask = |how, set: &libc::sigset_t| unsafe {
        assert_eq!(libc::pthread_sigmask(how, set, std::ptr::null_mut()), 0);
    };
    // SAFETY: zeroes are valid, and sigfillset(3) fills it.
    let all = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        all
    };
    let told = watched(move |_| {
        mask(libc::SIG_BLOCK, &all);
        spins_for(Duration::from_millis(1_500));
        mask(libc::SIG_UNBLOCK, &all);
    });
    let why = told[0].stack.as_ref().expect_err("no stack");
    assert!(why.contains("blocks the signal"), "{why}");
}

/// Runs alone, in a process of its own: the limit is the whole process's.
#[test]
fn a_thread_whose_signal_the_system_refuses_is_not_said_to_have_ended() {
    const VARIABLE: &str = "ENTWINED_TEST_PENDING";
    let name = "a_thread_whose_signal_the_system_refuses_is_not_said_to_have_ended";
    if std::env::var_os(VARIABLE).is_none() {
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: it reads the structure only.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &none) };
    assert_eq!(set, 0);
    let told = watched(|_| spins_for(LIMIT * 2));
    let why = told[0].stack.as_ref().expect_err("no stack");
    assert!(why.contains("too many signals"), "{why}");
}

/// Runs alone, in a process of its own: a handler is the whole process's.
#[test]
fn a_signal_that_the_program_handles_is_not_taken_from_it() {
    const VARIABLE: &str = "ENTWINED_TEST_HANDLER";
    let name = "a_signal_that_the_program_handles_is_not_taken_from_it";
    if std::env::var_os(VARIABLE).is_none() {
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name])
            .env(VARIABLE, "1")
            .stdout(Stdio::null())
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    // SIGRTMAX-2, as signal(7) and the C library number them.
    let handled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(62, handled.clone()).expect("a handler");
    let reactor = Standalone::new().expect("a reactor");
    let error = Watchdog::start(&reactor.handle(), LIMIT).expect_err("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
    signal_hook::low_level::raise(62).expect("it is sent");
    assert!(handled.load(Ordering::SeqCst));
}
