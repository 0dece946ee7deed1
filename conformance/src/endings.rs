//! What ends in the middle of something, and what is waited for meanwhile: behaviours 62 to 66.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    future::{Future, poll_fn, ready},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use entwined::{
    Handle,
    deferred::{Deferred, DeferredLock, DeferredQueue, Interrupted},
    service::{Service, Services, Starting, Stopping},
};

use super::rig::{Count, Log, Rig, Scripted, dial, ms};

struct Dropped(Arc<AtomicUsize>, thread::ThreadId);

impl Dropped {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        Dropped(count.clone(), thread::current().id())
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if thread::current().id() == self.1 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn b62_a_reactor_that_goes_while_others_wake_and_post_drops_everything_on_its_thread() {
    const ROUNDS: usize = 15;
    const TASKS: usize = 100;
    let (tasks, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (posted, lost) = (Arc::new(AtomicUsize::new(0)), Count::default());
    for _ in 0..ROUNDS {
        let rig = Rig::new();
        let lose = lost.clone();
        let (_server, address) = rig.serve_each(move || {
            let lose = lose.clone();
            Scripted::new().lost(move |_| lose.add(1))
        });
        let wakers = Rc::new(RefCell::new(Vec::<Waker>::new()));
        for _ in 0..TASKS {
            let (dropped, wakers) = (Dropped::new(&tasks), wakers.clone());
            let mut first = true;
            rig.handle.spawn(async move {
                let _dropped = dropped;
                poll_fn(|cx| {
                    if std::mem::take(&mut first) {
                        wakers.borrow_mut().push(cx.waker().clone());
                    }
                    Poll::<()>::Pending
                })
                .await
            });
        }
        rig.harness.attach().expect("a run");
        let _peer = dial(address);
        let connected = rig.handle.clone();
        rig.host_until(|| wakers.borrow().len() == TASKS && connected.metrics().connections == 1);
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (over, wakers) = (over.clone(), wakers.borrow().clone());
                let (remote, calls, posted) = (rig.handle.remote(), calls.clone(), posted.clone());
                let home = thread::current().id();
                thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        wakers.iter().for_each(Waker::wake_by_ref);
                        let call = Dropped(calls.clone(), home);
                        if remote.post(move |_| drop(call)).is_ok() {
                            posted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            rig.harness.iterate(Some(ms(1)));
        }
        rig.harness.detach();
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no panic");
        }
    }
    assert_eq!(tasks.load(Ordering::Relaxed), ROUNDS * TASKS);
    assert_eq!(
        calls.load(Ordering::Relaxed),
        posted.load(Ordering::Relaxed)
    );
    assert_eq!(lost.get(), ROUNDS as u64);
}

pub(super) fn b64_dropping_a_task_cancels_what_it_awaits() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    rig.complete(async move {
        let cancelled = Count::default();
        let (resolver, deferred) = Deferred::<(), Interrupted>::with_canceller({
            let cancelled = cancelled.clone();
            move || cancelled.add(1)
        });
        let (queue, lock) = (DeferredQueue::<u32>::new(8, 1), DeferredLock::new());
        let held = lock.acquire().await.expect("it is free");
        let tasks = [
            handle.spawn(async move { drop(deferred.await) }),
            handle.spawn({
                let queue = queue.clone();
                async move { drop(queue.get().expect("room").await) }
            }),
            handle.spawn({
                let lock = lock.clone();
                async move { drop(lock.acquire().await) }
            }),
        ];
        handle.sleep(ms(1)).await;
        for task in tasks {
            task.cancel();
        }
        handle.sleep(ms(1)).await;
        assert_eq!(cancelled.get(), 1);
        assert!(resolver.is_cancelled());
        // A timeout drops what it has given up, too.
        let get = queue.get().expect("the one before has left");
        assert!(handle.timeout(ms(1), get).await.is_err());
        queue.put(7).expect("room");
        assert_eq!(queue.get().expect("room").await, Ok(7));
        drop(held);
        assert!(!lock.is_locked());
    });
}

