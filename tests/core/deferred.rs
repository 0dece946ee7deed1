//! The behaviours of Deferreds, numbered as in the list of behaviours.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use entwined::{
    Standalone,
    deferred::{
        ChainError, Deferred, DeferredLock, DeferredQueue, DeferredSemaphore, Full, Interrupted,
        RaceError, Resolver, all, all_or_cancel, any, gather, race,
    },
};

type Text = Deferred<u32, String>;

#[track_caller]
fn pair() -> (Resolver<u32, String>, Text) {
    Deferred::new()
}

fn ok(value: u32) -> Result<u32, String> {
    Ok(value)
}

fn taken<T: fmt::Debug, E: ChainError>(deferred: Deferred<T, E>) -> Result<T, E> {
    deferred.take().expect("the chain has fired")
}

/// Returns what is logged while `function` runs.
fn logged(function: impl FnOnce()) -> String {
    struct Log(Arc<Mutex<String>>);

    impl tracing::Subscriber for Log {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            struct Fields<'a>(&'a mut String);
            impl tracing::field::Visit for Fields<'_> {
                fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                    self.0.push_str(&format!("{value:?}\n"));
                }
            }
            event.record(&mut Fields(&mut self.0.lock().unwrap()));
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let log = Arc::new(Mutex::new(String::new()));
    tracing::subscriber::with_default(Log(log.clone()), function);
    Arc::into_inner(log)
        .expect("nobody else has it")
        .into_inner()
        .unwrap()
}

#[test]
fn d01_callbacks_run_in_order_each_with_the_last_result() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (resolver, deferred) = pair();
    let (inner_resolver, inner) = pair();
    let note = |log: &Rc<RefCell<Vec<u32>>>| {
        let log = log.clone();
        move |value| {
            log.borrow_mut().push(value);
            ok(value + 1)
        }
    };
    let end = deferred
        .add_callback(note(&log))
        .add_callback(note(&log))
        .add_callback(move |value| inner.map(move |inner| inner + value))
        .add_callback(note(&log));
    resolver.resolve(1);
    assert_eq!(
        *log.borrow(),
        [1, 2],
        "the chain waits for the Deferred that a callback returned"
    );
    assert!(!end.is_ready());
    inner_resolver.resolve(100);
    assert_eq!(*log.borrow(), [1, 2, 103]);
    assert_eq!(taken(end), Ok(104));
}

#[test]
fn d02_an_error_skips_to_the_next_errback_which_may_recover() {
    let (resolver, deferred) = pair();
    let end = deferred
        .add_callback(|_| -> Result<u32, String> { panic!("an error passes by a callback") })
        .add_errback(|error| if error == "wrong" { ok(7) } else { Err(error) })
        .add_errback(|_| -> Result<u32, String> { panic!("a value passes by an errback") })
        .add_both(|result| result.map(|value| value + 1))
        .add_callback(|value| {
            if value == 8 {
                Err("again".to_owned())
            } else {
                ok(value)
            }
        })
        .add_both(|result| ok(result.unwrap_err().len() as u32));
    resolver.reject("wrong".to_owned());
    assert_eq!(taken(end), Ok(5));
}

#[test]
fn d03_adding_to_one_that_has_fired_runs_at_once() {
    let called = Rc::new(Cell::new(false));
    let seen = called.clone();
    let end = Text::ready(Ok(1)).add_callback(move |value| {
        seen.set(true);
        ok(value)
    });
    assert!(called.get());
    // The same inside a callback of another chain.
    let inside = Text::ready(Ok(1))
        .add_callback(|value| taken(Text::ready(Ok(value)).map(|value| value + 1)));
    assert_eq!(taken(inside), Ok(2));
    assert_eq!(taken(end), Ok(1));
}

/// ```compile_fail,E0382
/// let (resolver, _deferred) = entwined::deferred::Deferred::<u32>::new();
/// resolver.resolve(1);
/// resolver.resolve(2);
/// ```
#[test]
fn d04_firing_twice_cannot_be_written() {
    // `resolve` consumes the resolver. The crate's documentation has this as a test that must not
    // compile.
    let (resolver, deferred) = pair();
    resolver.resolve(1);
    assert_eq!(taken(deferred), Ok(1));
}

const MANY: u32 = 100_000;

#[test]
fn d05_a_hundred_thousand_callbacks_do_not_grow_the_stack() {
    let (resolver, mut deferred) = pair();
    for _ in 0..MANY {
        deferred = deferred.add_callback(|value| ok(value + 1));
    }
    resolver.resolve(0);
    assert_eq!(taken(deferred), Ok(MANY));
}

