//! Jobs on threads: what the module promises in addition to behaviour 26, which is in the
//! conformance suite; and behaviour 13 of Deferreds.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    deferred::{ChainError, Deferred, Full, Interrupted, gather},
    thread::{Config, Job, SendError, ThreadPool, WhenFull, channel},
};

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn config(threads: usize, queue: usize) -> Config {
    let mut config = Config::default();
    (config.max_threads, config.max_queued) = (threads, queue);
    config
}

/// Starts a job on `pool`, which has room for it.
fn defer<T: Send + 'static>(
    pool: &ThreadPool,
    handle: &Handle,
    job: impl FnOnce(&Job) -> T + Send + 'static,
) -> Deferred<T, Interrupted> {
    pool.defer(handle, |job_itself: &Job| Ok(job(job_itself)))
}

/// Runs the reactor until `deferred` has fired.
fn outcome<T: 'static, E: ChainError>(
    reactor: &Standalone,
    deferred: Deferred<T, E>,
) -> Result<T, E> {
    let result = Rc::new(Cell::new(None));
    deferred.add_both({
        let (result, handle) = (result.clone(), reactor.handle());
        move |outcome| {
            result.set(Some(outcome));
            // It may have fired before the run.
            handle.clone().call_soon(move || handle.stop());
            Ok::<_, Interrupted>(())
        }
    });
    reactor.run().expect("it runs");
    result.take().expect("the Deferred has fired")
}

/// Reports on which thread it is dropped.
struct Noted(mpsc::Sender<ThreadId>);

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

thread_local! {
    /// Dropped when the thread ends.
    static LAST: RefCell<Vec<Noted>> = const { RefCell::new(Vec::new()) };
}

/// Call this first in a job: it reports the end of the job's thread.
fn tell_end(ends: &mpsc::Sender<ThreadId>) {
    LAST.with_borrow_mut(|last| {
        if last.is_empty() {
            last.push(Noted(ends.clone()));
        }
    });
}

#[test]
fn d13_the_result_of_a_job_arrives_on_the_loops_thread() {
    let reactor = Standalone::new().expect("a reactor");
    let here = thread::current().id();
    let result = reactor
        .handle()
        .defer_to_thread(|_| Ok::<_, String>(thread::current().id()))
        .map(move |there| (there, thread::current().id()));
    let (there, back) = outcome(&reactor, result).expect("a result");
    assert_ne!(there, here);
    assert_eq!(back, here);
}

