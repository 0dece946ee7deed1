//! Calls from threads: behaviours 21 to 25.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{
    rig::{Count, Log, Rig, ms, stopper},
    timers::assert_all_served_and,
};
use entwined::reactor::{Gone, Handle, Remote, RemoteError};

pub(super) fn b21_a_posted_call_runs_on_the_loops_thread() {
    let rig = Rig::new();
    let (remote, here) = (rig.handle.remote(), thread::current().id());
    let poster = thread::spawn(move || {
        let post = remote.post(move |handle| {
            assert_eq!(thread::current().id(), here);
            handle.stop();
        });
        post.expect("there");
    });
    rig.run();
    poster.join().expect("the poster");
}

/// Posts `each` calls from each of `threads` threads. Returns the calls that ran, as the number of
/// the thread and of the call.
fn post_from_threads(threads: u32, each: u32) -> Vec<(u32, u32)> {
    let (rig, count) = (Rig::new(), Count::default());
    let ran = Rc::new(RefCell::new(Vec::new()));
    // Posted closures are `Send`; a channel brings their results to values that are not.
    let (kept, counted) = (ran.clone(), count.clone());
    let (results, received) = mpsc::channel();
    let posters: Vec<_> = (0..threads)
        .map(|thread| {
            let (remote, results) = (rig.handle.remote(), results.clone());
            thread::spawn(move || {
                for call in 0..each {
                    let results = results.clone();
                    remote
                        .post(move |_| results.send((thread, call)).expect("kept"))
                        .expect("there");
                }
                remote
                    .call(|_| ())
                    .expect("after all others of this thread");
            })
        })
        .collect();
    drop(results);
    let handle = rig.handle.clone();
    rig.complete(async move {
        for poster in posters {
            while !poster.is_finished() {
                handle.sleep(ms(1)).await;
            }
            poster.join().expect("the poster");
        }
        kept.borrow_mut().extend(received.try_iter());
        counted.add(1);
    });
    ran.take()
}

pub(super) fn b21_calls_of_one_thread_run_in_order() {
    let ran = post_from_threads(4, 2_000);
    for thread in 0..4 {
        let calls: Vec<_> = ran
            .iter()
            .filter(|call| call.0 == thread)
            .map(|call| call.1)
            .collect();
        assert_eq!(
            calls,
            (0..2_000).collect::<Vec<_>>(),
            "the calls of thread {thread}"
        );
    }
}

pub(super) fn b21_posted_from_the_loops_own_thread_it_runs_on_the_next_turn() {
    let (rig, log) = (Rig::new(), Log::default());
    let (handle, first) = (rig.handle.clone(), log.clone());
    let post = rig.handle.remote();
    let turns = Arc::new(AtomicU64::new(0));
    rig.handle.call_soon(move || {
        turns.store(handle.metrics().turns, Ordering::Relaxed);
        post.post(move |handle| {
            assert!(
                handle.metrics().turns > turns.load(Ordering::Relaxed),
                "it ran in the same turn"
            );
            handle.stop();
        })
        .expect("there");
        first.add("posted");
    });
    rig.run();
    log.assert(&["posted"]);
}

pub(super) fn b22_a_post_wakes_a_loop_that_sleeps_without_timers() {
    let rig = Rig::new();
    let remote = rig.handle.remote();
    let poster = thread::spawn(move || {
        // The loop sleeps between two calls, and only the next call can wake it.
        for _ in 0..50 {
            remote.call(|_| ()).expect("an answer");
            thread::sleep(ms(2));
        }
        remote.post(|handle| handle.stop()).expect("there");
    });
    rig.run();
    poster.join().expect("the poster");
}

pub(super) fn b22_a_burst_of_100_000_from_8_threads_all_run_once() {
    let mut ran = post_from_threads(8, 12_500);
    ran.sort_unstable();
    let expected: Vec<_> = (0..8)
        .flat_map(|thread| (0..12_500).map(move |call| (thread, call)))
        .collect();
    assert!(
        ran == expected,
        "{} calls ran of {}",
        ran.len(),
        expected.len()
    );
}