#[test]
fn d05_a_hundred_thousand_deferreds_returned_by_callbacks_do_not_grow_the_stack() {
    let (resolver, first) = pair();
    let mut deferred = first;
    for _ in 0..MANY {
        let inner = deferred;
        deferred = Text::ready(Ok(0)).add_callback(move |_| inner);
    }
    resolver.resolve(3);
    assert_eq!(taken(deferred), Ok(3));
}

#[test]
fn d05_a_hundred_thousand_nested_combinators_do_not_grow_the_stack() {
    let (resolver, first) = pair();
    let mut deferred = first;
    for _ in 0..MANY {
        deferred = all([deferred]).map(|values| values[0]);
    }
    resolver.resolve(3);
    assert_eq!(taken(deferred), Ok(3));
}

#[test]
fn d05_long_chains_are_cancelled_and_dropped_without_growing_the_stack() {
    let chain = || {
        let (resolver, mut deferred) = pair();
        for _ in 0..MANY {
            deferred = all([deferred.add_callback(ok)]).map(|values| values[0]);
        }
        (resolver, deferred)
    };
    let (resolver, deferred) = chain();
    deferred.cancel();
    assert!(resolver.is_cancelled());
    assert_eq!(taken(deferred), Err(Interrupted::Cancelled.into()));
    let (resolver, deferred) = chain();
    drop(deferred);
    drop(resolver);
    let (resolver, deferred) = chain();
    drop(resolver);
    drop(deferred);
}

#[test]
fn d05_a_hundred_thousand_waiters_do_not_grow_the_stack() {
    let (lock, order) = (DeferredLock::new(), Rc::new(Cell::new(0)));
    let held = taken(lock.acquire()).unwrap();
    for number in 0..MANY {
        let order = order.clone();
        drop(lock.acquire().map(move |permit| {
            assert_eq!(order.replace(number + 1), number);
            drop(permit);
        }));
    }
    drop(held);
    assert_eq!(order.get(), MANY);
    assert!(!lock.is_locked());

    // Each passes on what it has got.
    let (queue, last) = (DeferredQueue::new(1, MANY as usize), Rc::new(Cell::new(0)));
    for _ in 0..MANY {
        let (queue_, last) = (queue.clone(), last.clone());
        drop(queue.get().unwrap().map(move |number: u32| {
            last.set(number);
            queue_.put(number + 1).unwrap();
        }));
    }
    queue.put(1).unwrap();
    assert_eq!((last.get(), queue.len()), (MANY, 1));

    // Each of them goes before it has taken what it was given.
    let queue = DeferredQueue::new(1, MANY as usize);
    let takers: Vec<_> = (0..MANY).map(|_| queue.get().unwrap()).collect();
    queue.put(7).unwrap();
    drop(takers);
    assert_eq!(taken(queue.get().unwrap()), Ok(7));
}

/// Who asks inside a callback of the one before comes behind those who have asked before.
#[test]
fn d11_nobody_overtakes_those_that_wait_for_a_lock() {
    let (lock, order) = (DeferredLock::new(), Rc::new(RefCell::new(Vec::new())));
    let held = taken(lock.acquire()).unwrap();
    let note = |number: u32| {
        let order = order.clone();
        move |permit| {
            order.borrow_mut().push(number);
            drop(permit);
        }
    };
    drop(lock.acquire().map({
        let (lock, first, last) = (lock.clone(), note(1), note(3));
        move |permit| {
            first(permit);
            drop(lock.acquire().map(last));
        }
    }));
    drop(lock.acquire().map(note(2)));
    drop(held);
    assert_eq!(*order.borrow(), [1, 2, 3]);
    assert!(!lock.is_locked());
}

#[test]
fn d06_cancel_calls_the_canceller_once_and_ends_the_chain() {
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    let (resolver, deferred) =
        Deferred::<u32, String>::with_canceller(move || count.set(count.get() + 1));
    let seen = Rc::new(RefCell::new(None));
    let note = seen.clone();
    let end = deferred.add_errback(move |error| {
        *note.borrow_mut() = Some(error);
        ok(9)
    });
    end.cancel();
    end.cancel();
    assert_eq!(calls.get(), 1);
    assert_eq!(seen.borrow().as_deref(), Some("it was cancelled"));
    assert!(resolver.is_cancelled());
    resolver.resolve(1);
    assert_eq!(taken(end), Ok(9), "a late result is dropped");
}

#[test]
fn d06_a_canceller_may_give_the_result_itself() {
    let place = Rc::new(RefCell::new(None::<Resolver<u32, String>>));
    let (resolver, deferred) = Deferred::with_canceller({
        let place = place.clone();
        move || place.take().unwrap().resolve(5)
    });
    *place.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert_eq!(taken(deferred), Ok(5));
}