#[test]
fn d13_the_error_of_a_job_is_the_deferreds() {
    let reactor = Standalone::new().expect("a reactor");
    let file = reactor
        .handle()
        .defer_to_thread(|_| Ok(std::fs::read("/no/such/file")?));
    let error: Failed = outcome(&reactor, file).expect_err("no such file");
    assert_eq!(
        error.downcast::<std::io::Error>().expect("the same").kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
fn d13_a_panicking_job_is_an_error_with_its_message() {
    let reactor = Standalone::new().expect("a reactor");
    let panicking = reactor
        .handle()
        .defer_to_thread(|_| -> Result<(), Interrupted> { panic!("at {}", 40 + 2) });
    assert_eq!(
        outcome(&reactor, panicking),
        Err(Interrupted::Panicked("at 42".into()))
    );
    // The thread is still alive.
    let next = reactor
        .handle()
        .defer_to_thread(|_| Ok::<_, Interrupted>(1));
    assert_eq!(outcome(&reactor, next), Ok(1));
}

#[test]
fn d13_a_job_that_was_asked_for_before_the_run_is_answered_in_it() {
    let reactor = Standalone::new().expect("a reactor");
    let (done, is_done) = mpsc::channel();
    let early = reactor.handle().defer_to_thread(move |_| {
        done.send(()).expect("kept");
        Ok::<_, Interrupted>(())
    });
    is_done.recv().expect("it was done");
    assert!(!early.is_ready(), "not outside of a turn");
    assert_eq!(outcome(&reactor, early), Ok(()));
}

#[test]
fn b26_the_pool_grows_to_its_limit_and_not_beyond() {
    const THREADS: usize = 4;
    let reactor = Standalone::new().expect("a reactor");
    let (handle, pool) = (
        reactor.handle(),
        ThreadPool::new("growing", config(THREADS, 100)),
    );
    assert_eq!(pool.threads(), 0, "it starts none before they are needed");
    // Each round of jobs ends only when this many run at once.
    let barrier = Arc::new(Barrier::new(THREADS));
    let jobs = (0..10 * THREADS).map(|_| {
        let barrier = barrier.clone();
        defer(&pool, &handle, move |_| {
            barrier.wait();
            thread::current().name().map(str::to_owned)
        })
    });
    let jobs = entwined::deferred::all(jobs.collect::<Vec<_>>());
    assert_eq!(pool.threads(), THREADS);
    let mut names = outcome(&reactor, jobs).expect("results");
    names.sort();
    names.dedup();
    let expected: Vec<_> = (1..=THREADS)
        .map(|number| Some(format!("growing-{number}")))
        .collect();
    assert_eq!(names, expected);
}

#[test]
fn b26_an_idle_thread_is_used_before_another_is_started() {
    let reactor = Standalone::new().expect("a reactor");
    let pool = ThreadPool::new("one", config(8, 8));
    for _ in 0..20 {
        let handle = reactor.handle();
        outcome(&reactor, defer(&pool, &handle, |_| ())).expect("a result");
    }
    assert_eq!(pool.threads(), 1);
}

#[test]
fn b26_a_full_queue_refuses_and_gives_the_job_back() {
    let reactor = Standalone::new().expect("a reactor");
    let (handle, pool) = (reactor.handle(), ThreadPool::new("full", config(1, 1)));
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let running = defer(&pool, &handle, move |_| {
        begun.send(()).expect("kept");
        released.recv().expect("kept");
    });
    has_begun.recv().expect("it begins");
    let queued = defer(&pool, &handle, |_| ());
    let text = String::from("given back");
    let Err(Full(job)) = pool.try_defer(&handle, move |_| Ok::<_, Interrupted>(text)) else {
        panic!("it is full")
    };
    // A job that leaves the queue makes room.
    queued.cancel();
    let again = pool.try_defer(&handle, job).expect("there is room");
    release.send(()).expect("kept");
    let (_, text) = outcome(&reactor, gather((running, again))).expect("results");
    assert_eq!(text, "given back");
}

#[test]
fn b26_the_reactors_own_pool_refuses_with_an_error() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (release, released) = mpsc::channel::<()>();
    let (released, (begun, has_begun)) = (Arc::new(Mutex::new(released)), mpsc::channel());
    let defaults = Config::default();
    let block = || {
        let (released, begun) = (released.clone(), begun.clone());
        handle.defer_to_thread(move |_| {
            begun.send(()).expect("kept");
            Ok::<_, Interrupted>(released.lock().expect("a lock").recv().is_ok())
        })
    };
    let running: Vec<_> = (0..defaults.max_threads).map(|_| block()).collect();
    running
        .iter()
        .for_each(|_| has_begun.recv().expect("it begins"));
    let queued: Vec<_> = (0..defaults.max_queued).map(|_| block()).collect();
    assert!(queued.iter().all(|job| !job.is_ready()));
    assert_eq!(
        block().take().expect("it has fired"),
        Err(Interrupted::Refused)
    );
    drop(reactor);
    assert!(
        running
            .into_iter()
            .chain(queued)
            .all(|job| job.take().is_ok_and(|result| result.is_err()))
    );
    drop(release);
}

#[test]
fn b26_the_reactors_own_threads_end_with_it() {
    let reactor = Standalone::new().expect("a reactor");
    let (ends, ended) = mpsc::channel();
    let job = reactor.handle().defer_to_thread(move |_| {
        tell_end(&ends);
        Ok::<_, Interrupted>(())
    });
    outcome(&reactor, job).expect("a result");
    let handle = reactor.handle();
    assert!(ended.try_recv().is_err(), "it rests");
    drop(reactor);
    assert!(ended.recv().is_ok());
    let late = handle
        .defer_to_thread(|_| -> Result<(), Interrupted> { unreachable!("the reactor is gone") });
    assert_eq!(
        late.take().expect("it has fired"),
        Err(Interrupted::Cancelled)
    );
}

#[test]
fn cancelling_takes_back_a_job_that_has_not_begun() {
    let reactor = Standalone::new().expect("a reactor");
    let (handle, pool) = (reactor.handle(), ThreadPool::new("taken", config(1, 10)));
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let first = defer(&pool, &handle, move |_| {
        begun.send(()).expect("kept");
        released.recv().expect("kept");
    });
    has_begun.recv().expect("it begins");
    let held = Arc::new(());
    let second = defer(&pool, &handle, {
        let held = held.clone();
        move |_| drop(held)
    });
    assert_eq!(pool.queued(), 1);
    second.cancel();
    assert_eq!(pool.queued(), 0);
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "what it held is dropped at once"
    );
    assert_eq!(
        second.take().expect("it has fired"),
        Err(Interrupted::Cancelled)
    );
    release.send(()).expect("kept");
    outcome(&reactor, first).expect("a result");
}