pub(super) fn b23_a_call_that_posts_itself_starves_neither_timers_nor_io() {
    fn again(handle: &Handle, rounds: Arc<AtomicU64>) {
        rounds.fetch_add(1, Ordering::Relaxed);
        handle
            .remote()
            .post(move |handle| again(handle, rounds))
            .map_err(|_| ())
            .unwrap_or_default();
    }
    let rig = Rig::new();
    let rounds = Arc::new(AtomicU64::new(0));
    again(&rig.handle, rounds.clone());
    let handle = rig.handle.clone();
    // Nor is it starved itself.
    assert_all_served_and(&rig, async move {
        while rounds.load(Ordering::Relaxed) <= 10 {
            handle.sleep(ms(1)).await;
        }
    });
}

pub(super) fn b23_a_call_soon_that_asks_for_itself_starves_neither_timers_nor_io() {
    fn again(handle: Handle, rounds: Count) {
        rounds.add(1);
        handle.clone().call_soon(move || again(handle, rounds));
    }
    let (rig, rounds) = (Rig::new(), Count::default());
    again(rig.handle.clone(), rounds.clone());
    // Nor is it starved itself.
    assert_all_served_and(&rig, rounds.reached(11));
}

pub(super) fn b24_posting_to_a_reactor_that_is_gone_gives_the_closure_back() {
    let rig = Rig::new();
    let remote = rig.handle.remote();
    rig.harness.detach();
    let poster = thread::spawn(move || {
        let (sign, seen) = mpsc::channel();
        let Gone(closure) = remote
            .post(move |_: &Handle| sign.send(7).expect("kept"))
            .expect_err("it is gone");
        assert_eq!(remote.call(|_| ()), Err(RemoteError::Gone));
        assert!(seen.try_recv().is_err(), "it was called");
        (closure, seen)
    });
    let (closure, seen) = poster.join().expect("the poster");
    // The closure is intact, and another reactor can call it.
    let other = Rig::new();
    other.handle.remote().post(closure).expect("there");
    other.handle.call_later(ms(1), stopper(&other.handle));
    other.run();
    assert_eq!(seen.try_recv(), Ok(7));
}

/// Reports the thread on which it is dropped.
struct Tell(mpsc::Sender<thread::ThreadId>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

pub(super) fn b24_closures_never_run_are_dropped_on_the_loops_thread() {
    let rig = Rig::new();
    let (dropped, on) = mpsc::channel();
    let remote = rig.handle.remote();
    let post = |remote: &Remote| {
        let (remote, tell) = (remote.clone(), Tell(dropped.clone()));
        let poster = thread::spawn(move || {
            let post = remote.post(move |_| {
                let _tell = tell;
                panic!("it must never run");
            });
            post.expect("there");
        });
        poster.join().expect("the poster");
    };
    // Posted at the end of the run, in the same turn.
    let (stop, late) = (stopper(&rig.handle), remote.clone());
    let tell = Tell(dropped.clone());
    rig.handle
        .on_shutdown(entwined::reactor::Phase::After, move || {
            late.post(move |_| drop(tell)).expect("there");
            async { Ok(()) }
        })
        .keep();
    rig.handle.call_soon(stop);
    rig.run();
    assert_eq!(on.recv().expect("it was dropped"), thread::current().id());
    // Posted while the reactor does not run; then the reactor is dropped.
    post(&remote);
    assert!(on.try_recv().is_err(), "dropped too early");
    rig.harness.detach();
    assert_eq!(on.recv().expect("it was dropped"), thread::current().id());
    assert!(rig.take_panics().is_empty());
}

/// Runs a reactor while `ask` makes blocking calls on another thread.
fn while_it_runs<R: Send + 'static>(
    ask: impl FnOnce(Remote) -> R + Send + 'static,
) -> (R, Vec<String>) {
    let rig = Rig::new();
    let remote = rig.handle.remote();
    let asker = thread::spawn(move || {
        let result = ask(remote.clone());
        // The call itself may have ended the run.
        let _ = remote.post(|handle| {
            handle.stop();
        });
        result
    });
    rig.harness.run().expect("a run");
    (asker.join().expect("the asker"), rig.take_panics())
}