#[test]
fn d06_cancel_goes_to_the_deferred_that_the_chain_waits_for() {
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    let (inner_resolver, inner) =
        Deferred::<u32, String>::with_canceller(move || count.set(count.get() + 1));
    let (resolver, deferred) = pair();
    let end = deferred.add_callback(move |_| inner);
    resolver.resolve(1);
    end.cancel();
    assert_eq!(calls.get(), 1);
    assert!(inner_resolver.is_cancelled());
    assert_eq!(taken(end), Err(Interrupted::Cancelled.into()));
}

#[test]
fn d06_cancel_after_the_end_does_nothing_and_a_late_result_is_dropped_with_what_it_holds() {
    let end = Text::ready(Ok(1));
    end.cancel();
    assert_eq!(taken(end), Ok(1));

    let held = Rc::new(());
    let (resolver, deferred) = Deferred::<Rc<()>, String>::new();
    deferred.cancel();
    resolver.resolve(held.clone());
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(taken(deferred).is_err());
}

#[test]
fn d07_a_timeout_cancels_says_so_and_leaves_no_timer() {
    let reactor = Standalone::new().unwrap();
    let handle = reactor.handle();
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    let (_resolver, slow) =
        Deferred::<u32, Interrupted>::with_canceller(move || count.set(count.get() + 1));
    let (fast_resolver, fast) = Deferred::<u32, Interrupted>::new();
    let fast = fast.add_timeout(&handle, Duration::from_secs(3600));
    let slow = slow.add_timeout(&handle, Duration::from_millis(1));
    let stop = handle.clone();
    let slow = slow.add_both(move |result| {
        stop.stop();
        result
    });
    assert_eq!(handle.metrics().timers, 2);
    fast_resolver.resolve(1);
    assert_eq!(handle.metrics().timers, 1, "the result came first");
    reactor.run().unwrap();
    assert_eq!(calls.get(), 1);
    assert_eq!(taken(slow), Err(Interrupted::TimedOut));
    assert_eq!(taken(fast), Ok(1));
}

#[test]
fn d08_dropping_the_producer_ends_the_chain_with_an_error() {
    let (resolver, deferred) = pair();
    let end = deferred.add_errback(|error| Err::<u32, String>(format!("so: {error}")));
    drop(resolver);
    assert_eq!(
        taken(end),
        Err("so: its producer was dropped without a result".to_owned())
    );
}

#[test]
fn d09_an_error_that_nobody_handled_is_reported_with_where_it_was_made() {
    let line = line!() + 1;
    let (resolver, deferred) = pair();
    let log = logged(|| {
        resolver.reject("lost".to_owned());
        drop(deferred.add_callback(ok));
    });
    assert!(log.contains("lost"), "{log}");
    assert!(log.contains(&format!("deferred.rs:{line}")), "{log}");
    assert_eq!(log.matches("lost").count(), 1, "{log}");

    // Also if it fails after the Deferred was dropped.
    let (resolver, deferred) = pair();
    drop(deferred);
    assert!(logged(|| resolver.reject("late".to_owned())).contains("late"));
}

#[test]
fn d09_a_handled_error_is_not_reported() {
    let log = logged(|| {
        let (resolver, deferred) = pair();
        drop(deferred.add_errback(|_| ok(0)));
        resolver.reject("handled".to_owned());
        let (resolver, deferred) = pair();
        resolver.reject("taken".to_owned());
        assert!(taken(deferred).is_err());
        // A cancelled Deferred: nobody wanted its result.
        let (_resolver, deferred) = pair();
        deferred.cancel();
    });
    assert_eq!(log, "");
}

#[test]
fn d10_all_gives_the_values_in_order_and_nothing_at_once() {
    let (first_resolver, first) = pair();
    let (second_resolver, second) = pair();
    let both = all([first, second]);
    second_resolver.resolve(2);
    assert!(!both.is_ready());
    first_resolver.resolve(1);
    assert_eq!(taken(both), Ok(vec![1, 2]));
    assert_eq!(taken(all(Vec::<Text>::new())), Ok(Vec::new()));

    let mixed = gather((
        Text::ready(Ok(1)),
        Deferred::<&str, String>::ready(Ok("two")),
    ));
    assert_eq!(taken(mixed), Ok((1, "two")));
}