#[test]
fn a_running_job_sees_that_it_was_cancelled_and_its_result_is_dropped_on_the_loops_thread() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (begun, has_begun) = mpsc::channel();
    let (noted, dropped) = mpsc::channel();
    let job = handle.defer_to_thread(move |job| {
        begun.send(()).expect("kept");
        while job.check().is_ok() {
            thread::yield_now();
        }
        Ok::<_, Interrupted>(Noted(noted))
    });
    has_begun.recv().expect("it begins");
    job.cancel();
    assert_eq!(
        job.take().expect("it has fired").err(),
        Some(Interrupted::Cancelled)
    );
    let place = handle.defer_to_thread(move |_| {
        // The loop runs until the result was dropped somewhere.
        Ok::<_, Interrupted>(dropped.recv().expect("it was dropped"))
    });
    assert_eq!(outcome(&reactor, place), Ok(thread::current().id()));
}

#[test]
fn a_result_that_comes_when_the_reactor_is_gone_is_dropped_by_the_worker() {
    let reactor = Standalone::new().expect("a reactor");
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let (noted, dropped) = mpsc::channel();
    let job = reactor.handle().defer_to_thread(move |_| {
        begun.send(()).expect("kept");
        released.recv().expect("kept");
        Ok::<_, Interrupted>(Noted(noted))
    });
    has_begun.recv().expect("it begins");
    drop(reactor);
    assert_eq!(
        job.take().expect("it has fired").err(),
        Some(Interrupted::Cancelled)
    );
    release.send(()).expect("kept");
    assert_ne!(
        dropped.recv().expect("it was dropped"),
        thread::current().id()
    );
}

#[test]
fn a_result_that_is_there_when_the_run_ends_is_dropped_on_the_loops_thread() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (noted, dropped) = mpsc::channel();
    let (ends, ended) = mpsc::channel();
    let mut config = config(1, 1);
    config.idle_timeout = Duration::ZERO;
    let pool = ThreadPool::new("early", config);
    let job = defer(&pool, &handle, move |_| {
        tell_end(&ends);
        Noted(noted)
    });
    // The job was answered and its thread was gone before anybody looked.
    ended.recv().expect("the thread ends");
    drop(reactor);
    assert_eq!(
        job.take().expect("it has fired").err(),
        Some(Interrupted::Cancelled)
    );
    assert_eq!(dropped.recv(), Ok(thread::current().id()));
}

#[test]
fn what_is_queued_when_the_pool_is_dropped_still_runs() {
    let reactor = Standalone::new().expect("a reactor");
    let (handle, pool) = (reactor.handle(), ThreadPool::new("dropped", config(1, 100)));
    let (ends, ended) = mpsc::channel();
    let jobs: Vec<_> = (0..100)
        .map(|_| {
            let ends = ends.clone();
            defer(&pool, &handle, move |_| tell_end(&ends))
        })
        .collect();
    drop(ends);
    drop(pool);
    assert_eq!(
        outcome(&reactor, entwined::deferred::all(jobs))
            .expect("results")
            .len(),
        100
    );
    assert_eq!(ended.iter().count(), 1, "then the thread ends");
}

