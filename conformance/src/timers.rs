//! Timers: behaviours 11 to 20.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::Write,
    net::Ipv4Addr,
    pin::Pin,
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use futures_io::AsyncRead;

use super::{
    backend::backend,
    rig::{Count, Log, Random, Rig, Scripted, hold, ms, peer, read_exactly, read_to_end, stopper},
    sys::{processor_time, wake_ups},
};
use entwined::{
    Handle,
    protocol::Echo,
    reactor::{Timer, TimerError},
    task::LoopingCall,
    transport::tcp,
};

pub(super) fn b11_never_early() {
    let (rig, count) = (Rig::new(), Count::default());
    let mut random = Random::new();
    for _ in 0..300 {
        let delay = Duration::from_nanos(random.below(60_000_000));
        let (handle, count) = (rig.handle.clone(), count.clone());
        let due = handle.now() + delay;
        rig.handle.call_at(due, move || {
            let now = handle.now();
            assert!(now >= due, "a timer came {:?} early", due - now);
            count.add(1);
        });
    }
    rig.complete(count.reached(300));
}

pub(super) fn b11_late_by_less_than_a_millisecond_on_an_idle_loop() {
    let rig = Rig::new();
    let handle = rig.handle.clone();
    let mut late = rig.complete(async move {
        let mut late = Vec::new();
        // Fractions of milliseconds, to detect a loop that sleeps in whole milliseconds.
        for number in 0..41_u64 {
            let due = handle.now() + Duration::from_micros(2_000 + 137 * number);
            handle.sleep_until(due).await;
            late.push(handle.now() - due);
        }
        late
    });
    // On a busy machine most may be late. If the loop itself is late, so is each of them.
    late.sort();
    let (quartile, median) = (late[late.len() / 4], late[late.len() / 2]);
    println!(
        "{}: timers are late by {median:?} (median), {quartile:?} (lower quartile)",
        backend().name
    );
    assert!(
        quartile < ms(1),
        "timers are late by {quartile:?} (lower quartile)"
    );
}

pub(super) fn b12_due_at_the_same_instant_in_the_order_scheduled() {
    let (rig, log) = (Rig::new(), Log::default());
    let due = rig.handle.now() + ms(5);
    let expected: Vec<_> = (0..200).map(|number: u32| number.to_string()).collect();
    for number in &expected {
        rig.handle.call_at(due, log.adder(number));
    }
    rig.handle.call_at(due, stopper(&rig.handle));
    rig.run();
    assert_eq!(log.entries(), expected);
}

pub(super) fn b13_cancel_prevents_the_call() {
    let rig = Rig::new();
    let timers: Vec<_> = (0..50)
        .map(|_| rig.handle.call_later(ms(2), || panic!("it was cancelled")))
        .collect();
    let handle = rig.handle.clone();
    rig.complete(async move {
        assert!(timers.iter().all(Timer::is_pending));
        for timer in &timers {
            assert_eq!(timer.cancel(), Ok(()));
        }
        handle.sleep(ms(10)).await;
        assert!(!timers.iter().any(Timer::is_pending));
    });
}

pub(super) fn b13_a_second_cancel_says_so() {
    let rig = Rig::new();
    let timer = rig.handle.call_later(ms(2), || panic!("it was cancelled"));
    assert_eq!(timer.cancel(), Ok(()));
    assert_eq!(timer.cancel(), Err(TimerError::Cancelled));
    assert_eq!(timer.reset(ms(1)), Err(TimerError::Cancelled));
    let handle = rig.handle.clone();
    rig.complete(async move { handle.sleep(ms(5)).await });
    assert_eq!(timer.cancel(), Err(TimerError::Cancelled));
}