#[test]
fn d10_the_first_error_cancels_the_others_only_if_asked() {
    let (first_resolver, first) = pair();
    let (second_resolver, second) = pair();
    let both = all([first, second]);
    first_resolver.reject("wrong".to_owned());
    assert_eq!(taken(both), Err("wrong".to_owned()));
    assert!(!second_resolver.is_cancelled());

    let (first_resolver, first) = pair();
    let (second_resolver, second) = pair();
    let both = all_or_cancel([first, second]);
    first_resolver.reject("wrong".to_owned());
    assert_eq!(taken(both), Err("wrong".to_owned()));
    assert!(second_resolver.is_cancelled());
}

#[test]
fn d10_race_gives_the_first_success_and_cancels_the_rest() {
    let (first_resolver, first) = pair();
    let (second_resolver, second) = pair();
    let (third_resolver, third) = pair();
    let winner = race([first, second, third]);
    first_resolver.reject("slow".to_owned());
    second_resolver.resolve(2);
    assert_eq!(taken(winner), Ok((1, 2)));
    assert!(third_resolver.is_cancelled());
}

#[test]
fn d10_a_race_that_all_lose_gives_all_errors_and_one_of_none_is_an_error() {
    let lost = any([
        Text::ready(Err("a".to_owned())),
        Text::ready(Err("b".to_owned())),
    ]);
    assert_eq!(
        taken(lost),
        Err(RaceError::AllFailed(vec!["a".to_owned(), "b".to_owned()]))
    );
    assert_eq!(taken(race(Vec::<Text>::new())), Err(RaceError::Empty));
}

#[test]
fn d10_cancelling_a_combination_cancels_its_parts() {
    let (first_resolver, first) = pair();
    let (second_resolver, second) = pair();
    let both = all([first, second]);
    both.cancel();
    assert!(first_resolver.is_cancelled() && second_resolver.is_cancelled());
    assert_eq!(taken(both), Err(Interrupted::Cancelled.into()));
}

#[test]
fn d11_a_lock_is_given_in_order_and_the_cancelled_leave() {
    let lock = DeferredLock::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    let first = taken(lock.acquire()).unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|number| {
            let order = order.clone();
            lock.acquire().add_callback(move |permit| {
                order.borrow_mut().push(number);
                drop(permit);
                Ok(())
            })
        })
        .collect();
    waiting[1].cancel();
    assert!(lock.is_locked());
    drop(first);
    assert_eq!(*order.borrow(), [0, 2]);
    assert!(!lock.is_locked());
}