#[test]
fn one_reactors_cancelled_jobs_do_not_touch_anothers() {
    let (one, other) = (
        Standalone::new().expect("a reactor"),
        Standalone::new().expect("a reactor"),
    );
    let pool = ThreadPool::new("shared", config(1, 100));
    let (release, released) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let first = defer(&pool, &one.handle(), move |_| {
        begun.send(()).expect("kept");
        released.recv().is_ok()
    });
    has_begun.recv().expect("it begins");
    let second = defer(&pool, &one.handle(), |_| ());
    let third = defer(&pool, &other.handle(), |_| "still there");
    drop(one);
    assert_eq!(first.take().expect("fired"), Err(Interrupted::Cancelled));
    assert_eq!(second.take().expect("fired"), Err(Interrupted::Cancelled));
    release.send(()).expect("the job waits for it");
    assert_eq!(outcome(&other, third), Ok("still there"));
}

#[test]
fn a_channel_that_waits_loses_nothing() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (sender, mut receiver) = channel(3, WhenFull::Wait);
    let job = handle.defer_to_thread(move |_| {
        (0..10_000_u32)
            .try_for_each(|number| sender.send(number))
            .map_err(|error| error.to_string())
    });
    let read = handle.spawn(async move {
        let mut values = Vec::new();
        while let Some(value) = receiver.next().await {
            values.push(value);
        }
        values
    });
    let (_, values) =
        outcome(&reactor, gather((job, read.map_err(|why| why.to_string())))).expect("results");
    assert_eq!(values, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn a_channel_that_drops_the_oldest_gives_the_newest() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (sender, mut receiver) = channel(2, WhenFull::DropOldest);
    // Nobody reads while the job sends, and the job is not held up.
    let job = handle.defer_to_thread(move |_| {
        (0..1_000_u32)
            .try_for_each(|number| sender.send(number))
            .map_err(|error| error.to_string())
    });
    outcome(&reactor, job).expect("sent");
    assert_eq!(
        (
            receiver.try_next(),
            receiver.try_next(),
            receiver.try_next()
        ),
        (Some(998), Some(999), None)
    );
    let end = reactor.handle().spawn(async move { receiver.next().await });
    assert_eq!(outcome(&reactor, end), Ok(None));
}

#[test]
fn a_sender_that_waits_hears_that_the_receiver_is_gone() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (sender, receiver) = channel(1, WhenFull::Wait);
    let (begun, has_begun) = mpsc::channel();
    let job = handle.defer_to_thread(move |_| {
        sender.send("first").expect("there is room");
        begun.send(()).expect("kept");
        Ok::<_, Interrupted>(sender.send("second"))
    });
    has_begun.recv().expect("it begins");
    drop(receiver);
    assert_eq!(outcome(&reactor, job), Ok(Err(SendError::Closed("second"))));
}

#[test]
fn a_sender_does_not_wait_on_the_receivers_own_thread() {
    let (sender, mut receiver) = channel(1, WhenFull::Wait);
    sender.send(1).expect("there is room");
    assert_eq!(sender.send(2), Err(SendError::SameThread(2)));
    assert_eq!(receiver.try_next(), Some(1));
    drop(receiver);
    assert_eq!(sender.send(3).map_err(SendError::into_inner), Err(3));
    assert!(sender.is_closed());
}

#[test]
fn a_receiver_that_always_has_more_lets_others_have_their_turn() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (sender, mut receiver) = channel(10_000, WhenFull::Wait);
    (0..10_000)
        .try_for_each(|number| sender.send(number))
        .expect("there is room");
    drop(sender);
    let left = Rc::new(Cell::new(10_000));
    let reading = handle.spawn({
        let left = left.clone();
        async move {
            while receiver.next().await.is_some() {
                left.set(left.get() - 1);
            }
        }
    });
    let seen = Rc::new(Cell::new(0));
    handle.call_soon({
        let seen = seen.clone();
        move || seen.set(left.get())
    });
    outcome(&reactor, reading).expect("it ends");
    assert!(
        seen.get() > 9_000,
        "the call came when {} were left",
        seen.get()
    );
}

