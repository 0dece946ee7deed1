//! The reactor inside a calloop loop, seen from both sides.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    pin::Pin,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use calloop::{
    EventLoop, EventSource, Interest, Mode, Poll, PostAction, Readiness, Token, TokenFactory,
    generic::Generic,
    ping::make_ping,
    timer::{TimeoutAction, Timer},
};
use entwined::{
    reactor::{LifeError, Phase, Report},
    transport::tcp,
};
use entwined_calloop::{Attachment, Lent, NotLent, ReactorSource};
use futures_io::{AsyncRead, AsyncWrite};

/// The host's data.
#[derive(Default)]
struct State {
    log: Vec<&'static str>,
    done: bool,
    host: u32,
    network: u32,
}

/// Dispatches until the data says that it is done. If the loop sleeps forever, the limit fails the
/// test.
fn run(event_loop: &mut EventLoop<'_, State>, state: &mut State) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !state.done {
        let left = limit.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "nothing happened for 20 s; log: {:?}",
            state.log
        );
        event_loop.dispatch(left, state).unwrap();
    }
    state.done = false;
}

fn start() -> (EventLoop<'static, State>, Attachment<'static, State>, State) {
    let event_loop = EventLoop::try_new().unwrap();
    let network = entwined_calloop::attach(&event_loop.handle()).unwrap();
    (event_loop, network, State::default())
}

/// A callback that ends `run`.
fn done(data: &Lent<State>) -> impl FnOnce() + 'static {
    let data = data.clone();
    move || data.with(|state| state.done = true)
}

/// Checks the lower quartile: on a busy machine most may be late, but if the loop itself is late,
/// so is each of them.
fn assert_on_time(mut lateness: Vec<Duration>) {
    lateness.sort();
    let quartile = lateness[lateness.len() / 4];
    println!(
        "late by {quartile:?} (lower quartile), {:?} (worst)",
        lateness.last().unwrap()
    );
    assert!(quartile < Duration::from_millis(1), "late by {lateness:?}");
}

#[test]
fn timers_are_on_time_and_never_early() {
    let (mut event_loop, network, mut state) = start();
    let mut all = Vec::new();
    for _ in 0..21 {
        let due = Instant::now() + Duration::from_millis(3);
        let lateness = Rc::new(Cell::new(None));
        network.call_at(due, {
            let (lateness, done) = (lateness.clone(), done(&network.data()));
            move || {
                lateness.set(Instant::now().checked_duration_since(due));
                done();
            }
        });
        run(&mut event_loop, &mut state);
        all.push(lateness.get().expect("a timer was early"));
    }
    assert_on_time(all);
}

#[test]
fn a_timer_set_from_a_host_callback_is_on_time() {
    let (mut event_loop, network, mut state) = start();
    let mut all = Vec::new();
    for _ in 0..21 {
        let lateness = Rc::new(Cell::new(Duration::MAX));
        let (handle, late, done) = (network.handle(), lateness.clone(), done(&network.data()));
        let mut pieces = Some((late, done));
        let host = Timer::from_duration(Duration::from_millis(1));
        let set = move |_, _: &mut (), _: &mut State| {
            let due = Instant::now() + Duration::from_millis(2);
            let (late, done) = pieces.take().unwrap();
            handle.call_at(due, move || {
                late.set(due.elapsed());
                done();
            });
            TimeoutAction::Drop
        };
        event_loop.handle().insert_source(host, set).unwrap();
        run(&mut event_loop, &mut state);
        all.push(lateness.get());
    }
    assert_on_time(all);
}