#[test]
fn d11_a_semaphore_limits_and_refuses() {
    let semaphore = DeferredSemaphore::bounded(2, 1);
    let _first = taken(semaphore.acquire().unwrap()).unwrap();
    let second = taken(semaphore.acquire().unwrap()).unwrap();
    let third = semaphore.acquire().unwrap();
    assert_eq!(semaphore.acquire().unwrap_err(), Full(()));
    drop(second);
    assert!(third.is_ready());
    let run = semaphore.run(|| Text::ready(Ok(3))).unwrap();
    assert!(!run.is_ready());
    drop(third);
    assert_eq!(taken(run), Ok(3));
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn d11_a_queue_is_first_in_first_out_and_refuses_beyond_its_limits() {
    let queue = DeferredQueue::new(2, 2);
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!(queue.put(3), Err(Full(3)));
    assert_eq!(taken(queue.get().unwrap()), Ok(1));
    assert_eq!(taken(queue.get().unwrap()), Ok(2));
    let leaves = queue.get().unwrap();
    let stays = queue.get().unwrap();
    assert_eq!(queue.get().unwrap_err(), Full(()));
    leaves.cancel();
    queue.put(4).unwrap();
    assert_eq!(taken(stays), Ok(4));
}

#[test]
fn d12_a_deferred_can_be_awaited_and_a_future_becomes_one() {
    let reactor = Standalone::new().unwrap();
    let handle = reactor.handle();
    let (resolver, deferred) = pair();
    let awaited = handle.defer(async move { deferred.await.map(|value| value + 1) });
    handle.call_soon(move || resolver.resolve(1));
    let stop = handle.clone();
    let end = awaited.add_both(move |result| {
        stop.stop();
        result
    });
    reactor.run().unwrap();
    assert_eq!(taken(end), Ok(2));
}

#[test]
fn d12_cancelling_a_task_drops_what_it_awaits() {
    let reactor = Standalone::new().unwrap();
    let handle = reactor.handle();
    let held = Rc::new(());
    let task = handle.spawn({
        let (held, sleep) = (held.clone(), handle.sleep(Duration::from_secs(3600)));
        async move {
            sleep.await;
            drop(held);
        }
    });
    let ended = Rc::new(Cell::new(false));
    handle.call_soon({
        let handle = handle.clone();
        let ended = ended.clone();
        move || {
            task.cancel();
            ended.set(task.is_ready());
            handle.clone().call_soon(move || handle.stop());
        }
    });
    reactor.run().unwrap();
    assert!(ended.get(), "the Deferred has fired with Cancelled at once");
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(handle.metrics().timers, 0);
}

#[test]
fn a_panic_in_a_callback_is_an_error_of_the_chain() {
    let end = Text::ready(Ok(1)).add_callback(|_| -> Result<u32, String> { panic!("no {}", 1) });
    assert_eq!(taken(end), Err("it panicked: no 1".to_owned()));
}

#[test]
fn d14_a_callback_may_open_a_nested_loop_and_the_chain_goes_on_afterwards() {
    let reactor = Standalone::new().unwrap();
    let handle = reactor.handle();
    let (resolver, deferred) = pair();
    let (other_resolver, other) = pair();
    let other_seen = Rc::new(Cell::new(0));
    let seen = other_seen.clone();
    other.map(move |value| seen.set(value));
    let end = deferred
        .add_callback({
            let handle = handle.clone();
            move |value| {
                // Another chain fires inside the nested loop.
                handle.call_later(Duration::from_millis(1), move || other_resolver.resolve(5));
                handle.wait(handle.sleep(Duration::from_millis(5))).unwrap();
                assert_eq!(other_seen.get(), 5);
                ok(value + 1)
            }
        })
        .add_both({
            let handle = handle.clone();
            move |result| {
                handle.stop();
                result
            }
        });
    handle.call_soon(move || resolver.resolve(1));
    reactor.run().unwrap();
    assert_eq!(taken(end), Ok(2));
}

#[test]
fn a_pause_holds_the_result_back() {
    let (resolver, deferred) = pair();
    let pause = deferred.pause();
    resolver.resolve(1);
    assert!(!deferred.is_ready());
    let seen = Rc::new(Cell::new(0));
    let note = seen.clone();
    let end = deferred.map(move |value| note.set(value));
    assert_eq!(seen.get(), 0);
    drop(pause);
    assert_eq!(seen.get(), 1);
    assert!(end.is_ready());
}

#[test]
fn an_error_of_ones_own_and_the_usual_boxed_one_are_both_possible() {
    #[derive(Debug, PartialEq)]
    enum Own {
        Wrong,
        None(Interrupted),
    }
    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{self:?}")
        }
    }
    impl From<Interrupted> for Own {
        fn from(why: Interrupted) -> Self {
            Own::None(why)
        }
    }
    let boxed: Deferred<i32> =
        Deferred::ready(Ok("12")).add_callback(|text: &str| Ok::<_, Box<dyn Error>>(text.parse()?));
    let own = boxed
        .add_errback(|_| Err(Own::Wrong))
        .add_callback(|_| Err::<(), _>(Own::Wrong));
    assert_eq!(taken(own), Err(Own::Wrong));
    let (resolver, deferred) = Deferred::<u32, Own>::new();
    drop(resolver);
    assert_eq!(taken(deferred), Err(Own::None(Interrupted::Abandoned)));
}

/// Polls a future once.
fn poll_once<F: Future + Unpin>(future: &mut F) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(future).poll(&mut context).is_pending());
}

#[test]
fn d12_dropping_a_deferred_that_is_awaited_cancels_it() {
    let cancelled = Rc::new(Cell::new(0));
    let count = cancelled.clone();
    let (resolver, deferred) =
        Deferred::<u32, String>::with_canceller(move || count.set(count.get() + 1));
    let mut chain = deferred.map(|value| value + 1).map_err(|error| error + "!");
    poll_once(&mut chain);
    let log = logged(move || drop(chain));
    assert_eq!(cancelled.get(), 1);
    assert!(resolver.is_cancelled());
    assert_eq!(log, "", "it is no error that nobody handles");

    // Not awaited: the work goes on.
    let count = cancelled.clone();
    let (resolver, deferred) =
        Deferred::<u32, String>::with_canceller(move || count.set(count.get() + 1));
    assert!(resolver.is_wanted());
    drop(deferred);
    assert_eq!(cancelled.get(), 1);
    assert!(!resolver.is_cancelled() && !resolver.is_wanted());
}

#[test]
fn d11_a_taker_that_is_dropped_leaves_the_queue() {
    let queue = DeferredQueue::new(8, 2);
    for _ in 0..10 {
        drop(queue.get().expect("those before have left"));
        let mut awaited = queue.get().expect("those before have left");
        poll_once(&mut awaited);
    }
    let got = Rc::new(Cell::new(0));
    let chain = {
        let got = got.clone();
        queue.get().expect("room").map(move |value| got.set(value))
    };
    // Its callback waits, so it counts.
    drop(chain);
    queue.put(1).expect("room");
    assert_eq!(got.get(), 1);
    drop(queue.get());
    queue.put(2).expect("room");
    assert_eq!(queue.len(), 1);
    assert_eq!(taken(queue.get().expect("one waits")), Ok(2));
}