pub(super) fn b13_a_cancel_inside_or_after_its_own_call_says_so() {
    let (rig, count) = (Rig::new(), Count::default());
    let own = Rc::new(RefCell::new(None::<Timer>));
    let (inside, called) = (own.clone(), count.clone());
    let timer = rig.handle.call_later(ms(2), move || {
        let timer = inside.borrow();
        let timer = timer.as_ref().expect("it was put there");
        assert_eq!(timer.cancel(), Err(TimerError::Called));
        assert_eq!(timer.reset(ms(1)), Err(TimerError::Called));
        called.add(1);
    });
    *own.borrow_mut() = Some(timer);
    let handle = rig.handle.clone();
    rig.complete(async move {
        handle.sleep(ms(10)).await;
        assert_eq!(
            own.borrow().as_ref().expect("there").cancel(),
            Err(TimerError::Called)
        );
        // It is not called again, although a reset was attempted.
        handle.sleep(ms(5)).await;
        assert_eq!(count.get(), 1);
    });
}

/// Long enough for a reset to come before it, on a busy machine too.
const IN_TIME: Duration = ms(500);
const AFTERWARDS: Duration = ms(600);

const EARLY: Duration = ms(10);
const LATE: Duration = Duration::from_secs(30);

/// Resets a timer to `to` in the way that `arrange` chooses, and checks when it fires.
fn assert_reset(from: Duration, to: Duration, arrange: impl FnOnce(&Rig, Box<dyn FnOnce()>)) {
    let rig = Rig::new();
    let (called, reset_at) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let (at, handle) = (called.clone(), rig.handle.clone());
    let timer = rig.handle.call_later(from, move || {
        at.set(Some(handle.now()));
        handle.stop();
    });
    let (now, handle) = (reset_at.clone(), rig.handle.clone());
    arrange(
        &rig,
        Box::new(move || {
            now.set(Some(handle.now()));
            assert_eq!(timer.reset(to), Ok(()));
        }),
    );
    rig.run();
    let (called, reset_at) = (
        called.get().expect("called"),
        reset_at.get().expect("reset"),
    );
    let took = called - reset_at;
    assert!(took >= to, "it came {took:?} after it was reset to {to:?}");
    assert!(
        took < to + Duration::from_secs(5),
        "it came {took:?} after it was reset to {to:?}"
    );
}

fn from_a_timer(rig: &Rig, reset: Box<dyn FnOnce()>) {
    rig.handle.call_later(ms(1), reset);
}

fn from_a_connection_callback(rig: &Rig, reset: Box<dyn FnOnce()>) {
    let reset = Rc::new(Cell::new(Some(reset)));
    let (server, address) = rig.serve_each(move || {
        let reset = reset.clone();
        Scripted::new().data(move |_, _| (reset.take().expect("one byte only"))())
    });
    std::mem::forget(server);
    drop(peer(address, |mut stream| {
        stream.write_all(b"!").expect("written");
        let _ = read_to_end(&stream);
    }));
}

fn from_a_host_callback(rig: &Rig, reset: Box<dyn FnOnce()>) {
    rig.host_call(ms(1), reset);
}

pub(super) fn b14_reset_to_later_from_a_timer() {
    assert_reset(IN_TIME, AFTERWARDS, from_a_timer);
}

pub(super) fn b14_reset_to_later_from_a_connection_callback() {
    assert_reset(IN_TIME, AFTERWARDS, from_a_connection_callback);
}

pub(super) fn b14_reset_to_later_from_a_host_callback() {
    assert_reset(IN_TIME, AFTERWARDS, from_a_host_callback);
}

pub(super) fn b14_reset_to_earlier_from_a_timer() {
    assert_reset(LATE, EARLY, from_a_timer);
}

pub(super) fn b14_reset_to_earlier_from_a_connection_callback() {
    assert_reset(LATE, EARLY, from_a_connection_callback);
}

pub(super) fn b14_reset_to_earlier_from_a_host_callback() {
    assert_reset(LATE, EARLY, from_a_host_callback);
}

pub(super) fn b15_a_timer_set_from_a_host_callback_fires_on_time() {
    let rig = Rig::new();
    let late = Rc::new(RefCell::new(Vec::new()));
    for number in 0..15_u64 {
        let (handle, late) = (rig.handle.clone(), late.clone());
        rig.host_call(ms(5 + 20 * number), move || {
            let due = handle.now() + ms(5);
            let clock = handle.clone();
            handle.call_at(due, move || late.borrow_mut().push(clock.now() - due));
        });
    }
    let stop = stopper(&rig.handle);
    rig.host_call(ms(350), stop);
    rig.run();
    let late = late.take();
    assert_eq!(late.len(), 15);
    // The best, because a busy machine lets the thread wait for a processor. A backend that hears
    // of such a timer too late does so each time.
    let best = late.into_iter().min().expect("15 of them");
    assert!(
        best < ms(2),
        "timers set by the host are late by {best:?} at best"
    );
}