pub(super) fn b25_a_blocking_call_gets_the_result() {
    let (result, _) = while_it_runs::<_>(|remote| remote.call(|handle| handle.is_running()));
    assert_eq!(result, Ok(true));
}

pub(super) fn b25_a_blocking_call_gets_the_error() {
    let (result, _) = while_it_runs::<_>(|remote| {
        remote.call(|_| "x".parse::<u32>().map_err(|error| error.to_string()))
    });
    assert_eq!(result, Ok(Err("invalid digit found in string".to_owned())));
}

pub(super) fn b25_a_blocking_call_gets_the_outcome_of_a_future() {
    let ask = |remote: Remote| {
        remote.call_async(|handle| {
            // Not `Send`: it never leaves the thread.
            let (handle, not_send) = (handle.clone(), Rc::new(5));
            async move {
                handle.sleep(ms(2)).await;
                *not_send
            }
        })
    };
    assert_eq!(while_it_runs::<_>(ask).0, Ok(5));
}

pub(super) fn b25_a_blocking_call_that_panics_says_so_and_the_loop_lives() {
    let ask = |remote: Remote| {
        let call = remote.call(|_| -> u32 { panic!("in a call") });
        let future = remote.call_async(|_| async { panic!("in a future") });
        let making =
            remote.call_async(|_| -> std::future::Ready<()> { panic!("before the future") });
        (call, future, making, remote.call(|_| "alive"))
    };
    let ((call, future, making, after), _) = while_it_runs::<_>(ask);
    assert_eq!(call, Err(RemoteError::Panicked("in a call".to_owned())));
    assert_eq!(
        future,
        Err::<(), _>(RemoteError::Panicked("in a future".to_owned()))
    );
    assert_eq!(
        making,
        Err(RemoteError::Panicked("before the future".to_owned()))
    );
    assert_eq!(after, Ok("alive"));
}

pub(super) fn b25_a_blocking_call_on_the_loops_own_thread_is_refused() {
    let (rig, log) = (Rig::new(), Log::default());
    let (remote, noted, stop) = (rig.handle.remote(), log.clone(), stopper(&rig.handle));
    assert_eq!(remote.call(|_| ()), Err(RemoteError::SameThread));
    rig.handle.call_soon(move || {
        assert_eq!(remote.call(|_| ()), Err(RemoteError::SameThread));
        assert_eq!(
            remote.call_async(|_| async {}),
            Err(RemoteError::SameThread)
        );
        noted.add("refused");
        stop();
    });
    rig.run();
    log.assert(&["refused"]);
}

pub(super) fn b25_a_blocking_call_ends_when_the_run_does() {
    let ask = |remote: Remote| {
        remote.call_async(|handle| {
            let stop = stopper(handle);
            handle.call_soon(stop);
            std::future::pending::<()>()
        })
    };
    assert_eq!(while_it_runs::<_>(ask).0, Err(RemoteError::Dropped));
}

pub(super) fn b25_a_blocking_call_ends_when_the_reactor_is_gone() {
    let rig = Rig::new();
    let (remote, (begun, beginning)) = (rig.handle.remote(), mpsc::channel());
    let asker = thread::spawn(move || {
        let other = remote.clone();
        let earlier = thread::spawn(move || other.call(|_| ()));
        begun.send(()).expect("awaited");
        (earlier.join().expect("the asker"), remote.call(|_| ()))
    });
    beginning
        .recv_timeout(Duration::from_secs(10))
        .expect("it begins");
    rig.harness.detach();
    let (earlier, later) = asker.join().expect("the asker");
    assert!(
        matches!(earlier, Err(RemoteError::Dropped | RemoteError::Gone)),
        "{earlier:?}"
    );
    assert_eq!(later, Err(RemoteError::Gone));
}