#[test]
fn d11_a_value_that_came_too_late_for_its_taker_goes_to_the_next() {
    let queue = DeferredQueue::new(8, 8);
    let mut late = queue.get().expect("room");
    poll_once(&mut late);
    let next = queue.get().expect("room");
    queue.put(1).expect("room");
    // It has its value, and is dropped before it is polled again, as by a timeout.
    drop(late);
    assert_eq!(taken(next), Ok(1));
    queue.put(2).expect("room");
    queue.put(3).expect("room");
    drop(queue.get().expect("two are queued"));
    assert_eq!(taken(queue.get().expect("two are queued")), Ok(2));
    assert_eq!(taken(queue.get().expect("one is queued")), Ok(3));
}

/// It was lost.
#[test]
fn d11_a_value_that_won_a_race_that_nobody_reads_goes_to_the_next() {
    let queues = [DeferredQueue::new(8, 8), DeferredQueue::new(8, 8)];
    let parts = || queues.iter().map(|queue| queue.get().expect("room"));
    let raced = race(parts());
    queues[1].put(1).expect("room");
    assert!(raced.is_ready());
    drop(raced);
    assert_eq!(taken(queues[1].get().expect("one is queued")), Ok(1));
    let raced = any(parts());
    queues[0].put(2).expect("room");
    assert!(raced.is_ready());
    drop(raced);
    assert_eq!(taken(queues[0].get().expect("one is queued")), Ok(2));

    // Cancelling the loser makes it take a value after all.
    let (resolver, loser) = Deferred::<u32, Interrupted>::new();
    let taken_late = queues[1].clone();
    resolver.set_canceller(move || taken_late.put(3).expect("room"));
    let raced = race([
        loser,
        queues[1].get().expect("room"),
        queues[0].get().expect("room"),
    ]);
    queues[0].put(4).expect("room");
    assert_eq!(taken(raced), Ok((2, 4)));
    assert_eq!(taken(queues[1].get().expect("one is queued")), Ok(3));
}

#[test]
fn d11_a_dropped_waiter_leaves_a_lock_and_a_semaphore() {
    let lock = DeferredLock::new();
    let held = taken(lock.acquire()).expect("it is free");
    drop(lock.acquire());
    let mut awaited = lock.acquire();
    poll_once(&mut awaited);
    drop(awaited);
    let next = lock.acquire();
    drop(held);
    drop(taken(next).expect("those before have left"));
    assert!(!lock.is_locked());

    let semaphore = DeferredSemaphore::bounded(0, 1);
    for _ in 0..3 {
        drop(semaphore.acquire().expect("the one before has left"));
    }
    assert_eq!(semaphore.waiting(), 0);
}

/// Both had a value, and the one that came second was lost.
#[test]
fn a_value_that_loses_a_race_stays_in_its_queue() {
    let queues: Vec<_> = (0..3).map(|_| DeferredQueue::<u32>::new(4, 4)).collect();
    for (value, queue) in (1..).zip(&queues[..2]) {
        queue.put(value).expect("room");
    }
    let failed: Deferred<u32, Interrupted> = Deferred::ready(Err(Interrupted::TimedOut));
    let first = |queue: &DeferredQueue<u32>| queue.get().expect("room");
    let log = logged(|| {
        let parts = queues.iter().map(first).chain([failed]).collect::<Vec<_>>();
        let won = race(parts).take().expect("fired");
        assert_eq!(won, Ok((0, 1)));
    });
    assert_eq!(log, "");
    assert_eq!(queues[1].len(), 1);
    // Nor does the one that had none take a later one.
    queues[2].put(3).expect("room");
    assert_eq!(queues[2].len(), 1);
}

/// Nothing would ever fire it, and cancelling it would not end.
#[test]
fn a_callback_that_returns_its_own_chain_fails() {
    // The Deferred that the callback belongs to, and one further down the chain.
    for further in [false, true] {
        let place = Rc::new(RefCell::new(None::<Text>));
        let held = Rc::new(());
        let (resolver, deferred) = pair();
        let own = {
            let (place, held) = (place.clone(), held.clone());
            deferred.add_callback(move |_| {
                let _held = held;
                place.take().expect("it is there")
            })
        };
        let canceller = own.canceller();
        let seen = Rc::new(RefCell::new(None));
        let note = seen.clone();
        *place.borrow_mut() = Some(if further {
            own.add_both(move |result| {
                *note.borrow_mut() = Some(result.clone());
                result
            })
        } else {
            own
        });
        resolver.resolve(1);
        canceller.cancel();
        assert_eq!(Rc::strong_count(&held), 1);
        if further {
            let seen = seen.take().expect("it has fired").expect_err("no value");
            assert!(seen.contains("its own chain"), "{seen}");
        }
    }
}