#[test]
fn a_timer_reset_to_earlier_from_a_host_callback_is_on_time() {
    let (mut event_loop, network, mut state) = start();
    let mut all = Vec::new();
    for _ in 0..21 {
        let (due, lateness) = (
            Rc::new(Cell::new(Instant::now())),
            Rc::new(Cell::new(Duration::MAX)),
        );
        let timer = network.call_later(Duration::from_secs(3600), {
            let (due, late, done) = (due.clone(), lateness.clone(), done(&network.data()));
            move || {
                late.set(due.get().elapsed());
                done();
            }
        });
        let host = Timer::from_duration(Duration::from_millis(1));
        let reset = move |_, _: &mut (), _: &mut State| {
            due.set(Instant::now() + Duration::from_millis(2));
            timer.reset(Duration::from_millis(2)).unwrap();
            TimeoutAction::Drop
        };
        event_loop.handle().insert_source(host, reset).unwrap();
        run(&mut event_loop, &mut state);
        all.push(lateness.get());
    }
    assert_on_time(all);
}

#[test]
fn a_call_from_another_thread_wakes_a_sleeping_loop() {
    let (mut event_loop, network, mut state) = start();
    let remote = network.remote();
    let (asleep, woken) = std::sync::mpsc::channel();
    let poster = thread::spawn(move || {
        for answer in [42, 43] {
            woken.recv().unwrap();
            assert_eq!(remote.call(move |_| answer), Ok(answer));
        }
        remote.post(|handle| handle.stop()).unwrap();
    });
    for _ in 0..2 {
        // The loop is about to sleep, and only the other thread can wake it.
        asleep.send(()).unwrap();
        event_loop.dispatch(None, &mut state).unwrap();
    }
    while network.is_running() {
        event_loop.dispatch(None, &mut state).unwrap();
    }
    poster.join().unwrap();
}

#[test]
fn a_burst_from_eight_threads_is_served_once_each() {
    let (mut event_loop, network, mut state) = start();
    const EACH: u32 = 12_500;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let remote = network.remote();
            thread::spawn(move || {
                for _ in 0..EACH {
                    remote.post(|_| COUNT.set(COUNT.get() + 1)).unwrap();
                }
            })
        })
        .collect();
    thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
    while COUNT.get() < 8 * EACH {
        event_loop
            .dispatch(Duration::from_secs(20), &mut state)
            .unwrap();
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    assert_eq!(COUNT.get(), 8 * EACH);
}

#[test]
fn the_data_is_within_reach_of_every_kind_of_callback() {
    let (mut event_loop, network, mut state) = start();
    let (handle, data) = (network.handle(), network.data());
    assert_eq!(
        data.try_with(|_| ()),
        Err(NotLent::Nothing),
        "before a dispatch"
    );
    handle.call_soon({
        let data = data.clone();
        move || data.with(|state| state.log.push("call"))
    });
    handle.spawn({
        let (handle, data) = (handle.clone(), data.clone());
        async move {
            data.with(|state| state.log.push("task"));
            handle.sleep(Duration::from_millis(2)).await;
            data.with(|state| state.log.push("task again"));
        }
    });
    handle.call_later(Duration::from_millis(50), {
        let data = data.clone();
        move || {
            data.with(|state| {
                assert_eq!(
                    data.try_with(|_| ()),
                    Err(NotLent::Borrowed),
                    "inside itself"
                );
                state.log.push("timer");
                state.done = true;
            });
        }
    });
    run(&mut event_loop, &mut state);
    assert_eq!(state.log, ["task", "call", "task again", "timer"]);
    assert_eq!(
        data.try_with(|_| ()),
        Err(NotLent::Nothing),
        "after a dispatch"
    );
}

