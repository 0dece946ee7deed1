//! Round trips of jobs on threads, compared with other ways to run them.

use std::{
    cell::Cell,
    hint::black_box,
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use entwined::{
    Handle, Standalone,
    deferred::{Interrupted, all},
};

/// Concurrent jobs in the benchmarks with many.
const MANY: u64 = 1_000;

/// Returns how long `body` takes as a task of a reactor.
fn on_a_reactor<F: Future + 'static>(body: impl FnOnce(Handle) -> F) -> Duration {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let future = body(handle.clone());
    let time = Rc::new(Cell::new(Duration::ZERO));
    let taken = time.clone();
    handle.clone().spawn(async move {
        let start = Instant::now();
        future.await;
        taken.set(start.elapsed());
        handle.stop();
    });
    reactor.run().expect("it runs");
    time.get()
}

fn on_tokio(body: impl Future) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        body.await;
        start.elapsed()
    })
}

fn there_and_back(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an empty job, there and back");
    group.bench_function("entwined", |bench| {
        bench.iter_custom(|rounds| {
            on_a_reactor(|handle| async move {
                for round in 0..rounds {
                    let job = handle.defer_to_thread(move |_| Ok::<_, Interrupted>(round));
                    assert_eq!(job.await, Ok(round));
                }
            })
        });
    });
    group.bench_function("tokio's spawn_blocking", |bench| {
        bench.iter_custom(|rounds| {
            on_tokio(async {
                for round in 0..rounds {
                    assert_eq!(
                        tokio::task::spawn_blocking(move || round)
                            .await
                            .expect("no panic"),
                        round
                    );
                }
            })
        });
    });
    group.bench_function("two bare channels", |bench| {
        let (ask, asked) = mpsc::channel::<u64>();
        let (answer, answered) = mpsc::channel();
        let other = thread::spawn(move || asked.iter().try_for_each(|number| answer.send(number)));
        bench.iter(|| {
            ask.send(black_box(1)).expect("it listens");
            answered.recv().expect("it answers")
        });
        drop(ask);
        other.join().expect("no panic").expect("all were taken");
    });
    group.finish();
}

fn many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 empty jobs at once");
    group.bench_function("entwined", |bench| {
        bench.iter_custom(|rounds| {
            on_a_reactor(|handle| async move {
                for _ in 0..rounds {
                    let jobs = (0..MANY).map(|number| {
                        handle.defer_to_thread(move |_| Ok::<_, Interrupted>(number))
                    });
                    assert_eq!(
                        all(jobs.collect::<Vec<_>>()).await.expect("results").len() as u64,
                        MANY
                    );
                }
            })
        });
    });
    group.bench_function("tokio's spawn_blocking", |bench| {
        bench.iter_custom(|rounds| {
            on_tokio(async {
                for _ in 0..rounds {
                    let jobs: Vec<_> = (0..MANY)
                        .map(|number| tokio::task::spawn_blocking(move || number))
                        .collect();
                    for job in jobs {
                        black_box(job.await.expect("no panic"));
                    }
                }
            })
        });
    });
    group.finish();
}

criterion_group!(benches, there_and_back, many);
criterion_main!(benches);