#[test]
fn a_canceller_that_panics_does_not_keep_the_chain_from_its_end() {
    let bad = || Deferred::<u32, String>::with_canceller(|| panic!("no {}", 1));
    let (resolver, deferred) = bad();
    let log = logged(|| deferred.cancel());
    assert!(log.contains("no 1"), "{log}");
    assert!(resolver.is_cancelled());
    assert_eq!(taken(deferred), Err(Interrupted::Cancelled.into()));

    // The others that lose a race are cancelled, and the race has its result.
    let ((_keep, loser), (other, last), (resolver, winner)) = (bad(), pair(), pair());
    let won = race([loser, last, winner]);
    let log = logged(|| resolver.resolve(7));
    assert!(log.contains("no 1"), "{log}");
    assert!(other.is_cancelled());
    assert_eq!(taken(won), Ok((2, 7)));
}

#[test]
fn d11_nothing_is_logged_of_those_that_have_left_a_lock_or_a_queue() {
    let log = logged(|| {
        let lock = DeferredLock::new();
        let held = taken(lock.acquire()).expect("it is free");
        drop(lock.acquire());
        drop(held);
        let semaphore = DeferredSemaphore::bounded(0, 1);
        let queue = DeferredQueue::<u32>::new(1, 1);
        for _ in 0..3 {
            drop(semaphore.acquire().expect("the one before has left"));
            drop(queue.get().expect("the one before has left"));
        }
    });
    assert_eq!(log, "");
}

/// The value was lost, if its taker was dropped while it was held back.
#[test]
fn a_value_that_a_pause_holds_back_returns_to_its_queue() {
    for awaited in [false, true] {
        let queue = DeferredQueue::new(8, 8);
        queue.put(1).expect("room");
        let mut deferred = queue.get().expect("a value");
        let pause = deferred.pause();
        if awaited {
            poll_once(&mut deferred);
        }
        drop(deferred);
        drop(pause);
        assert_eq!(queue.len(), 1);
    }
    // One that is not wanted for a race.
    let (queue, other) = (DeferredQueue::new(8, 8), DeferredQueue::new(8, 8));
    queue.put(1).expect("room");
    other.put(2).expect("room");
    let deferred = queue.get().expect("a value");
    let pause = deferred.pause();
    let won = race([other.get().expect("a value"), deferred]);
    assert_eq!(won.take().expect("fired"), Ok((0, 2)));
    drop(pause);
    assert_eq!(queue.len(), 1);
}

/// Each taker that had left counted as room for a value.
#[test]
fn d11_takers_that_have_left_are_no_room_for_values() {
    let queue = DeferredQueue::new(1, 100);
    let accepted = Rc::new(Cell::new(0));
    let (count, same) = (accepted.clone(), queue.clone());
    let first = queue.get().expect("room").map(move |_| {
        count.set((1..=50).filter(|value| same.put(*value).is_ok()).count());
    });
    for _ in 0..50 {
        drop(queue.get().expect("room"));
    }
    queue.put(0).expect("it is taken");
    assert!(first.is_ready());
    assert_eq!((accepted.get(), queue.len()), (1, 1));
}