#[test]
fn work_of_host_callbacks_and_between_dispatches_is_served_at_once() {
    let (mut event_loop, network, mut state) = start();
    // The first dispatch leaves nothing over for the second.
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();

    network.call_soon(done(&network.data()));
    event_loop.dispatch(None, &mut state).unwrap();
    assert!(state.done, "queued between two dispatches");

    state.done = false;
    let (handle, data) = (network.handle(), network.data());
    event_loop
        .handle()
        .insert_idle(move |_| handle.call_soon(done(&data)));
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    event_loop.dispatch(None, &mut state).unwrap();
    assert!(state.done, "queued by an idle callback");

    state.done = false;
    let (ping, source) = make_ping().unwrap();
    let (handle, data) = (network.handle(), network.data());
    event_loop
        .handle()
        .insert_source(source, move |(), _, _| handle.call_soon(done(&data)))
        .unwrap();
    ping.ping();
    event_loop.dispatch(None, &mut state).unwrap();
    event_loop.dispatch(None, &mut state).unwrap();
    assert!(state.done, "queued by a source's callback");
}

/// A loop that sleeps until the fd of `inner` is readable, and then lets it dispatch. The data of
/// the loop is that of the inner one.
fn around(mut inner: EventLoop<'static, State>) -> EventLoop<'static, State> {
    let outer = EventLoop::try_new().unwrap();
    let fd = inner.as_fd().try_clone_to_owned().unwrap();
    let fd = Generic::new(fd, Interest::READ, Mode::Level);
    let serve = move |_, _: &mut _, state: &mut State| {
        inner.dispatch(Duration::ZERO, state).unwrap();
        Ok(PostAction::Continue)
    };
    outer.handle().insert_source(fd, serve).unwrap();
    outer
}

#[test]
fn a_loop_that_is_watched_by_its_fd_wakes_the_other_for_queued_work() {
    let (mut event_loop, network, mut state) = start();
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    let mut outer = around(event_loop);

    let start = Instant::now();
    network.call_soon(done(&network.data()));
    run(&mut outer, &mut state);

    // The rest of a slice.
    let (handle, data) = (network.handle(), network.data());
    network.call_soon(move || {
        handle.call_soon(done(&data));
        thread::sleep(Duration::from_millis(3));
    });
    run(&mut outer, &mut state);

    // What a wait in a callback of the other loop leaves.
    let (handle, data) = (network.handle(), network.data());
    outer.handle().insert_idle(move |_| {
        handle.call_soon(|| thread::sleep(Duration::from_millis(3)));
        handle.call_soon(done(&data));
        handle.wait(async {}).unwrap();
    });
    outer.dispatch(Duration::ZERO, &mut state).unwrap();
    run(&mut outer, &mut state);
    assert!(start.elapsed() < Duration::from_secs(10));

    // And it sleeps when all is done.
    outer.dispatch(Duration::ZERO, &mut state).unwrap();
    let (start, nap) = (Instant::now(), Duration::from_millis(100));
    outer.dispatch(nap, &mut state).unwrap();
    assert!(start.elapsed() >= nap);
}

/// A source of the host that runs code when the loop is about to sleep.
struct BeforeSleep<F: FnMut()>(F);

impl<F: FnMut()> EventSource for BeforeSleep<F> {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<C>(&mut self, _: Readiness, _: Token, _: C) -> io::Result<PostAction>
    where
        C: FnMut((), &mut ()),
    {
        Ok(PostAction::Continue)
    }

    fn register(&mut self, _: &mut Poll, _: &mut TokenFactory) -> calloop::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &mut Poll, _: &mut TokenFactory) -> calloop::Result<()> {
        Ok(())
    }

    fn unregister(&mut self, _: &mut Poll) -> calloop::Result<()> {
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        (self.0)();
        Ok(None)
    }
}