pub(super) fn b16_a_delay_of_centuries_is_harmless() {
    let rig = Rig::new();
    let year = Duration::from_secs(365 * 86_400);
    let delays = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_secs(i64::MAX as u64),
        300 * year,
        30_000 * year,
    ];
    let timers: Vec<_> = delays
        .map(|delay| {
            rig.handle
                .call_later(delay, || panic!("centuries have passed"))
        })
        .into();
    for delay in delays {
        let sleep = rig.handle.sleep(delay);
        rig.handle.spawn(async move {
            sleep.await;
            panic!("centuries have passed");
        });
    }
    let handle = rig.handle.clone();
    rig.complete(async move {
        let turns = handle.metrics().turns;
        handle.sleep(ms(100)).await;
        let turns = handle.metrics().turns - turns;
        assert!(turns < 20, "{turns} turns in 100 ms with nothing to do");
        assert_eq!(timers[0].reset(Duration::MAX), Ok(()));
        assert_eq!(timers[1].cancel(), Ok(()));
        assert_eq!(timers[2].reset(2 * year), Ok(()));
        handle.sleep(ms(5)).await;
        assert!(timers[0].is_pending() && timers[2].is_pending());
    });
}

pub(super) fn b16_zero_runs_on_the_next_turn_and_not_in_this_one() {
    let (rig, count) = (Rig::new(), Count::default());
    let schedule = {
        let (handle, count) = (rig.handle.clone(), count.clone());
        move || {
            let (clock, count, turn) = (handle.clone(), count.clone(), handle.metrics().turns);
            handle.call_later(Duration::ZERO, move || {
                assert!(
                    clock.metrics().turns > turn,
                    "it ran in the turn that scheduled it"
                );
                count.add(1);
            });
        }
    };
    // From each kind of work, with more of that kind queued behind it, and with timers that are not
    // due.
    let due = rig.handle.now();
    for _ in 0..10 {
        rig.handle.call_later(LATE, || {});
        let (task, handle) = (schedule.clone(), rig.handle.clone());
        rig.handle.call_at(due, schedule.clone());
        rig.handle.call_soon(schedule.clone());
        handle.spawn(async move { task() });
    }
    rig.complete(count.reached(30));
}

pub(super) fn b17_a_timer_that_reschedules_itself_at_zero_starves_nobody() {
    let rig = Rig::new();
    fn again(handle: Handle, rounds: Count) {
        rounds.add(1);
        handle
            .clone()
            .call_later(Duration::ZERO, move || again(handle, rounds));
    }
    let rounds = Count::default();
    again(rig.handle.clone(), rounds.clone());
    // It is not starved either.
    assert_all_served_and(&rig, rounds.reached(10));
}

/// Checks that a timer, a call, a post, a task, a peer and the host all get turns, and stops.
pub(super) fn assert_all_served(rig: &Rig) {
    assert_all_served_and(rig, async {});
}

/// As [`assert_all_served`]. Ends when `more` has ended too.
pub(super) fn assert_all_served_and(rig: &Rig, more: impl Future<Output = ()> + 'static) {
    let (served, host) = (Count::default(), served_by_host(rig));
    rig.handle.call_later(ms(2), served.adder());
    rig.handle.call_soon(served.adder());
    let (_server, address) = rig.serve_each(|| Echo);
    let remote = rig.handle.remote();
    let client = peer(address, move |mut stream| {
        for _ in 0..5 {
            stream.write_all(b"ping").expect("written");
            assert_eq!(read_exactly(&stream, 4).expect("an echo"), b"ping");
        }
        remote.call(|_| ()).expect("an answer");
    });
    let (task, yields) = (served.clone(), rig.handle.clone());
    rig.handle.spawn(async move {
        yields.sleep(ms(1)).await;
        task.add(1);
    });
    let handle = rig.handle.clone();
    rig.complete(async move {
        served.reached(3).await;
        host.reached(3).await;
        while !client.is_finished() {
            handle.sleep(ms(1)).await;
        }
        client.join().expect("the peer was served");
        more.await;
    });
}