/// A chain whose error nobody waits for any more is quiet, also behind a conversion or a timeout.
#[test]
fn d09_a_conversion_or_a_timeout_does_not_make_an_unwanted_error_loud() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let log = logged(|| {
        let (_plain, first) = pair();
        first.cancel();
        drop(first);
        let (_converted, second) = pair();
        let second = second.map_err(|error| error);
        second.cancel();
        drop(second);
        let (_limited, third) = pair();
        let third = third.add_timeout(&handle, Duration::from_secs(60));
        third.cancel();
        drop(third);
    });
    assert_eq!(log, "");
    // Those of several, and of a task whose run ends.
    let log = logged(|| {
        let producers: Vec<_> = (0..9).map(|_| pair()).collect();
        let (_resolvers, texts): (Vec<_>, Vec<_>) = producers.into_iter().unzip();
        let mut texts = texts.into_iter();
        let mut two = || [texts.next().expect("one"), texts.next().expect("another")];
        let together = all(two());
        together.cancel();
        let first = any(two());
        first.cancel();
        let [one, other] = two();
        let both = gather((one, other));
        both.cancel();
        let [text, _] = two();
        let alone = DeferredLock::new().run(move || text);
        alone.cancel();
        drop((together, first, both, alone));
        let never = std::future::pending::<Result<(), String>>();
        drop(handle.defer(never));
        handle.call_soon_with(entwined::Handle::stop);
        reactor.run().expect("a run");
    });
    assert_eq!(log, "");
    // An error of the producer, or that the time is over, is one that somebody should see.
    let log = logged(|| {
        let (resolver, text) = pair();
        drop(text.map_err(|error| error));
        resolver.reject("no paper".to_owned());
    });
    assert!(log.contains("no paper"), "{log}");
    let log = logged(|| {
        let (_resolver, text) = pair();
        drop(text.add_timeout(&handle, Duration::ZERO));
        handle.call_later_with(Duration::from_millis(1), entwined::Handle::stop);
        reactor.run().expect("a run");
    });
    assert!(log.contains("the time limit passed"), "{log}");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("when it is dropped");
    }
}

/// A producer's canceller holds what it would end. If that panics when it is dropped, the chain
/// has its value all the same.
#[test]
fn a_canceller_that_panics_when_it_is_dropped_keeps_no_value_back() {
    let bomb = Bomb;
    let (resolver, text) = Deferred::<u32, String>::with_canceller(move || drop(bomb));
    let seen = Rc::new(Cell::new(0));
    let told = seen.clone();
    let chain = text.map(move |value| told.set(value));
    let log = logged(|| resolver.resolve(7));
    assert_eq!((seen.get(), taken(chain)), (7, Ok(())));
    assert!(log.contains("when it is dropped"), "{log}");
}

/// Whoever fires a Deferred has others to tell.
#[test]
fn a_value_that_panics_when_it_is_dropped_holds_up_nobody_else() {
    let lock = DeferredLock::new();
    let held = taken(lock.acquire());
    drop(lock.acquire().map(|permit| {
        drop(permit);
        Bomb
    }));
    let next = lock.acquire();
    let log = logged(|| drop(held));
    assert!(taken(next).is_ok());
    assert!(log.contains("when it is dropped"), "{log}");
}

/// The program's own code makes the error. Whoever waited did so for ever.
#[test]
fn a_conversion_that_panics_leaves_nobody_waiting() {
    #[derive(Debug)]
    struct Never;
    impl From<Interrupted> for Never {
        fn from(why: Interrupted) -> Self {
            panic!("it was not to be interrupted, but {why}");
        }
    }
    impl fmt::Display for Never {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("never")
        }
    }
    let reactor = Standalone::new().expect("a reactor");
    let make = || Deferred::<u32, Never>::new();
    let convert = |deferred: Deferred<u32, Never>| deferred.map_err(|_| "gone".to_owned());

    // By the producer, by cancelling, and by a callback that panics.
    let (resolver, deferred) = make();
    let converted = convert(deferred);
    drop(resolver);
    let abandoned = Err(Interrupted::Abandoned.to_string());
    assert_eq!(taken(converted), abandoned);
    let (_resolver, deferred) = make();
    let canceller = deferred.canceller();
    let converted = convert(deferred.map(|value| value + 1));
    canceller.cancel();
    assert_eq!(taken(converted), abandoned);
    let (resolver, deferred) = make();
    let converted = convert(deferred.map(|_| panic!("on purpose")));
    resolver.resolve(1);
    assert_eq!(taken(converted), abandoned);

    // In a callback's Deferred, in a combination, in a race, and for a task.
    let (resolver, deferred) = make();
    let outer = Deferred::<_, Never>::ready(Ok(())).add_callback(|()| deferred);
    let converted = convert(outer);
    drop(resolver);
    assert_eq!(taken(converted), abandoned);
    let (resolver, deferred) = make();
    let all = all([deferred]).map_err(|_| "gone".to_owned());
    drop(resolver);
    assert_eq!(taken(all), Err(Interrupted::Abandoned.to_string()));
    let (resolver, deferred) = make();
    let race = race([deferred]);
    drop(resolver);
    assert!(matches!(taken(race), Err(RaceError::AllFailed(_))));
    let (resolver, deferred) = make();
    let task = reactor.handle().spawn(deferred);
    reactor.handle().call_soon(|| drop(resolver));
    let result = reactor
        .block_on(async { Ok::<_, entwined::reactor::RunError>(task.await.map(|_| ())) })
        .expect("a run");
    assert!(
        matches!(result, Err(Interrupted::Panicked(_))),
        "{result:?}"
    );
}
