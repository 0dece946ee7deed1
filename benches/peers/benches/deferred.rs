//! Deferreds compared with other ways to pass a result to a callback.

use std::{hint::black_box, rc::Rc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use entwined::deferred::{Deferred, Interrupted, all};
use futures::{FutureExt, channel::oneshot, executor::block_on};

type Number = Deferred<u64, Interrupted>;

/// Creates a Deferred, adds callbacks, fires it and reads the result.
fn chain(callbacks: usize) -> u64 {
    let (resolver, mut deferred) = Number::new();
    for _ in 0..callbacks {
        deferred = deferred.map(|value| black_box(value) + 1);
    }
    resolver.resolve(black_box(1));
    deferred.take().expect("it has fired").expect("a value")
}

fn deferreds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deferred");
    for callbacks in [1, 2, 11, 101] {
        group.bench_function(format!("{callbacks} callbacks"), |bench| {
            bench.iter(|| chain(callbacks))
        });
    }
    group.bench_function("an error past 10 callbacks to an errback", |bench| {
        bench.iter(|| {
            let (resolver, mut deferred) = Deferred::<u64, Interrupted>::new();
            for _ in 0..10 {
                deferred = deferred.map(|value| value + 1);
            }
            let end = deferred.add_errback(|_| Ok::<_, Interrupted>(7));
            resolver.reject(Interrupted::Cancelled);
            end.take().expect("it has fired")
        });
    });
    group.bench_function("all of 1,000", |bench| {
        bench.iter_batched(
            || {
                (0..1_000)
                    .map(|_| Number::new())
                    .unzip::<_, _, Vec<_>, Vec<_>>()
            },
            |(resolvers, deferreds)| {
                let all = all(deferreds);
                for resolver in resolvers {
                    resolver.resolve(1);
                }
                all.take().expect("it has fired").expect("values").len()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn others(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("others");
    group.bench_function("a boxed closure", |bench| {
        bench.iter(|| {
            let function: Box<dyn FnOnce(u64) -> u64> = Box::new(|value| black_box(value) + 1);
            black_box(function)(black_box(1))
        });
    });
    group.bench_function("two Rc and a boxed closure", |bench| {
        bench.iter(|| {
            let place = Rc::new(std::cell::Cell::new(0));
            let seen = place.clone();
            let function: Box<dyn FnOnce(u64)> =
                Box::new(move |value| seen.set(black_box(value) + 1));
            black_box(function)(black_box(1));
            black_box(Rc::new(place.get()))
        });
    });
    group.bench_function("futures oneshot and map", |bench| {
        bench.iter(|| {
            let (sender, receiver) = oneshot::channel::<u64>();
            let future = receiver.map(|value| black_box(value.unwrap_or(0)) + 1);
            let _ = sender.send(black_box(1));
            future.now_or_never()
        });
    });
    group.bench_function("futures oneshot and map, awaited", |bench| {
        bench.iter(|| {
            block_on(async {
                let (sender, receiver) = oneshot::channel::<u64>();
                let _ = sender.send(black_box(1));
                receiver
                    .map(|value| value.map(|value| black_box(value) + 1))
                    .await
            })
        });
    });
    group.bench_function("futures join_all of 1,000 oneshots", |bench| {
        bench.iter_batched(
            || {
                (0..1_000)
                    .map(|_| oneshot::channel::<u64>())
                    .unzip::<_, _, Vec<_>, Vec<_>>()
            },
            |(senders, receivers)| {
                let all = futures::future::join_all(receivers);
                for sender in senders {
                    let _ = sender.send(1);
                }
                block_on(all).len()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, deferreds, others);
criterion_main!(benches);
