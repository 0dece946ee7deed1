//! Jobs on threads: behaviour 26, and their results as Deferreds.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Barrier, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::rig::{Rig, ms, stopper};
use entwined::{
    deferred::{Deferred, Interrupted, all},
    reactor::{Handle, Phase},
    thread::{Config, Job, ThreadPool, WhenFull, channel},
};

/// Makes a pool with this many threads, and a queue large enough for the tests.
fn pool(threads: usize, idle: Duration) -> ThreadPool {
    ThreadPool::new(
        "conformance",
        Config {
            max_threads: threads,
            idle_timeout: idle,
            max_queued: 20_000,
            ..Config::default()
        },
    )
}

/// Queues a job on `pool`, which has room for it.
fn defer<T: Send + 'static>(
    pool: &ThreadPool,
    handle: &Handle,
    job: impl FnOnce(&Job) -> T + Send + 'static,
) -> Deferred<T, Interrupted> {
    pool.defer(handle, |this: &Job| Ok(job(this)))
}

pub(super) fn b26_the_result_of_a_job_arrives_on_the_loops_thread() {
    let (rig, here) = (Rig::new(), thread::current().id());
    let handle = rig.handle.clone();
    let (there, back) = rig.complete(async move {
        let job = handle.defer_to_thread(|_| Ok::<_, Interrupted>(thread::current().id()));
        job.map(|there| (there, thread::current().id()))
            .await
            .expect("a result")
    });
    assert_ne!(there, here);
    assert_eq!(back, here);
}

pub(super) fn b26_a_panicking_job_is_an_error_and_the_pool_lives() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let (panicked, next) = rig.complete(async move {
        let panicking =
            handle.defer_to_thread(|_| -> Result<(), Interrupted> { panic!("in a job") });
        (
            panicking.await,
            handle
                .defer_to_thread(|_| Ok::<_, Interrupted>("alive"))
                .await,
        )
    });
    assert_eq!(panicked, Err(Interrupted::Panicked("in a job".to_owned())));
    assert_eq!(next, Ok("alive"));
}

pub(super) fn b26_the_pool_grows_to_its_limit_and_not_beyond() {
    const THREADS: usize = 4;
    let (rig, pool) = (Rig::new(), pool(THREADS, ms(10_000)));
    let handle = rig.handle.clone();
    assert_eq!(pool.threads(), 0, "none before they are needed");
    let threads = rig.complete(async move {
        // Jobs continue only when this many of them run at once.
        let barrier = Arc::new(Barrier::new(THREADS));
        let jobs = (0..10 * THREADS).map(|_| {
            let barrier = barrier.clone();
            defer(&pool, &handle, move |_| {
                barrier.wait();
                thread::current().id()
            })
        });
        let mut threads = Vec::new();
        for thread in all(jobs.collect::<Vec<_>>()).await.expect("results") {
            if !threads.contains(&thread) {
                threads.push(thread);
            }
        }
        threads
    });
    assert_eq!(threads.len(), THREADS);
}

thread_local! {
    /// Dropped when the thread ends. When the last one is dropped, its channel closes.
    static END: RefCell<Option<mpsc::Sender<()>>> = const { RefCell::new(None) };
}

pub(super) fn b26_ten_thousand_jobs_leave_nothing_behind() {
    const THREADS: usize = 8;
    let (rig, pool) = (Rig::new(), pool(THREADS, ms(20)));
    let (handle, (end, ended), held) = (rig.handle.clone(), mpsc::channel(), Arc::new(()));
    let jobs: Vec<_> = (0..10_000_u32)
        .map(|number| {
            let (end, held) = (end.clone(), held.clone());
            defer(&pool, &handle, move |_| {
                END.set(Some(end));
                drop(held);
                number
            })
        })
        .collect();
    drop(end);
    assert!(pool.threads() <= THREADS);
    let results = rig.complete(async move { all(jobs).await.expect("results") });
    assert_eq!(results, (0..10_000).collect::<Vec<_>>());
    assert_eq!(
        ended.recv(),
        Err(mpsc::RecvError),
        "all threads that had a job have ended"
    );
    while pool.threads() > 0 {
        // A thread that found nothing to do may take a little longer.
        thread::yield_now();
    }
    assert_eq!(
        (Arc::strong_count(&held), rig.handle.metrics().tasks),
        (1, 0)
    );
}