/// Counts the host's own callbacks, one every few milliseconds.
fn served_by_host(rig: &Rig) -> Count {
    let count = Count::default();
    for number in 1..4 {
        rig.host_call(ms(3 * number), count.adder());
    }
    count
}

pub(super) fn b18_after_a_stall_each_timer_fires_once() {
    let (rig, count) = (Rig::new(), Count::default());
    for number in 0..100 {
        rig.handle.call_later(ms(1 + number), count.adder());
    }
    rig.host_call(ms(1), || thread::sleep(ms(300)));
    let handle = rig.handle.clone();
    let fired = count.clone();
    rig.complete(async move {
        fired.reached(100).await;
        handle.sleep(ms(5)).await;
        assert_eq!(fired.get(), 100);
    });
}

pub(super) fn b18_what_arrived_during_a_stall_is_read_before_deadlines_are_judged() {
    let rig = Rig::new();
    let listener = tcp::listen(&rig.handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_address().tcp().expect("it listens on TCP");
    let (go, going) = mpsc::channel();
    let (sent, sending) = mpsc::channel();
    let client = peer(address, move |mut stream| {
        going.recv().expect("a sign");
        stream.write_all(b"!").expect("written");
        sent.send(()).expect("somebody waits");
        stream
    });
    let handle = rig.handle.clone();
    rig.complete(async move {
        let mut stream = listener.accept().await.expect("a connection");
        handle.call_soon(move || {
            go.send(()).expect("the peer waits");
            sending.recv().expect("sent");
            hold(ms(100));
        });
        let mut buffer = [0];
        let received = handle
            .timeout(
                ms(50),
                poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer)),
            )
            .await;
        assert_eq!(
            received
                .expect("the deadline was checked first")
                .expect("a byte"),
            1
        );
    });
    client.join().expect("the peer");
}

pub(super) fn b18_a_looping_call_skips_what_it_missed_and_says_how_many() {
    let rig = Rig::new();
    let interval = ms(10);
    let calls = Rc::new(RefCell::new(Vec::new()));
    let (noted, handle) = (calls.clone(), rig.handle.clone());
    let start = handle.now();
    let looping = rig.handle.call_every(interval, move |missed| {
        noted.borrow_mut().push((handle.now() - start, missed))
    });
    // The host blocks the thread once.
    rig.host_call(ms(25), || hold(ms(200)));
    let handle = rig.handle.clone();
    rig.complete(async move {
        handle.sleep(ms(300)).await;
        assert!(looping.is_active());
        looping.cancel();
        handle.sleep(ms(20)).await;
    });
    let calls = calls.take();
    let mut stands_for = 0;
    for (at, missed) in &calls {
        stands_for += 1 + missed;
        let whole = (at.as_nanos() / interval.as_nanos()) as u64;
        assert!(
            stands_for == whole,
            "the call after {at:?} should make {whole} intervals full, not {stands_for}: {calls:?}"
        );
    }
    assert!(
        calls.iter().any(|call| call.1 >= 15),
        "no call reported what was missed: {calls:?}"
    );
    assert!(calls.len() <= 15, "missed calls were made later: {calls:?}");
    assert!(
        calls.last().expect("some").0 < ms(330) + ms(200),
        "it was called after it was cancelled"
    );
}

pub(super) fn b18_a_looping_call_ends_from_inside_itself() {
    let (rig, rounds) = (Rig::new(), Count::default());
    let own = Rc::new(RefCell::new(None));
    let (inside, counted) = (own.clone(), rounds.clone());
    let looping = rig.handle.call_every(Duration::from_micros(100), move |_| {
        counted.add(1);
        if counted.get() == 20 {
            let own: Option<LoopingCall> = inside.take();
            own.expect("it is set before the first call").cancel();
        }
    });
    *own.borrow_mut() = Some(looping);
    let (handle, counted) = (rig.handle.clone(), rounds.clone());
    rig.complete(async move {
        counted.reached(20).await;
        handle.sleep(ms(5)).await;
    });
    assert_eq!(rounds.get(), 20);
}