#[test]
fn work_that_a_later_source_queues_before_the_loop_sleeps_is_served_at_once() {
    let (mut event_loop, network, mut state) = start();
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    let (handle, mut call) = (network.handle(), Some(done(&network.data())));
    let source = BeforeSleep(move || {
        if let Some(call) = call.take() {
            handle.call_soon(call);
        }
    });
    event_loop
        .handle()
        .insert_source(source, |(), _, _| ())
        .unwrap();
    let start = Instant::now();
    run(&mut event_loop, &mut state);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_idle_loop_sleeps() {
    let (mut event_loop, network, mut state) = start();
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    let turns = network.metrics().turns;
    let (start, nap) = (Instant::now(), Duration::from_millis(300));
    event_loop.dispatch(nap, &mut state).unwrap();
    assert!(
        start.elapsed() >= nap,
        "one dispatch ended after {:?}",
        start.elapsed()
    );
    assert_eq!(network.metrics().turns, turns);
}

#[test]
fn a_panic_ends_its_callback_and_nothing_else() {
    let (mut event_loop, network, mut state) = start();
    let reports = Rc::new(RefCell::new(Vec::new()));
    let _observer = network.observe({
        let reports = reports.clone();
        move |report| {
            if let Report::Panic { message, .. } = report {
                reports.borrow_mut().push(message.to_string());
            }
        }
    });
    let data = network.data();
    network.call_soon(move || data.with(|_| -> () { panic!("while it had the data") }));
    network.call_soon(|| panic!("in a call"));
    network.spawn(async { panic!("in a task") });
    network.call_soon(done(&network.data()));
    run(&mut event_loop, &mut state);
    assert_eq!(
        *reports.borrow(),
        ["in a task", "while it had the data", "in a call"]
    );
}

#[test]
fn an_always_busy_host_and_an_always_busy_reactor_share() {
    let (mut event_loop, network, mut state) = start();
    let (ping, source) = make_ping().unwrap();
    let again = ping.clone();
    event_loop
        .handle()
        .insert_source(source, move |(), _, state| {
            state.host += 1;
            again.ping();
        })
        .unwrap();
    ping.ping();

    fn ask_again(handle: entwined::Handle, data: Lent<State>) {
        data.with(|state| state.network += 1);
        handle.clone().call_soon(move || ask_again(handle, data));
    }
    network.call_soon({
        let (handle, data) = (network.handle(), network.data());
        move || ask_again(handle, data)
    });

    let start = Instant::now();
    for _ in 0..50 {
        event_loop.dispatch(None, &mut state).unwrap();
    }
    let each = start.elapsed() / 50;
    assert!(
        state.host >= 49,
        "the host had {} of 50 dispatches",
        state.host
    );
    assert!(
        state.network >= 50,
        "the network had {} calls in 50 dispatches",
        state.network
    );
    // One slice of 2 ms each, with a wide margin for a machine that is busy with other work.
    assert!(each < Duration::from_millis(20), "a dispatch took {each:?}");
}

#[test]
fn a_run_ends_in_order_and_the_next_begins_with_enable() {
    let (mut event_loop, network, mut state) = start();
    let (handle, data, token) = (network.handle(), network.data(), network.token());
    for round in 0..3 {
        assert!(handle.is_running(), "round {round}");
        for (phase, name) in [
            (Phase::After, "after"),
            (Phase::Before, "before"),
            (Phase::During, "during"),
        ] {
            let (handle, data) = (handle.clone(), data.clone());
            handle
                .clone()
                .on_shutdown(phase, move || async move {
                    handle.sleep(Duration::from_millis(1)).await;
                    data.with(|state| state.log.push(name));
                    Ok(())
                })
                .keep();
        }
        handle.call_soon({
            let handle = handle.clone();
            move || handle.stop()
        });
        while handle.is_running() {
            event_loop
                .dispatch(Duration::from_secs(20), &mut state)
                .unwrap();
        }
        assert_eq!(state.log, ["before", "during", "after"]);
        state.log.clear();
        assert_eq!(handle.try_stop(), Err(LifeError::NotRunning));

        // Work queued now waits for the next run, and does not keep the loop awake until then.
        handle.call_soon(done(&data));
        let nap = Duration::from_millis(30);
        let start = Instant::now();
        event_loop.dispatch(nap, &mut state).unwrap();
        assert!(start.elapsed() >= nap && !state.done);
        event_loop.handle().enable(&token).unwrap();
        run(&mut event_loop, &mut state);
    }
}

#[test]
fn a_run_that_ended_outside_of_a_slice_is_over_for_the_loop_too() {
    let (mut event_loop, network, mut state) = start();
    let (handle, token) = (network.handle(), network.token());
    // The host's own code waits for something that never happens, because the run ends.
    handle.call_soon({
        let handle = handle.clone();
        move || handle.stop()
    });
    handle.wait(std::future::pending::<()>()).unwrap_err();
    assert!(!handle.is_running());
    let nap = Duration::from_millis(30);
    let start = Instant::now();
    event_loop.dispatch(nap, &mut state).unwrap();
    event_loop.dispatch(nap, &mut state).unwrap();
    assert!(start.elapsed() >= nap, "the loop no longer sleeps");
    event_loop.handle().enable(&token).unwrap();
    assert!(handle.is_running());
}

#[test]
fn the_next_run_begins_with_enable_before_the_loop_has_seen_the_end_of_the_last() {
    let (mut event_loop, network, mut state) = start();
    network.call_soon({
        let handle = network.handle();
        move || handle.stop()
    });
    network.wait(std::future::pending::<()>()).unwrap_err();
    assert!(!network.is_running());
    event_loop.handle().enable(&network.token()).unwrap();
    network.call_soon(done(&network.data()));
    run(&mut event_loop, &mut state);
    // The loop knows the source once.
    event_loop.handle().disable(&network.token()).unwrap();
    network.call_soon(done(&network.data()));
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    assert!(!state.done);
}

/// Calls a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn what_a_detached_reactor_drops_may_use_the_loop() {
    let (mut event_loop, network, mut state) = start();
    let other = entwined_calloop::attach(&event_loop.handle()).unwrap();
    let dropped = Rc::new(Cell::new(false));
    network.spawn({
        let (loop_handle, dropped) = (event_loop.handle(), dropped.clone());
        let mut other = Some(other);
        let guard = OnDrop(move || {
            other.take();
            loop_handle
                .insert_source(Timer::immediate(), |_, _, state| {
                    state.done = true;
                    TimeoutAction::Drop
                })
                .unwrap();
            dropped.set(true);
        });
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    });
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();
    network.detach();
    assert!(dropped.get());
    run(&mut event_loop, &mut state);
}