/// Queues jobs that wait until the sender is used or dropped: more jobs than the reactor's own pool
/// has threads.
fn block(handle: &Handle) -> (mpsc::Sender<()>, Vec<Deferred<bool, Interrupted>>) {
    let (release, released) = mpsc::channel();
    let released = Arc::new(Mutex::new(released));
    let jobs = (0..100).map(|_| {
        let released = released.clone();
        handle.defer_to_thread(move |_| Ok(released.lock().expect("nobody panics").recv().is_ok()))
    });
    (release, jobs.collect())
}

pub(super) fn b26_what_has_a_pool_of_its_own_waits_behind_nobody() {
    let rig = Rig::new();
    let (handle, names) = (rig.handle.clone(), pool(1, ms(10_000)));
    let (release, blocked) = block(&handle);
    let found = rig.complete(async move { defer(&names, &handle, |_| "found").await });
    assert_eq!(found, Ok("found"));
    // The reactor did not wait for them.
    for job in blocked {
        assert_eq!(
            job.take().expect("it has fired"),
            Err(Interrupted::Cancelled)
        );
    }
    drop(release);
}

pub(super) fn b26_stopping_does_not_wait_for_an_abandoned_job() {
    let rig = Rig::new();
    let ((release, released), (begin, begun)) = (mpsc::channel::<()>(), mpsc::channel());
    let (tell, told) = mpsc::channel();
    rig.handle.defer_to_thread(move |job| {
        begin.send(()).expect("awaited");
        let _ = released.recv();
        tell.send(job.is_cancelled()).expect("awaited");
        Ok::<_, Interrupted>(())
    });
    begun.recv().expect("it begins");
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    // The job can continue only now.
    drop(release);
    assert_eq!(told.recv(), Ok(true), "it can see that nobody waits for it");
}

pub(super) fn b26_a_job_that_the_shutdown_waits_for_is_waited_for() {
    let (rig, saved) = (Rig::new(), Rc::new(Cell::new(false)));
    let (release, released) = mpsc::channel::<()>();
    let saving = rig
        .handle
        .defer_to_thread(move |_| Ok::<_, Interrupted>(released.recv().is_ok()));
    let noted = saved.clone();
    let before = move || async move {
        release.send(())?;
        noted.set(saving.await?);
        Ok(())
    };
    rig.handle.on_shutdown(Phase::Before, before).keep();
    rig.handle.call_soon(stopper(&rig.handle));
    rig.run();
    assert!(saved.get());
}

pub(super) fn b26_cancelling_takes_back_a_job_that_has_not_begun_and_tells_one_that_runs() {
    let (rig, pool) = (Rig::new(), pool(1, ms(10_000)));
    let (handle, (begin, begun)) = (rig.handle.clone(), mpsc::channel());
    let running = defer(&pool, &handle, move |job| {
        begin.send(()).expect("awaited");
        while !job.is_cancelled() {
            thread::yield_now();
        }
    });
    begun.recv().expect("it begins");
    let queued = defer(&pool, &handle, |_| unreachable!("it was taken back"));
    queued.cancel();
    running.cancel();
    let after = rig.complete(async move { defer(&pool, &handle, |_| "the thread is free").await });
    assert_eq!(after, Ok("the thread is free"));
    assert_eq!(
        running.take().expect("it has fired"),
        Err(Interrupted::Cancelled)
    );
    assert_eq!(
        queued.take().expect("it has fired"),
        Err::<(), _>(Interrupted::Cancelled)
    );
}

pub(super) fn b26_progress_comes_while_the_job_runs() {
    let rig = Rig::new();
    let (report, mut progress) = channel(1, WhenFull::DropOldest);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let job = rig.handle.defer_to_thread(move |_| {
        for part in 1..=3 {
            report.send(part).expect("it is read");
            may_go_on.recv().expect("it was read");
        }
        Ok::<_, Interrupted>("done")
    });
    let (parts, done) = rig.complete(async move {
        let mut parts = Vec::new();
        while let Some(part) = progress.next().await {
            parts.push(part);
            go_on.send(()).expect("the job waits");
        }
        (parts, job.await)
    });
    assert_eq!((parts, done), (vec![1, 2, 3], Ok("done")));
}