pub(super) fn b18_a_looping_call_that_is_always_late_starves_nobody() {
    let rig = Rig::new();
    // Dropping a looping call lets it go on.
    rig.handle.call_every(Duration::from_micros(10), |_| {
        hold(Duration::from_micros(30))
    });
    rig.handle
        .call_every(Duration::ZERO, |_| hold(Duration::from_micros(30)));
    assert_all_served(&rig);
}

pub(super) fn b19_an_idle_reactor_makes_no_wake_ups() {
    let rig = Rig::new();
    let (_server, _address) = rig.serve_each(|| Echo);
    let (remote, handle) = (rig.handle.remote(), rig.handle.clone());
    let seen = Rc::new(Cell::new(IDLE));
    let before = seen.clone();
    rig.handle.call_later(ms(20), move || {
        before.set((handle.metrics().turns, wake_ups(), processor_time()))
    });
    let silence = thread::spawn(move || {
        thread::sleep(Duration::from_secs(10));
        remote.post(|handle| handle.stop()).expect("there");
    });
    let measured = Rc::new(Cell::new(IDLE));
    let (after, handle) = (measured.clone(), rig.handle.clone());
    rig.handle
        .on_shutdown(entwined::reactor::Phase::Before, move || {
            after.set((handle.metrics().turns, wake_ups(), processor_time()));
            async { Ok(()) }
        })
        .keep();
    rig.run();
    silence.join().expect("the silence");
    let turns = measured.get().0 - seen.get().0;
    let wake_ups = measured.get().1.zip(seen.get().1);
    let wake_ups = wake_ups.map(|(after, before)| after - before);
    let time = measured.get().2 - seen.get().2;
    println!(
        "{}: {turns} turns, {time:?} at work, and {wake_ups:?} wake-ups of the thread, including \
         the last one",
        backend().name
    );
    // The turn in which the stop was posted, and the one that began the shutdown.
    assert!(turns <= 3, "{turns} turns in ten idle seconds");
    // The host may wake up a few times. A loop that polls would wake up hundreds of times.
    assert!(
        wake_ups.is_none_or(|count| count <= 30),
        "the thread woke up {wake_ups:?} times in ten idle seconds"
    );
    assert!(time < ms(100), "{time:?} at work in ten idle seconds");
}

/// Turns, wake-ups if they are counted, and processor time.
type Idle = (u64, Option<u64>, Duration);

const IDLE: Idle = (0, None, Duration::ZERO);

pub(super) fn b20_cancel_and_reset_stay_cheap_with_a_million_timers() {
    let few = cost_among(10_000);
    let many = cost_among(1_000_000);
    println!(
        "{}: 10,000 resets and 10,000 cancels take {few:?} among 10,000 timers, \
         {many:?} among 1,000,000",
        backend().name
    );
    // There are a hundred times as many timers. A linear cost would be a hundred times as high; a
    // logarithmic one about one and a half times, plus cache misses.
    assert!(
        many < few * 40,
        "it took {few:?} among 10,000 timers and {many:?} among 1,000,000"
    );
}

fn cost_among(number: u64) -> Duration {
    let rig = Rig::new();
    let mut random = Random::new();
    let mut delay = move || Duration::from_secs(3_600 + random.below(1_000_000));
    let timers: Vec<_> = (0..number)
        .map(|_| rig.handle.call_later(delay(), || {}))
        .collect();
    let handle = rig.handle.clone();
    let total = number as usize;
    assert_eq!(handle.metrics().timers, total);
    rig.complete(async move {
        let start = processor_time();
        let step = total / 10_000;
        for timer in timers.iter().step_by(step) {
            timer
                .reset(Duration::from_secs(1_800))
                .expect("it is pending");
        }
        for timer in timers.iter().step_by(step) {
            timer.cancel().expect("it is pending");
        }
        let took = processor_time() - start;
        assert_eq!(handle.metrics().timers, total - 10_000);
        // The loop still works.
        handle.sleep(ms(1)).await;
        took
    })
}