#[test]
fn a_reactor_that_is_detached_in_its_own_callback_is_gone_at_once() {
    let (mut event_loop, network, mut state) = start();
    let (handle, data) = (network.handle(), network.data());
    let attached = Rc::new(RefCell::new(None));
    network.call_soon({
        let (handle, attached) = (handle.clone(), attached.clone());
        move || {
            drop(attached.take().expect("attached"));
            assert!(!handle.is_running());
            data.with(|state| state.done = true);
        }
    });
    network.call_soon(|| unreachable!("after the reactor was detached"));
    attached.replace(Some(network));
    run(&mut event_loop, &mut state);
    assert!(!handle.is_running());
}

#[test]
fn disable_pauses_and_remove_ends_at_once() {
    let (mut event_loop, network, mut state) = start();
    let (handle, data, token) = (network.handle(), network.data(), network.token());
    event_loop.handle().disable(&token).unwrap();
    handle.call_soon(done(&data));
    event_loop
        .dispatch(Duration::from_millis(10), &mut state)
        .unwrap();
    assert!(!state.done, "it was served while disabled");
    event_loop.handle().enable(&token).unwrap();
    run(&mut event_loop, &mut state);

    let dropped = Rc::new(());
    handle.call_later(Duration::from_secs(60), {
        let dropped = dropped.clone();
        move || drop(dropped)
    });
    event_loop.handle().remove(token);
    assert_eq!(Rc::strong_count(&dropped), 1);
    assert!(handle.remote().post(|_| unreachable!()).is_err());
    assert_eq!(handle.try_stop(), Err(LifeError::Closed));
    event_loop.dispatch(Duration::ZERO, &mut state).unwrap();

    // The loop can take another reactor, or two.
    let networks = [(), ()].map(|()| entwined_calloop::attach(&event_loop.handle()).unwrap());
    for network in &networks {
        network.call_soon(done(&network.data()));
        run(&mut event_loop, &mut state);
    }
}

