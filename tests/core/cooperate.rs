//! Long work in steps on the loop's own thread.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use entwined::{
    Handle, Standalone,
    deferred::{DeferredQueue, Interrupted},
    thread::{WhenFull, channel},
};

use crate::run::run;

fn stop(handle: &Handle) -> impl FnOnce() + 'static {
    let handle = handle.clone();
    move || handle.stop()
}

/// Holds the thread, like a slow step.
fn work(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {}
}

#[test]
fn all_steps_are_made_in_order_and_the_iterator_goes_before_the_end_is_told() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let count = Rc::new(Cell::new(0));
    let steps = (0..100_000).map({
        let count = count.clone();
        move |number| {
            assert_eq!(count.get(), number);
            count.set(number + 1);
        }
    });
    let stop = stop(&handle);
    let done = handle.cooperate(steps).map(move |()| {
        assert_eq!((count.get(), Rc::strong_count(&count)), (100_000, 1));
        stop();
    });
    reactor.run().expect("it runs");
    assert_eq!(done.take().expect("fired"), Ok(()));
}

#[test]
fn a_step_that_takes_its_time_is_the_only_one_of_its_slice() {
    const STEPS: u32 = 10;
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let made = Rc::new(Cell::new(0));
    let steps = (0..STEPS).map({
        let made = made.clone();
        move |_| {
            work(Duration::from_millis(1));
            made.set(made.get() + 1);
        }
    });
    let _work = handle.cooperate(steps);
    // Turns by hand: each turn runs what was there when it began, so one slice.
    for turn in 0..STEPS {
        assert_eq!(made.get(), turn);
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(made.get(), STEPS);
}

#[test]
fn short_steps_share_a_slice_and_leave_room_for_others() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let made = Rc::new(Cell::new(0_u64));
    let work = handle.cooperate(std::iter::repeat_with({
        let made = made.clone();
        move || made.set(made.get() + 1)
    }));
    let turns = Rc::new(Cell::new(0));
    let stop = stop(&handle);
    handle.spawn({
        let (turns, handle) = (turns.clone(), handle.clone());
        async move {
            while turns.get() < 20 {
                turns.set(turns.get() + 1);
                handle.sleep(Duration::ZERO).await;
            }
            stop();
        }
    });
    reactor.run().expect("it runs");
    assert_eq!(turns.get(), 20);
    assert!(made.get() > 20 * 10, "{} steps in 20 turns", made.get());
    assert_eq!(work.take().expect("fired"), Err(Interrupted::Cancelled));
}

#[test]
fn cancelling_inside_a_step_makes_it_the_last() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let (made, work) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    let steps = std::iter::repeat_with({
        let (made, work) = (made.clone(), work.clone());
        move || {
            made.set(made.get() + 1);
            if made.get() == 5 {
                let canceller: entwined::deferred::Canceller =
                    work.take().expect("it was put there");
                canceller.cancel();
            }
        }
    });
    let (stop, told) = (stop(&handle), Rc::new(Cell::new(0)));
    let deferred = handle.cooperate(steps).add_both({
        let (made, told) = (made.clone(), told.clone());
        move |result| {
            assert_eq!(result, Err(Interrupted::Cancelled));
            told.set(made.get());
            stop();
            Ok::<_, Interrupted>(())
        }
    });
    work.set(Some(deferred.canceller()));
    reactor.run().expect("it runs");
    assert_eq!((made.get(), told.get()), (5, 5));
    assert_eq!(Rc::strong_count(&made), 1, "the iterator is gone");
}

#[test]
fn cancelling_from_outside_drops_the_iterator() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let made = Rc::new(Cell::new(0_u64));
    let work = handle.cooperate(std::iter::repeat_with({
        let made = made.clone();
        move || made.set(made.get() + 1)
    }));
    let stop = stop(&handle);
    handle.call_later(Duration::from_millis(5), {
        let (handle, made) = (handle.clone(), made.clone());
        move || {
            work.cancel();
            let before = made.get();
            handle.call_later(Duration::from_millis(1), move || {
                assert_eq!((made.get(), Rc::strong_count(&made)), (before, 2));
                stop();
            });
        }
    });
    reactor.run().expect("it runs");
    assert_eq!(Rc::strong_count(&made), 1);
}