pub(super) fn b65_a_panic_while_accepting_is_reported_and_costs_one_connection() {
    let rig = Rig::new();
    let (made, first) = (Count::default(), Cell::new(true));
    let seen = made.clone();
    let (server, address) = rig.serve_each(move || {
        assert!(!first.take(), "it cannot be built");
        let seen = seen.clone();
        Scripted::new().made(move |_| seen.add(1))
    });
    let handle = rig.handle.clone();
    let panics = Rc::new(Cell::new(0));
    let count = panics.clone();
    let _observer = rig.handle.observe(move |report| {
        if let entwined::reactor::Report::Panic { .. } = report {
            count.set(count.get() + 1);
        }
    });
    rig.harness.attach().expect("a run");
    let peers = [dial(address), dial(address)];
    let over = made.clone();
    while over.get() == 0 {
        rig.harness.iterate(Some(ms(1)));
    }
    assert_eq!(panics.get(), 1);
    assert_eq!(rig.take_panics().len(), 1);
    drop((server, peers));
    handle.stop();
    rig.host_until(|| !handle.is_running());
}

/// A service that takes its time, and may panic.
struct Slow {
    name: &'static str,
    log: Log,
    handle: Handle,
    /// How long it takes to start.
    time: Rc<Cell<Duration>>,
    panics: bool,
}

impl Service for Slow {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, _: &Handle) -> Starting {
        assert!(!self.panics, "it cannot start");
        let (log, name, sleep) = (
            self.log.clone(),
            self.name,
            self.handle.sleep(self.time.get()),
        );
        Box::pin(async move {
            sleep.await;
            log.add(format!("started {name}"));
            Ok(())
        })
    }

    fn stop(&self) -> Stopping {
        self.log.add(format!("stopped {}", self.name));
        Box::pin(ready(()))
    }
}

/// Two services, and how long the second takes to start.
fn two(rig: &Rig, panics: bool) -> (Services, Log, Rc<Cell<Duration>>) {
    let (services, log) = (Services::new("app", &rig.handle), Log::default());
    let time = Rc::new(Cell::new(ms(5)));
    let first = Rc::new(Cell::new(ms(5)));
    for (name, panics, time) in [("a", false, first), ("b", panics, time.clone())] {
        services.add(Slow {
            name,
            log: log.clone(),
            handle: rig.handle.clone(),
            time,
            panics,
        });
    }
    (services, log, time)
}

pub(super) fn b65_a_service_that_panics_has_failed_and_the_next_run_starts_as_new() {
    let rig = Rig::new();
    let (services, log, _) = two(&rig, true);
    for _ in 0..2 {
        let starting = services.start(&rig.handle);
        let error = rig.complete(async move { starting.await.map_err(|error| error.to_string()) });
        assert!(error.expect_err("it panics").contains("it cannot start"));
    }
    log.assert(&["started a", "stopped a", "started a", "stopped a"]);
}

type Ending = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error>>>>>;

pub(super) fn b66_starts_and_stops_are_done_in_order_or_refused() {
    let rig = Rig::new();
    let (services, log, _) = two(&rig, false);
    let handle = rig.handle.clone();
    rig.complete(async move {
        let run = |future: Ending| {
            handle.spawn(async move { future.await.map_err(|error| error.to_string()) })
        };
        let stop = |services: &Services| -> Ending {
            let stop = services.stop();
            Box::pin(async move {
                stop.await;
                Ok(())
            })
        };
        let first = run(services.start(&handle));
        handle.sleep(ms(1)).await;
        let stopped = run(stop(&services));
        let second = run(services.start(&handle));
        assert!(first.await.expect("no panic").is_err());
        assert_eq!(stopped.await, Ok(Ok(())));
        assert_eq!(second.await, Ok(Ok(())));
        run(stop(&services))
            .await
            .expect("no panic")
            .expect("it stops");
    });
    log.assert(&[
        "started a",
        "stopped a",
        "started a",
        "started b",
        "stopped b",
        "stopped a",
    ]);
}

pub(super) fn b66_a_run_that_ends_while_services_start_leaves_the_next_as_new() {
    let rig = Rig::new();
    let (services, log, time) = two(&rig, false);
    time.set(Duration::from_secs(1_000));
    let (handle, started) = (rig.handle.clone(), services.start(&rig.handle));
    let seen = log.clone();
    // The run ends in the middle of the start of the second.
    rig.complete(async move {
        handle.spawn(started);
        while seen.entries().is_empty() {
            handle.sleep(ms(1)).await;
        }
    });
    time.set(ms(1));
    let starting = services.start(&rig.handle);
    assert!(rig.complete(starting).is_ok());
    assert_eq!(
        log.entries()
            .iter()
            .filter(|entry| *entry == "started b")
            .count(),
        1
    );
}