#[test]
fn it_can_be_removed_and_inserted_from_its_own_callback() {
    let (mut event_loop, network, mut state) = start();
    let loop_handle = event_loop.handle();
    let (handle, token) = (network.handle(), network.token());
    handle.call_soon(move || {
        loop_handle.remove(token);
        let network = entwined_calloop::attach(&loop_handle).unwrap();
        network.call_soon(done(&network.data()));
        network.keep();
    });
    run(&mut event_loop, &mut state);
    assert!(!handle.is_running());
}

#[test]
fn a_wait_inside_a_host_callback_serves_the_network() {
    let (mut event_loop, network, mut state) = start();
    let (handle, data) = (network.handle(), network.data());
    handle.call_later(Duration::from_millis(2), {
        let data = data.clone();
        move || data.with(|state| state.log.push("timer"))
    });
    let host = Timer::immediate();
    let wait = move |_, _: &mut (), state: &mut State| {
        let sleep = handle.sleep(Duration::from_millis(5));
        data.lend(state, || handle.wait(sleep)).unwrap();
        state.done = true;
        TimeoutAction::Drop
    };
    event_loop.handle().insert_source(host, wait).unwrap();
    run(&mut event_loop, &mut state);
    assert_eq!(state.log, ["timer"]);
}

#[test]
fn a_part_of_the_data_can_be_lent_with_a_budget_of_ones_own() {
    let mut event_loop = EventLoop::<State>::try_new().unwrap();
    let source = ReactorSource::new().unwrap();
    let (handle, log) = (source.handle(), Lent::new());
    let lender = log.clone();
    event_loop
        .handle()
        .insert_source(source, move |slice, _, state| {
            lender.lend(&mut state.log, || slice.run_for(Duration::ZERO))
        })
        .unwrap();
    for name in ["one", "two", "three"] {
        let log = log.clone();
        handle.call_soon(move || log.with(|log| log.push(name)));
    }
    let mut state = State::default();
    for count in 1..=3 {
        event_loop.dispatch(None, &mut state).unwrap();
        assert_eq!(state.log.len(), count, "a zero budget runs one callback");
    }
    assert_eq!(state.log, ["one", "two", "three"]);
}

#[test]
fn tcp_echo() {
    let (mut event_loop, network, mut state) = start();
    let listener = tcp::listen(&network, "127.0.0.1:0").unwrap();
    let address = listener.local_address().tcp().unwrap();
    let (handle, data) = (network.handle(), network.data());
    network.spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            let data = data.clone();
            handle.spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = read(&mut stream, &mut buffer).await {
                    write_all(&mut stream, &buffer[..length]).await.unwrap();
                    data.with(|state| state.network += length as u32);
                }
            });
        }
    });
    let remote = network.remote();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        for length in [1, 1000, 100_000] {
            let sent = vec![7; length];
            let mut received = vec![0; length];
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || writer.write_all(&sent).unwrap());
            stream.read_exact(&mut received).unwrap();
            writing.join().unwrap();
            assert!(received.iter().all(|&byte| byte == 7));
        }
        drop(stream);
        remote.post(|handle| handle.stop()).unwrap();
    });
    while network.is_running() {
        event_loop
            .dispatch(Duration::from_secs(20), &mut state)
            .unwrap();
    }
    client.join().unwrap();
    assert_eq!(state.network, 101_001);
}

async fn read(stream: &mut entwined::transport::Stream, buffer: &mut [u8]) -> io::Result<usize> {
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buffer)).await
}

async fn write_all(stream: &mut entwined::transport::Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written =
            std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        bytes = &bytes[written..];
    }
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}