#[test]
fn a_panicking_step_ends_it_with_its_message() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let stop = stop(&handle);
    let work = handle
        .cooperate((0..10).map(|number| assert!(number < 3, "step {number}")))
        .add_both(move |result| {
            stop();
            result
        });
    reactor.run().expect("it runs");
    assert_eq!(
        work.take().expect("fired"),
        Err(Interrupted::Panicked("step 3".into()))
    );
}

#[test]
fn a_step_in_which_the_run_ends_is_the_last() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let made = Rc::new(Cell::new(0));
    let work = handle.cooperate(std::iter::repeat_with({
        let (made, handle) = (made.clone(), handle.clone());
        move || {
            made.set(made.get() + 1);
            handle.stop();
            assert!(
                handle.wait(std::future::pending::<()>()).is_err(),
                "the run ends meanwhile"
            );
        }
    }));
    reactor.run().expect("it runs");
    assert_eq!(made.get(), 1);
    assert_eq!(work.take().expect("fired"), Err(Interrupted::Cancelled));
}

/// How many slow operations a task makes in its first poll. `operate` says whether there is a next.
fn in_a_poll(mut operate: impl AsyncFnMut(&Handle) -> bool + 'static) -> u32 {
    let reactor = Standalone::new().expect("a reactor");
    let (handle, made) = (reactor.handle(), Rc::new(Cell::new(0)));
    let _task = handle.spawn({
        let (handle, made) = (handle.clone(), made.clone());
        async move {
            while operate(&handle).await {
                work(Duration::from_millis(1));
                made.set(made.get() + 1);
            }
        }
    });
    reactor.turn(Some(Duration::ZERO)).expect("a turn");
    made.get()
}

#[test]
fn a_task_whose_operations_are_slow_makes_few_of_them_in_a_poll() {
    let made = in_a_poll(async |handle| handle.spend(1));
    assert!((1..=8).contains(&made), "{made} in a poll");
}

#[test]
fn a_task_that_is_slow_with_what_a_channel_has_takes_little_of_it_in_a_poll() {
    let (sender, mut receiver) = channel(64, WhenFull::Wait);
    for number in 0..64 {
        sender.send(number).expect("there is room");
    }
    let made = in_a_poll(async move |_| receiver.next().await.is_some());
    assert!((1..=8).contains(&made), "{made} in a poll");
}

#[test]
fn a_task_that_is_slow_with_what_a_queue_has_takes_little_of_it_in_a_poll() {
    let queue = DeferredQueue::new(64, 1);
    for number in 0..64 {
        queue.put(number).expect("there is room");
    }
    let made = in_a_poll(async move |_| queue.get().expect("a place").await.is_ok());
    assert!((1..=8).contains(&made), "{made} in a poll");
}

/// The 65th was there too, but the task had no share left to take it, and the time was over.
#[test]
fn what_is_there_counts_after_the_deadline_also_without_a_share() {
    run(|handle| async move {
        let (sender, mut receiver) = channel(500, WhenFull::Wait);
        for number in 0..500 {
            sender.send(number).expect("there is room");
        }
        let (mut taken, deadline) = (0, handle.now());
        handle.sleep(Duration::from_millis(5)).await;
        while let Ok(Some(_)) = handle.timeout_at(deadline, receiver.next()).await {
            taken += 1;
        }
        assert_eq!(taken, 500);
    });
}

/// One that uses up its share each time, and never ends, is late nevertheless.
#[test]
fn a_future_that_always_uses_up_its_share_may_be_late() {
    run(|handle| async move {
        let spender = handle.clone();
        let endless = poll_fn(move |cx| {
            while spender.spend(1) {}
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let late = handle.timeout(Duration::from_millis(1), endless).await;
        late.expect_err("it never ends");
    });
}
