//! Functions that are called in each turn.

use std::{cell::Cell, rc::Rc, time::Duration};

use entwined::{
    Standalone,
    reactor::{Driver, Label, Origin, Report, Selector, TurnEnd},
};

#[test]
fn a_hook_is_called_once_in_each_turn_until_it_is_dropped_and_makes_none() {
    let driver = Driver::new(Rc::new(Selector::new().expect("a selector")), ());
    driver.start().expect("it is new");
    let handle = driver.handle();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let hook = handle.on_turn(move || counted.set(counted.get() + 1));
    assert_eq!(
        driver.next_turn(),
        entwined::reactor::NextTurn::OnEvents,
        "it does not ask for a turn"
    );
    for count in 1..=3 {
        driver.turn(Some(Duration::ZERO)).expect("a turn");
        assert_eq!(calls.get(), count);
    }
    drop(hook);
    driver.turn(Some(Duration::ZERO)).expect("a turn");
    assert_eq!(calls.get(), 3);
}

#[test]
fn what_a_hook_asks_for_is_done_in_the_same_turn_and_a_panic_in_it_is_reported() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let panics = Rc::new(Cell::new(0));
    let _observer = handle.observe({
        let panics = panics.clone();
        move |report| panics.set(panics.get() + u32::from(matches!(report, Report::Panic { .. })))
    });
    let _wrong = handle.on_turn(|| panic!("in a hook"));
    let _hook = handle.on_turn({
        let (handle, asked) = (handle.clone(), Cell::new(false));
        move || {
            if !asked.replace(true) {
                let (end, turns) = (handle.clone(), handle.metrics().turns);
                handle.call_soon(move || {
                    assert_eq!(end.metrics().turns, turns);
                    end.stop();
                });
            }
        }
    });
    // Causes the first turn.
    let _ = handle.call_later(Duration::from_millis(1), || ());
    reactor.run().expect("a run");
    assert!(panics.get() > 0);
}

/// Those that were to be called in the same turn were called once more.
#[test]
fn what_is_dropped_is_not_called_any_more() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let calls = Rc::new(Cell::new(0));
    let counted = || {
        let calls = calls.clone();
        move || calls.set(calls.get() + 1)
    };

    // A hook that drops the one behind it.
    let second = Rc::new(Cell::new(None));
    let _first = handle.on_turn({
        let second = second.clone();
        move || drop(second.take())
    });
    second.set(Some(handle.on_turn(counted())));

    // Two that are called at the end of the same turn.
    let other = Rc::new(Cell::new(None::<TurnEnd>));
    let origin = Origin::here(Label::CALL);
    let one = handle.on_turn_end(origin, {
        let other = other.clone();
        move |_| drop(other.take())
    });
    let call = counted();
    let two = handle.on_turn_end(origin, move |_| call());
    one.request();
    two.request();
    other.set(Some(two));

    // Observers.
    let behind = Rc::new(Cell::new(None));
    let _before = handle.observe({
        let behind = behind.clone();
        move |_| drop(behind.take())
    });
    let call = counted();
    behind.set(Some(handle.observe(move |_| call())));
    handle.call_soon(|| panic!("to be reported"));

    handle.call_soon_with(|handle| handle.stop());
    reactor.run().expect("a run");
    assert_eq!(calls.get(), 0);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

fn holding(bomb: Bomb) -> impl Fn() + 'static {
    move || {
        let _ = &bomb;
    }
}

/// The panic left `run`, or the drop of the reactor, and what came after it was not done.
#[test]
fn what_hooks_and_observers_hold_may_panic_when_it_is_dropped() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    // They drop themselves, so they go when they return.
    let slot = Rc::new(Cell::new(None));
    let (own, held) = (slot.clone(), holding(Bomb));
    slot.set(Some(handle.on_turn(move || {
        held();
        drop(own.take());
    })));
    let slot = Rc::new(Cell::new(None::<TurnEnd>));
    let (own, held) = (slot.clone(), holding(Bomb));
    let end = handle.on_turn_end(Origin::here(Label::CALL), move |_| {
        held();
        drop(own.take());
    });
    end.request();
    slot.set(Some(end));
    let slot = Rc::new(Cell::new(None));
    let (own, held) = (slot.clone(), holding(Bomb));
    slot.set(Some(handle.observe(move |_| {
        held();
        drop(own.take());
    })));
    handle.call_soon(|| panic!("to be reported"));
    handle.call_later_with(Duration::from_millis(1), |handle| handle.stop());
    reactor.run().expect("a run");
    // They stay until the reactor goes.
    handle.on_turn(holding(Bomb)).keep();
    let held = holding(Bomb);
    handle.observe(move |_| held()).keep();
    let kept = Rc::new(());
    handle.extension(|| Rc::new((kept.clone(), Cell::new(1))));
    handle.extension(|| Rc::new(Bomb));
    drop(reactor);
    assert_eq!(Rc::strong_count(&kept), 1, "it goes all the same");
}

/// The list of requests was borrowed while a hook that had dropped itself went.
#[test]
fn a_hook_that_drops_itself_may_take_another_with_it() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let origin = Origin::here(Label::CALL);
    let other = handle.on_turn_end(origin, |_| ());
    let slot = Rc::new(Cell::new(None::<TurnEnd>));
    let own = slot.clone();
    let end = handle.on_turn_end(origin, move |_| {
        let _ = &other;
        drop(own.take());
    });
    end.request();
    slot.set(Some(end));
    handle.call_later_with(Duration::from_millis(1), |handle| handle.stop());
    reactor.run().expect("a run");
    assert!(slot.take().is_none());
}

/// Those that were to be called after one that opened a dialog had to wait for its end, and so did
/// what asked for them in the dialog's turns.
#[test]
fn a_hook_that_makes_turns_does_not_hold_up_the_others() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let origin = Origin::here(Label::CALL);
    let calls = Rc::new(Cell::new(0));
    let other = {
        let calls = calls.clone();
        Rc::new(handle.on_turn_end(origin, move |_| calls.set(calls.get() + 1)))
    };
    let dialog = {
        let (calls, other) = (calls.clone(), other.clone());
        handle.on_turn_end(origin, move |handle| {
            // It has been asked for before, and is asked for again.
            for expected in 1..=3 {
                let (calls, own) = (calls.clone(), handle.clone());
                let called = handle.wait(own.timeout(
                    Duration::from_secs(5),
                    std::future::poll_fn(move |cx| match calls.get() {
                        count if count >= expected => std::task::Poll::Ready(()),
                        _ => {
                            cx.waker().wake_by_ref();
                            std::task::Poll::Pending
                        }
                    }),
                ));
                assert_eq!(called, Ok(Ok(())), "call {expected}");
                other.request();
            }
            handle.stop();
        })
    };
    dialog.request();
    other.request();
    reactor.run().expect("a run");
    assert!(calls.get() >= 3);
}