#[test]
fn a_pool_is_send_and_a_cancelled_flag_goes_anywhere() {
    fn is_send<T: Send + Sync>() {}
    is_send::<ThreadPool>();
    is_send::<Job>();
    let reactor = Standalone::new().expect("a reactor");
    let flag = Arc::new(AtomicBool::new(false));
    let job = reactor.handle().defer_to_thread({
        let flag = flag.clone();
        move |job| {
            let job = job.clone();
            let helper = thread::spawn(move || flag.store(job.is_cancelled(), Ordering::Relaxed));
            helper.join().map_err(|_| "the helper panicked".to_owned())
        }
    });
    outcome(&reactor, job).expect("a result");
    assert!(!flag.load(Ordering::Relaxed));
}

/// A waker that is in the middle of its wake on another thread holds a task that is neither queued
/// nor waiting.
#[test]
fn b62_a_reactor_that_goes_while_others_wake_its_tasks_drops_each_future() {
    use std::{
        sync::atomic::AtomicUsize,
        task::{Poll, Waker},
    };

    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const ROUNDS: usize = 150;
    const TASKS: usize = 100;
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..ROUNDS {
        let reactor = Standalone::new().expect("a reactor");
        let handle = reactor.handle();
        let wakers = Rc::new(RefCell::new(Vec::<Waker>::new()));
        for _ in 0..TASKS {
            let (counted, wakers) = (Counted(dropped.clone()), wakers.clone());
            handle.spawn(async move {
                let _counted = counted;
                let mut first = true;
                std::future::poll_fn(|cx| {
                    if std::mem::take(&mut first) {
                        wakers.borrow_mut().push(cx.waker().clone());
                    }
                    Poll::<()>::Pending
                })
                .await
            });
        }
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
        let over = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(Barrier::new(5));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (over, begun) = (over.clone(), begun.clone());
                let wakers = wakers.borrow().clone();
                thread::spawn(move || {
                    begun.wait();
                    while !over.load(Ordering::Relaxed) {
                        wakers.iter().for_each(Waker::wake_by_ref);
                    }
                })
            })
            .collect();
        begun.wait();
        for _ in 0..3 {
            reactor.turn(Some(Duration::ZERO)).expect("a turn");
        }
        drop(reactor);
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no panic");
        }
        wakers.take();
    }
    assert_eq!(dropped.load(Ordering::Relaxed), ROUNDS * TASKS);
}

/// Two threads that asked a pool at the same instant each started a thread for it.
#[test]
fn b26_no_two_reactors_exceed_the_limit_of_a_pool_together() {
    let pools: Arc<[_]> = (0..1_000)
        .map(|_| ThreadPool::new("shared", config(1, 100)))
        .collect();
    let arrived = Arc::new(AtomicUsize::new(0));
    let reactors: Vec<_> = (0..2)
        .map(|_| {
            let (pools, arrived) = (pools.clone(), arrived.clone());
            thread::spawn(move || {
                let reactor = Standalone::new().expect("a reactor");
                let handle = reactor.handle();
                for (number, pool) in pools.iter().enumerate() {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    // Both go on at the same instant.
                    while arrived.load(Ordering::SeqCst) < 2 * (number + 1) {
                        std::hint::spin_loop();
                    }
                    drop(defer(pool, &handle, |_| ()));
                    assert!(pool.threads() <= 1);
                }
            })
        })
        .collect();
    for reactor in reactors {
        reactor.join().expect("no more threads than allowed");
    }
}

/// The program's own code makes the error of a job that panics. If that panics too, on the job's
/// thread, the program was aborted.
#[test]
fn a_job_whose_error_panics_when_it_is_made_ends_its_task() {
    #[derive(Debug)]
    struct Never;

    impl From<Interrupted> for Never {
        fn from(why: Interrupted) -> Self {
            panic!("it was not to be interrupted, but {why}");
        }
    }

    impl std::fmt::Display for Never {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("never")
        }
    }

    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let fine = handle.defer_to_thread(|_| Ok::<_, Never>(7));
    let fine = outcome(&reactor, fine);
    assert!(matches!(fine, Ok(7)), "{fine:?}");
    let job = handle.defer_to_thread(|_| -> Result<(), Never> { panic!("on purpose") });
    let result = outcome(&reactor, handle.spawn(job));
    assert!(
        matches!(result, Err(Interrupted::Panicked(_))),
        "{result:?}"
    );
}
